//! Alerts and notifications arrive at a real HTTP server, even one that fails at first.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
};

use serde_json::{Value, json};

use crate::{
    harness::{AUTO, Bench, LIMIT, workload},
    process::Start,
};

/// What was posted: the content type and the body.
pub(crate) type Posted = (String, String);

// Answers 500 once, then 200, and passes on what is posted.
pub(crate) fn webhook() -> anyhow::Result<(String, mpsc::Receiver<Posted>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let (sender, posted) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(&stream);
            let (mut length, mut kind) = (0, String::new());
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                let line = line.to_ascii_lowercase();
                if let Some(value) = line.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
                }
                if let Some(value) = line.strip_prefix("content-type:") {
                    value.trim().clone_into(&mut kind);
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).ok();
            let status = if number == 0 {
                "500 Internal Server Error"
            } else {
                "200 OK"
            };
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            )
            .ok();
            // Nobody listens any more when the test is done.
            if sender
                .send((kind, String::from_utf8_lossy(&body).into_owned()))
                .is_err()
            {
                return;
            }
        }
    });
    Ok((address, posted))
}

/// Waits for the next one.
pub(crate) async fn next(posted: mpsc::Receiver<Posted>) -> anyhow::Result<(Posted, mpsc::Receiver<Posted>)> {
    tokio::task::spawn_blocking(move || {
        let next = posted.recv_timeout(LIMIT)?;
        Ok((next, posted))
    })
    .await?
}

#[tokio::test]
async fn an_alert_is_sent_in_the_form_of_its_sink_until_it_arrives() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (address, mut posted) = webhook()?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let namespace = bench.world.namespace().to_owned();
    let text = format!(
        "prod : Reloader detected changes in *app* of type *CONFIGMAP* in namespace *{namespace}*. \
         Hence reloaded *web* of type *Deployment* in namespace *{namespace}*"
    );
    let slack = json!({"attachments": [{"text": text, "color": "good", "author_name": "Reloader"}]});
    let teams = json!({"@type": "MessageCard", "@context": "http://schema.org/extensions",
        "themeColor": "4CAF50", "text": text});
    let sinks = [
        ("gchat", json!({ "text": text })),
        ("slack", slack),
        ("teams", teams),
        ("other", Value::from(text.replace('*', ""))),
    ];
    for (round, (sink, expected)) in sinks.into_iter().enumerate() {
        let start = Start {
            variables: vec![
                ("ALERT_ON_RELOAD", "true"),
                ("ALERT_SINK", sink),
                ("ALERT_WEBHOOK_URL", &address),
                ("ALERT_ADDITIONAL_INFO", "prod"),
            ],
            ..Start::default()
        };
        let reloader = bench.ready(bench.spawn(&start, &["--debounce=0s"])?).await?;
        bench.adopted("Deployment", "web", &["cm/app"]).await?;
        bench.set("ConfigMap", "app", &format!("changed {round}")).await?;
        let ((kind, body), rest) = next(posted).await?;
        posted = rest;
        if sink == "other" {
            assert_eq!((kind.as_str(), Value::from(body)), ("text/plain", expected));
        } else {
            assert_eq!(kind, "application/json");
            assert_eq!(serde_json::from_str::<Value>(&body)?, expected, "{sink}");
        }
        if round == 0 {
            // The first was answered with an error.
            let ((_, again), rest) = next(posted).await?;
            posted = rest;
            assert_eq!(again, body_of(&text));
        }
        assert!(
            !reloader.log().contains("/hook"),
            "the address is a secret: {}",
            reloader.log()
        );
    }
    let info = bench.get("ConfigMap", "reloader-meta-info").await?;
    assert_eq!(
        info["metadata"]["labels"]["reloader.stakater.com/meta-info"],
        "reloader"
    );
    for key in ["buildInfo", "reloaderOptions", "deploymentInfo"] {
        let text = info["data"][key].as_str().unwrap_or_default();
        serde_json::from_str::<Value>(text)?;
    }
    Ok(())
}

fn body_of(text: &str) -> String {
    json!({ "text": text }).to_string()
}
