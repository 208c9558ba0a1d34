//! Pure: how long to wait before trying again.

use std::time::Duration;

/// Exponential backoff: `base · 2^(failures-1)`, never more than `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// Delay after the first failure.
    pub base: Duration,
    /// Upper bound of the delay, jitter not counted.
    pub max: Duration,
}

impl Backoff {
    /// The delay after `failures` failures in a row (0 counts as 1).
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

/// Spreads `delay` evenly over ± `percent` of itself. `random` is in `[0, 1)` and comes from the caller,
/// so that this stays pure.
pub fn jitter(delay: Duration, percent: u8, random: f64) -> Duration {
    let spread = f64::from(percent.min(100)) / 100.0;
    delay.mul_f64((1.0 + spread * (2.0 * random - 1.0)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_maximum() {
        let backoff = Backoff {
            base: Duration::from_secs(1),
            max: Duration::from_mins(1),
        };
        let delays: Vec<u64> = [0, 1, 2, 3, 7, 40, u32::MAX]
            .map(|n| backoff.delay(n).as_secs())
            .to_vec();
        assert_eq!(delays, [1, 1, 2, 4, 60, 60, 60]);
    }

    #[test]
    fn jitter_stays_within_its_share() {
        let minute = Duration::from_mins(1);
        assert_eq!(jitter(minute, 5, 0.0), Duration::from_secs(57));
        assert_eq!(jitter(minute, 5, 0.5), minute);
        assert_eq!(jitter(minute, 0, 0.99), minute);
    }
}
