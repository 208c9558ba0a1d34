//! Telling a human what takes long.

use std::{
    fmt::Display,
    io::Write,
    sync::mpsc::{RecvTimeoutError, Sender, channel},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Writes one line to standard error; unlike `eprintln!` it is seen under `cargo test` too.
pub(crate) fn say(line: impl Display) {
    // Nobody reading is no reason to fail.
    drop(writeln!(std::io::stderr(), "{line}"));
}

/// Repeats a line with the elapsed time until dropped.
pub(crate) struct Ticker {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Ticker {
    pub(crate) fn start(line: String, every: Duration) -> Self {
        let (stop, stopped) = channel();
        let begin = Instant::now();
        let thread = std::thread::spawn(move || {
            while stopped.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                say(format_args!("{line} … {} s", begin.elapsed().as_secs()));
            }
        });
        Self {
            stop: Some(stop),
            thread: Some(thread),
        }
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
