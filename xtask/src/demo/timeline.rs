//! A readable account of what happens, with times.

use std::time::{Duration, Instant};

/// Prints lines with the time since the start.
pub(crate) struct Timeline {
    begin: Instant,
}

impl Timeline {
    pub(crate) fn start() -> Self {
        Self {
            begin: Instant::now(),
        }
    }

    /// Something that is being done.
    pub(crate) fn note(&mut self, text: &str) {
        println!("{:7.1} s    {text}", self.begin.elapsed().as_secs_f32());
    }

    /// Something that was done from outside, to which Plumbline should react.
    pub(crate) fn action(&mut self, text: &str) -> Instant {
        println!("\n{:7.1} s  > {text}", self.begin.elapsed().as_secs_f32());
        Instant::now()
    }

    /// What Plumbline did, and how long after the action.
    pub(crate) fn effect(&mut self, text: &str, since: Instant) {
        self.effect_after(text, since.elapsed());
    }

    /// As [`Timeline::effect`], for what was seen later than it happened.
    pub(crate) fn effect_after(&mut self, text: &str, took: Duration) {
        let now = self.begin.elapsed().as_secs_f32();
        println!("{now:7.1} s  \u{2713} {text}  ({})", human(took));
    }

    /// Words of Plumbline, indented under an effect.
    pub(crate) fn quote(text: &str) {
        for line in text.lines() {
            println!("             | {line}");
        }
    }
}

fn human(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("after {} ms", time.as_millis())
    } else {
        format!("after {:.1} s", time.as_secs_f32())
    }
}
