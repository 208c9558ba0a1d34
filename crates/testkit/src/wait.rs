//! Bounded waiting.

use std::{fmt::Display, time::Duration};

use anyhow::anyhow;
use tokio::time::{Instant, sleep, timeout_at};

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// Looks until `look` answers `Ok`. `Err` is what was seen instead; the last one is in the error that is
/// returned after `limit`. `what` completes the sentence "waited for …".
pub async fn wait_for<T, S: Display>(
    what: &str,
    limit: Duration,
    mut look: impl AsyncFnMut() -> Result<T, S>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + limit;
    let mut last = String::from("nothing: the first look did not return");
    loop {
        match timeout_at(deadline, look()).await {
            Ok(Ok(seen)) => return Ok(seen),
            Ok(Err(state)) => last = state.to_string(),
            Err(_) => return Err(anyhow!("waited {limit:?} for {what}; last seen: {last}")),
        }
        if Instant::now() >= deadline {
            return Err(anyhow!("waited {limit:?} for {what}; last seen: {last}"));
        }
        sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_was_seen_last() {
        let mut looks = 0;
        let error = wait_for("a miracle", Duration::from_millis(200), async || {
            looks += 1;
            Err::<(), _>(format!("look {looks}"))
        })
        .await
        .unwrap_err()
        .to_string();
        assert!(error.contains("a miracle; last seen: look "), "{error}");
        assert!(looks > 1);
    }

    #[tokio::test]
    async fn a_look_that_hangs_is_bounded_too() {
        let limit = Duration::from_millis(100);
        let hung = wait_for("nobody", limit, async || {
            std::future::pending::<Result<(), &str>>().await
        });
        assert!(hung.await.is_err());
        assert_eq!(wait_for("it", limit, async || Ok::<_, &str>(7)).await.unwrap(), 7);
    }
}
