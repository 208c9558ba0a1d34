//! Alerts arrive at a real HTTP server, even one that fails at first.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    sync::mpsc,
    time::Duration,
};

use crate::harness::{AUTO, Bench, workload};

// Answers 500 once, then 200, and passes bodies on.
pub(crate) fn webhook() -> anyhow::Result<(String, mpsc::Receiver<String>)> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = format!("http://{}/hook", listener.local_addr()?);
    let (sender, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().take(2).enumerate() {
            let Ok(mut stream) = stream else { return };
            let mut reader = BufReader::new(&stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
                    break;
                }
                if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap_or(0);
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
            sender.send(String::from_utf8_lossy(&body).into_owned()).ok();
        }
    });
    Ok((address, bodies))
}

#[tokio::test]
async fn an_alert_is_sent_until_it_arrives() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let (address, bodies) = webhook()?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let variables = [
        ("ALERT_ON_RELOAD", "true"),
        ("ALERT_SINK", "gchat"),
        ("ALERT_WEBHOOK_URL", address.as_str()),
    ];
    let reloader = bench.spawn_with(&bench.world.kubeconfig(), &variables, &["--debounce=0s"])?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let namespace = bench.world.namespace().to_owned();
    let received = tokio::task::spawn_blocking(move || {
        let limit = Duration::from_secs(30);
        (bodies.recv_timeout(limit), bodies.recv_timeout(limit))
    })
    .await?;
    let (first, second) = (received.0?, received.1?);
    let expected = format!(
        "Reloader detected changes in *app* of type *CONFIGMAP* in namespace *{namespace}*. \
         Hence reloaded *web* of type *Deployment* in namespace *{namespace}*"
    );
    assert_eq!(first, serde_json::json!({ "text": expected }).to_string());
    assert_eq!(second, first);
    assert!(
        !reloader.log().contains("/hook"),
        "the address is a secret: {}",
        reloader.log()
    );
    let info = bench.get("ConfigMap", "reloader-meta-info").await?;
    assert_eq!(
        info["metadata"]["labels"]["reloader.stakater.com/meta-info"],
        "reloader"
    );
    Ok(())
}
