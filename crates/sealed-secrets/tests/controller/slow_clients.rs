//! Clients that are slow, many, large, or send nonsense.

use std::time::{Duration, Instant};

use plumbline_sealed_secrets::crypto::{decode, encode, seal};
use plumbline_sealed_secrets::scope::Scope;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{PATIENCE, Place, http};

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_slow_or_send_nonsense_hold_up_nobody() {
    let place = Place::new().await;
    let unsealer = place.start(&["--read-timeout=1s"]).await;
    let mut slow = Vec::new();
    for _ in 0..50 {
        let mut stream = tokio::net::TcpStream::connect(&unsealer.address).await.unwrap();
        let head = "POST /v1/verify HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{";
        stream.write_all(head.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    let chunked = "POST /v1/verify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n";
    let mut stream = tokio::net::TcpStream::connect(&unsealer.address).await.unwrap();
    stream.write_all(chunked.as_bytes()).await.unwrap();
    let good = unsealer.seal("a", Scope::Strict, &[("k", "v")]).await;
    let begin = Instant::now();
    let answer = http(&unsealer.address, "POST", "/v1/verify", &good.to_string()).await;
    assert_eq!(answer.0, 200);
    assert!(begin.elapsed() < Duration::from_secs(5));
    // The slow ones are answered, and not with a success.
    for mut stream in slow {
        let mut answer = [0; 12];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        if read.unwrap().is_ok() {
            assert!(
                answer.starts_with(b"HTTP/1.1 4"),
                "{}",
                String::from_utf8_lossy(&answer)
            );
        }
    }
}

/// Reads until the other end closes; how long that took.
async fn until_closed(mut stream: tokio::net::TcpStream) -> Duration {
    let begin = Instant::now();
    let mut answer = Vec::new();
    // An error is an end, too.
    drop(
        tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer))
            .await
            .unwrap(),
    );
    begin.elapsed()
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_say_nothing_or_never_finish_their_head_are_closed() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let mut waiting = Vec::new();
    for head in [
        "",
        "GET /healthz HTT",
        "POST /v1/verify HTTP/1.1\r\nHost: x\r\nX-A: ",
    ] {
        let mut stream = tokio::net::TcpStream::connect(&unsealer.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        waiting.push(tokio::spawn(until_closed(stream)));
    }
    // A head without end is refused long before.
    let mut endless = tokio::net::TcpStream::connect(&unsealer.address).await.unwrap();
    let line = format!("X-A: {}\r\n", "a".repeat(1000));
    endless.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    for _ in 0..100 {
        if endless.write_all(line.as_bytes()).await.is_err() {
            break;
        }
    }
    assert!(until_closed(endless).await < Duration::from_secs(5));
    for closed in waiting {
        let took = closed.await.unwrap();
        assert!(
            took > Duration::from_secs(5) && took < Duration::from_secs(20),
            "{took:?}"
        );
    }
}

/// As many items as fit, and as many bytes as anybody likes to send: answered, with the controller at work meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn large_requests_are_bounded_and_hold_up_no_object() {
    let place = Place::new().await;
    let unsealer = place.start(&[]).await;
    let object = |items: Value| {
        json!({
            "apiVersion": "bitnami.com/v1alpha1", "kind": "SealedSecret",
            "metadata": {"name": "a", "namespace": place.namespace()}, "spec": {"encryptedData": items},
        })
        .to_string()
    };
    let many: serde_json::Map<String, Value> = (0..100_000).map(|n| (n.to_string(), json!("AA=="))).collect();
    let many = object(many.into());
    assert!(many.len() < 2 << 20);
    assert_eq!(
        http(&unsealer.address, "POST", "/v1/verify", &many).await,
        (409, String::new())
    );
    assert_eq!(
        http(&unsealer.address, "POST", "/v1/rotate", &many).await,
        (500, String::new())
    );
    assert_eq!(
        http(&unsealer.address, "POST", "/v1/verify", &"x".repeat(50 << 20))
            .await
            .0,
        400
    );

    // Each of these items costs an operation.
    let key = unsealer.certificate().await.public_key;
    let bytes = decode(&seal(&mut rand::rngs::SysRng, &key, b"other", b"v").unwrap()).unwrap();
    let costly: serde_json::Map<String, Value> = (0..3000)
        .map(|n| (n.to_string(), json!(encode(&bytes))))
        .collect();
    let costly = object(costly.into());
    let calls: Vec<_> = (0..4)
        .map(|_| {
            let (address, body) = (unsealer.address.clone(), costly.clone());
            tokio::spawn(async move { http(&address, "POST", "/v1/verify", &body).await.0 })
        })
        .collect();
    place
        .apply(unsealer.seal("b", Scope::Strict, &[("k", "v")]).await)
        .await;
    place.synced("b", "True").await;
    assert_eq!(http(&unsealer.address, "GET", "/healthz", "").await.0, 200);
    for call in calls {
        assert_eq!(call.await.unwrap(), 409);
    }
}
