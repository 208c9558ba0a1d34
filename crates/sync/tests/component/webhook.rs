//! Receivers: a push is applied because the Git server called, and nobody else's call does anything.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use aws_lc_rs::hmac;
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use plumbline_sync::api::Receiver;
use plumbline_testkit::wait_for;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::bench::{APP, Bench, LIMIT, Syncer};

const TOKEN: &str = "correct horse battery staple";

/// A syncer that serves Receivers, and where.
pub(crate) fn serving(bench: &Bench, arguments: &[&str]) -> anyhow::Result<(Syncer, u16, u16)> {
    let free = || anyhow::Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port());
    let (hooks, metrics) = (free()?, free()?);
    let mut all = vec![
        format!("--receiver-addr=127.0.0.1:{hooks}"),
        format!("--metrics-addr=127.0.0.1:{metrics}"),
    ];
    all.extend(arguments.iter().map(|argument| (*argument).to_owned()));
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Ok((bench.start(&all)?, hooks, metrics))
}

fn receivers(bench: &Bench) -> Api<Receiver> {
    Api::namespaced(bench.world.client(), bench.namespace())
}

async fn receiver(bench: &Bench, name: &str, spec: Value) -> anyhow::Result<()> {
    let mut whole = json!({
        "type": "github", "secretRef": { "name": "token" }, "resources": [{ "kind": "GitRepository", "name": APP }],
    });
    if let (Some(whole), Value::Object(spec)) = (whole.as_object_mut(), spec) {
        whole.extend(spec);
    }
    let object = json!({
        "apiVersion": "notification.toolkit.fluxcd.io/v1", "kind": "Receiver", "metadata": { "name": name }, "spec": whole,
    });
    receivers(bench)
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

pub(crate) fn token(bench: &Bench, token: &str) -> anyhow::Result<()> {
    let object = json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "token" }, "stringData": { "token": token } });
    bench
        .world
        .kubectl_with(&["apply", "-f", "-"], &object.to_string())?;
    Ok(())
}

/// Waits until Ready of the Receiver is so; returns the message, and the path.
async fn until(bench: &Bench, name: &str, value: &str) -> anyhow::Result<(String, String)> {
    wait_for(&format!("Receiver {name} {value}"), LIMIT, async || {
        let found = receivers(bench)
            .get(name)
            .await
            .map_err(|error| error.to_string())?;
        let status = found.status.unwrap_or_default();
        let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
        match ready {
            Some(ready) if ready.status == value => {
                Ok((ready.message.clone(), status.webhook_path.unwrap_or_default()))
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

fn signed(token: &str, body: &[u8]) -> String {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()), body);
    let hex = tag
        .as_ref()
        .iter()
        .fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    format!("sha256={hex}")
}

/// Status and text of the answer to a POST.
async fn post(port: u16, path: &str, headers: &[(&str, &str)], body: &[u8]) -> anyhow::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let mut head = format!(
        "POST {path} HTTP/1.1\r\nHost: hooks\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.extend([name, ": ", value, "\r\n"]);
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await?;
    // A server that refuses need not read everything.
    stream.write_all(body).await.ok();
    let mut answer = String::new();
    tokio::time::timeout(LIMIT, stream.read_to_string(&mut answer)).await??;
    let code = answer.split(' ').nth(1).context("no status")?.parse()?;
    let text = answer.split_once("\r\n\r\n").map(|(_, text)| text.to_owned());
    Ok((code, text.unwrap_or_default()))
}

async fn push(port: u16, path: &str, body: &[u8]) -> anyhow::Result<(u16, String)> {
    let signature = signed(TOKEN, body);
    post(
        port,
        path,
        &[("X-GitHub-Event", "push"), ("X-Hub-Signature-256", &signature)],
        body,
    )
    .await
}

pub(crate) async fn scrape(port: u16) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: metrics\r\nConnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

#[tokio::test]
async fn a_push_is_applied_when_the_git_server_calls() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    token(&bench, TOKEN)?;
    receiver(&bench, "push", json!({ "events": ["ping", "push"] })).await?;
    let (_syncer, port, metrics) = serving(&bench, &[])?;
    bench.applied(&first).await?;
    let (message, path) = until(&bench, "push", "True").await?;
    assert_eq!(message, format!("Receiver initialized for path: {path}"));

    // The source's own interval is an hour.
    let mut took = Vec::new();
    for round in ["2", "3", "4"] {
        // Calls of one Receiver are a second apart, or the later one waits.
        tokio::time::sleep(Duration::from_millis(1100)).await;
        bench.write_config_map("a", round)?;
        bench.commit()?;
        let begun = Instant::now();
        let (code, text) = push(port, &path, b"{\"ref\":\"refs/heads/main\"}").await?;
        assert_eq!((code, text.as_str()), (200, "is looked at\n"));
        bench.until_value("a", Some(round)).await?;
        took.push(begun.elapsed());
    }
    println!("push to applied: {took:?}");
    // The goal is a second; a busy machine gets five.
    assert!(took.iter().all(|took| *took < Duration::from_secs(5)), "{took:?}");

    // Two pushes in a row: the second call is passed on too, a little later.
    bench.write_config_map("a", "5")?;
    bench.commit()?;
    let (one, _) = push(port, &path, b"{}").await?;
    bench.write_config_map("a", "6")?;
    bench.commit()?;
    let (two, _) = push(port, &path, b"{}").await?;
    assert_eq!((one, two), (200, 200));
    bench.until_value("a", Some("6")).await?;

    // An event that does not count is no push.
    let body = b"{}";
    let signature = signed(TOKEN, body);
    let headers = [
        ("X-GitHub-Event", "star"),
        ("X-Hub-Signature-256", signature.as_str()),
    ];
    let (code, text) = post(port, &path, &headers, body).await?;
    assert!(code == 200 && text.contains("nothing is done"), "{code} {text}");

    let text = scrape(metrics).await?;
    assert!(
        text.contains("plumbline_sync_webhook_requests_total{outcome=\"triggered\"}"),
        "{text}"
    );
    assert!(
        text.contains("plumbline_sync_webhook_requests_total{outcome=\"ignored\"} 1"),
        "{text}"
    );
    Ok(())
}

#[tokio::test]
async fn who_does_not_know_the_token_learns_and_does_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    token(&bench, TOKEN)?;
    receiver(&bench, "push", json!({})).await?;
    receiver(&bench, "off", json!({ "suspend": true })).await?;
    let (mut syncer, port, _) = serving(&bench, &[])?;
    bench.applied(&first).await?;
    let (_, path) = until(&bench, "push", "True").await?;
    let (_, off) = until(&bench, "off", "True").await?;
    let asked = bench.sources().get(APP).await?.metadata.annotations;

    let body = br#"{"ref":"refs/heads/main"}"#;
    let wrong = signed("another token", body);
    let other = signed(TOKEN, b"{}");
    let unknown = format!("/hook/{}", "0".repeat(64));
    let event = ("X-GitHub-Event", "push");
    let nothing_known = post(port, &unknown, &[event, ("X-Hub-Signature-256", &wrong)], body).await?;
    for (path, headers) in [
        (&path, vec![event]),
        (&path, vec![event, ("X-Hub-Signature-256", &*wrong)]),
        (&path, vec![event, ("X-Hub-Signature-256", &*other)]),
        (&path, vec![event, ("X-Hub-Signature-256", &wrong[..20])]),
        (&path, vec![event, ("X-Hub-Signature-256", "sha256=")]),
        (&path, vec![event, ("X-Gitlab-Token", TOKEN)]),
        (&off, vec![event, ("X-Hub-Signature-256", &*wrong)]),
        (&"/".to_owned(), vec![event]),
        (&"/hook/".to_owned(), vec![event]),
    ] {
        let answer = post(port, path, &headers, body).await?;
        // The same as for a path that does not exist.
        assert_eq!(answer, nothing_known, "{path} {headers:?}");
    }
    assert_eq!(nothing_known.0, 404);
    let signature = signed(TOKEN, body);
    let (code, _) = post(port, &off, &[event, ("X-Hub-Signature-256", &signature)], body).await?;
    assert_eq!(code, 503, "suspended");
    bench
        .event("Receiver", "RequestRefused", "without a valid signature")
        .await?;

    // Bodies without end, and callers that say nothing, take neither memory nor the door.
    let before = syncer.peak_memory()?;
    let silent: Vec<_> = {
        let mut silent = Vec::new();
        for _ in 0..64 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream.write_all(b"POST /hook/x HTTP/1.1\r\nHost: x\r\n").await?;
            silent.push(stream);
        }
        silent
    };
    let large = vec![b' '; 26 << 20];
    let (code, _) = post(
        port,
        &path,
        &[event, ("X-Hub-Signature-256", &signed(TOKEN, &large))],
        &large,
    )
    .await?;
    assert_eq!(code, 413);
    let grown = syncer.peak_memory()? - before;
    assert!(grown < 12, "{grown} MiB more for a body of 26 MiB");
    drop(silent);
    assert!(syncer.runs());
    assert_eq!(
        bench.sources().get(APP).await?.metadata.annotations,
        asked,
        "nothing was triggered"
    );

    let (code, _) = push(port, &path, body).await?;
    assert_eq!(code, 200, "the right one still is");
    let log = syncer.log();
    assert!(
        !log.contains(TOKEN) && !log.contains(&signature[10..]),
        "no secret is logged"
    );
    Ok(())
}

#[tokio::test]
async fn receivers_that_cannot_be_served_say_why_and_follow_their_secret() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.commit()?;
    bench.source(json!({})).await?;
    receiver(&bench, "images", json!({ "type": "dockerhub" })).await?;
    receiver(
        &bench,
        "elsewhere",
        json!({ "resources": [{ "kind": "GitRepository", "name": "x", "namespace": "default" }] }),
    )
    .await?;
    receiver(
        &bench,
        "generic",
        json!({ "type": "generic", "interval": "10s", "resources": [
        { "kind": "GitRepository", "name": "*", "matchLabels": { "team": "a" } } ] }),
    )
    .await?;
    let (_syncer, port, _) = serving(&bench, &[])?;
    let (message, path) = until(&bench, "images", "False").await?;
    assert!(
        message.contains("spec.type \"dockerhub\" is not served") && path.is_empty(),
        "{message}"
    );
    let (message, _) = until(&bench, "elsewhere", "False").await?;
    assert!(message.contains("--no-cross-namespace-refs=false"), "{message}");
    let (message, _) = until(&bench, "generic", "False").await?;
    assert!(
        message.contains("the Secret \"token\" of spec.secretRef does not exist"),
        "{message}"
    );

    token(&bench, "one")?;
    let (_, path) = until(&bench, "generic", "True").await?;
    let labels = json!({ "metadata": { "labels": { "team": "a" } } });
    bench
        .sources()
        .patch(APP, &PatchParams::default(), &Patch::Merge(&labels))
        .await?;
    let (code, _) = post(port, &path, &[], b"").await?;
    assert_eq!(code, 200);
    wait_for("the source to be asked", LIMIT, async || {
        let found = bench
            .sources()
            .get(APP)
            .await
            .map_err(|error| error.to_string())?;
        let annotations = found.metadata.annotations.unwrap_or_default();
        annotations
            .get("reconcile.fluxcd.io/requestedAt")
            .map(|_| ())
            .ok_or_else(|| format!("{annotations:?}"))
    })
    .await?;

    // Another token is another path, and the old one is nobody's.
    token(&bench, "two")?;
    let moved = wait_for("another path", LIMIT, async || {
        let found = receivers(&bench)
            .get("generic")
            .await
            .map_err(|error| error.to_string())?;
        let now = found.status.unwrap_or_default().webhook_path.unwrap_or_default();
        if now.is_empty() || now == path {
            Err(now)
        } else {
            Ok(now)
        }
    })
    .await?;
    assert_eq!(post(port, &path, &[], b"").await?.0, 404);
    assert_eq!(post(port, &moved, &[], b"").await?.0, 200);

    receivers(&bench)
        .delete("generic", &DeleteParams::default())
        .await?;
    wait_for("the path to be nobody's", LIMIT, async || {
        match post(port, &moved, &[], b"").await {
            Ok((404, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    Ok(())
}
