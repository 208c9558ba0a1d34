//! A Deployment's pause period: decided from what stands on the Deployment, so that it survives any restart. Pure.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::{annotations::Problem, patch::Beside, workload::Pause};

/// Where a Deployment stands in its pause.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is not paused by a reloader.
    Running,
    /// It is paused for so much longer.
    Paused(Duration),
    /// Its pause is over.
    Over,
}

/// Whether a pause goes on. A marker without a readable time or without a period is over: nobody else would end it.
pub fn standing(pause: &Pause, now: Timestamp) -> Standing {
    let Some(marker) = &pause.paused_at else {
        return Standing::Running;
    };
    let (Some(Ok(period)), Ok(since), true) = (&pause.period, marker.parse::<Timestamp>(), pause.paused)
    else {
        return Standing::Over;
    };
    let elapsed = Duration::try_from(now.duration_since(since)).unwrap_or_default();
    match period.checked_sub(elapsed) {
        Some(Duration::ZERO) | None => Standing::Over,
        Some(rest) => Standing::Paused(rest),
    }
}

/// What happens beside a rollout. An invalid period blocks it, as upstream, until the annotation is right.
pub fn beside(pause: &Pause) -> Result<Beside, Problem> {
    match &pause.period {
        Some(Err(problem)) => Err(problem.clone()),
        Some(Ok(period)) if !period.is_zero() && !pause.paused => Ok(Beside::Pause),
        // Someone paused it by hand: it stays theirs.
        Some(Ok(_)) | None => Ok(Beside::Nothing),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pause(period: Option<u64>, paused: bool, paused_at: Option<&str>) -> Pause {
        let period = period.map(|seconds| Ok(Duration::from_secs(seconds)));
        Pause {
            period,
            paused,
            paused_at: paused_at.map(Into::into),
            ours: true,
        }
    }

    const START: &str = "2026-11-23T12:00:00Z";

    #[test]
    fn a_pause_ends_when_its_period_is_over() {
        let start: Timestamp = START.parse().unwrap();
        let paused = pause(Some(60), true, Some(START));
        let after = |seconds: u64| standing(&paused, start + Duration::from_secs(seconds));
        assert_eq!(after(20), Standing::Paused(Duration::from_secs(40)));
        assert_eq!(after(60), Standing::Over);
        assert_eq!(after(6000), Standing::Over);
    }

    #[test]
    fn a_pause_that_nobody_would_end_is_over() {
        let now: Timestamp = START.parse().unwrap();
        assert_eq!(standing(&pause(None, true, Some(START)), now), Standing::Over);
        assert_eq!(
            standing(&pause(Some(60), true, Some("yesterday")), now),
            Standing::Over
        );
        assert_eq!(
            standing(&pause(Some(60), false, Some(START)), now),
            Standing::Over
        );
        assert_eq!(standing(&pause(Some(60), true, None), now), Standing::Running);
    }

    #[test]
    fn who_is_paused_by_hand_stays_so() {
        assert_eq!(beside(&pause(Some(60), false, None)), Ok(Beside::Pause));
        assert_eq!(beside(&pause(Some(60), true, None)), Ok(Beside::Nothing));
        assert_eq!(beside(&pause(Some(0), false, None)), Ok(Beside::Nothing));
        assert_eq!(beside(&pause(None, false, None)), Ok(Beside::Nothing));
    }
}
