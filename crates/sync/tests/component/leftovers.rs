//! What a process that was killed leaves behind.

use std::{
    fs,
    net::TcpListener,
    path::{Path, PathBuf},
    slice::from_ref,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, api::PostParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{Bench, LIMIT};

/// The private keys on disk.
fn keys(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let keys = entries.map(|entry| entry.path().join("identity"));
    keys.filter(|key| key.exists()).collect()
}

async fn key(directory: &Path, except: &[PathBuf]) -> anyhow::Result<PathBuf> {
    wait_for("a key on disk", LIMIT, async || {
        let found = keys(directory).into_iter().find(|key| !except.contains(key));
        found.ok_or_else(|| "there is none".to_owned())
    })
    .await
}

#[tokio::test]
async fn the_private_key_of_a_killed_fetch_goes_with_the_next_start() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let directory = bench.world.dir().join("tmp");
    // An ssh server that takes connections and says nothing.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    let connected = Arc::new(AtomicBool::new(false));
    let is_connected = Arc::clone(&connected);
    thread::spawn(move || {
        let taken: Vec<_> = listener
            .incoming()
            .flatten()
            .inspect(|_| connected.store(true, Ordering::Relaxed))
            .collect();
        drop(taken);
    });
    let secret = json!({
        "metadata": { "name": "ssh" },
        "stringData": { "identity": "PRIVATE KEY", "known_hosts": "x ssh-ed25519 AAAA" },
    });
    let secrets: Api<Secret> = Api::namespaced(bench.world.client(), bench.namespace());
    secrets
        .create(&PostParams::default(), &serde_json::from_value(secret)?)
        .await?;
    let url = format!("ssh://git@127.0.0.1:{port}/repository.git");
    bench
        .source(json!({ "url": url, "secretRef": { "name": "ssh" }, "timeout": "10m" }))
        .await?;
    let mut first = bench.start(&[])?;
    let left = key(&directory, &[]).await?;
    // ssh is on its way: it is not in the middle of being started.
    wait_for("a connection", LIMIT, async || {
        if is_connected.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err("nobody has come")
        }
    })
    .await?;
    first.kill();
    assert!(left.exists(), "this is what it is about");

    // Another one clears up, and itself leaves alone what is in use.
    let _second = bench.start_named("syncer-1", &[])?;
    let used = key(&directory, from_ref(&left)).await?;
    assert!(!left.exists());
    let _third = bench.start_named("syncer-2", &[])?;
    let other = key(&directory, from_ref(&used)).await?;
    assert!(used.exists() && other.exists());
    Ok(())
}
