//! Bodies of requests, within bounds: of each one, and of all together.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// An object cannot be larger in etcd.
const MAX_BODY: usize = 2 << 20;
/// All bodies that are being received or worked on.
const MAX_BODIES: usize = 16 << 20;

/// The memory that bodies may take: clients that are slow keep what they have sent, and not more than there is for all.
#[derive(Clone, Debug)]
pub(super) struct Bodies(Arc<Semaphore>);

impl Default for Bodies {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(MAX_BODIES)))
    }
}

/// A body, and its share of the memory until it is dropped.
pub(super) struct Received {
    pub(super) bytes: Vec<u8>,
    share: Option<OwnedSemaphorePermit>,
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotReceived {
    /// Too large, or broken off.
    Bad,
    /// Others have sent too much.
    Busy,
}

impl Bodies {
    /// Reads `body` to its end.
    pub(super) async fn receive(&self, mut body: Body) -> Result<Received, NotReceived> {
        let mut received = Received {
            bytes: Vec::new(),
            share: None,
        };
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| NotReceived::Bad)?;
            let Ok(chunk) = frame.into_data() else { continue };
            if chunk.is_empty() {
                continue;
            }
            if received.bytes.len() + chunk.len() > MAX_BODY {
                return Err(NotReceived::Bad);
            }
            self.share(&chunk, &mut received)?;
            received.bytes.extend_from_slice(&chunk);
        }
        Ok(received)
    }

    fn share(&self, chunk: &Bytes, received: &mut Received) -> Result<(), NotReceived> {
        let size = u32::try_from(chunk.len()).map_err(|_| NotReceived::Bad)?;
        let more = Arc::clone(&self.0)
            .try_acquire_many_owned(size)
            .map_err(|_| NotReceived::Busy)?;
        match &mut received.share {
            Some(share) => share.merge(more),
            share => *share = Some(more),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_body_and_all_of_them_are_bounded() {
        let bodies = Bodies::default();
        let full = || Body::from(vec![b'x'; MAX_BODY]);
        let too_large = bodies.receive(Body::from(vec![b'x'; MAX_BODY + 1])).await;
        assert_eq!(too_large.err(), Some(NotReceived::Bad));
        let mut held = Vec::new();
        for _ in 0..MAX_BODIES / MAX_BODY {
            held.push(bodies.receive(full()).await.ok().unwrap());
        }
        assert_eq!(
            bodies.receive(Body::from("x")).await.err(),
            Some(NotReceived::Busy)
        );
        held.pop();
        assert_eq!(bodies.receive(full()).await.ok().unwrap().bytes.len(), MAX_BODY);
    }
}
