//! A rate limit that no header can get around: one bucket for everybody. Pure: the caller brings the clock.

use std::time::{Duration, Instant};

/// Allows `rate` requests a second, `burst` at once.
#[derive(Debug)]
pub struct Limit {
    interval: Duration,
    tolerance: Duration,
    /// When the bucket will be full again.
    full_at: Option<Instant>,
}

impl Limit {
    /// A full bucket; a rate of 0 refuses everything.
    pub fn new(rate: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1).checked_div(rate).unwrap_or(Duration::MAX);
        let tolerance = interval.saturating_mul(if rate == 0 { 0 } else { burst.max(1) });
        Self {
            interval,
            tolerance,
            full_at: None,
        }
    }

    /// Whether one more request may pass at `now`.
    pub fn allow(&mut self, now: Instant) -> bool {
        let full_at = self.full_at.filter(|full_at| *full_at > now).unwrap_or(now);
        let Some(next) = full_at.checked_add(self.interval) else {
            return false;
        };
        if next.duration_since(now) > self.tolerance {
            return false;
        }
        self.full_at = Some(next);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let mut limit = Limit::new(2, 2);
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        assert_eq!(
            [0, 0, 0, 400, 500, 500, 600].map(|millis| limit.allow(at(millis))),
            [true, true, false, false, true, false, false]
        );
        assert_eq!(
            [10_000, 10_000, 10_000].map(|millis| limit.allow(at(millis))),
            [true, true, false]
        );
        assert!(!Limit::new(0, 5).allow(now));
    }
}
