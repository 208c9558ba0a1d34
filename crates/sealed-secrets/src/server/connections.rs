//! Connections, within bounds: how many, how long a head may take to come, how long one lasts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use plumbline_common::admin;
use plumbline_common::shutdown::Stopping;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

/// Connections at once; each costs some 20 KiB.
const MAX_CONNECTIONS: u32 = 1024;
/// For the head of a request.
const HEAD: Duration = Duration::from_secs(10);
/// Of one request line and its headers.
const MAX_HEAD: usize = 32 << 10;

/// Serves `router` on `address` until the process stops. A connection ends after `lifetime`, whatever it is doing.
pub(super) async fn serve(
    address: SocketAddr,
    router: Router,
    lifetime: Duration,
    stopping: Stopping,
) -> anyhow::Result<()> {
    let listener = admin::listen(address).await?;
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
    let stopped = stopping.clone().wait();
    tokio::pin!(stopped);
    loop {
        let permit = Arc::clone(&room).acquire_owned().await?;
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopped => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = converse(stream, router.clone(), lifetime, stopping.clone());
                tokio::spawn(async move {
                    connection.await;
                    drop(permit);
                });
            }
            // Of the one that failed, or no descriptors are left: neither is better at once.
            Err(error) => {
                tracing::debug!(%error, "accepting a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    // Until the last connection has ended.
    drop(room.acquire_many(MAX_CONNECTIONS).await?);
    Ok(())
}

async fn converse(stream: TcpStream, router: Router, lifetime: Duration, stopping: Stopping) {
    // A small answer must not wait for an acknowledgement.
    drop(stream.set_nodelay(true));
    let connection = http1::Builder::new()
        // One request a connection: a proxy that keeps connections must not send into one that is just being closed.
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    tokio::pin!(connection);
    let (age, stopped) = (tokio::time::sleep(lifetime), stopping.wait());
    let graceful = async {
        tokio::select! {
            () = age => {}
            () = stopped => {}
        }
    };
    tokio::select! {
        // The client went away, or sent nonsense: nothing to do about it.
        ended = connection.as_mut() => return drop(ended),
        () = graceful => {}
    }
    // What is being answered is answered; a client that does not read it is not waited for.
    connection.as_mut().graceful_shutdown();
    drop(tokio::time::timeout(lifetime, connection).await);
}
