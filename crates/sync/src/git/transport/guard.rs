//! The bounds of one operation: time, amount, and the wish to stop; and the first thing that went wrong.

use std::{
    error::Error,
    io::{self, Read},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::super::{GitError, RemoteUrl};

/// What a server is sending us right now, with the most bytes we take of it.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Answer {
    /// A list of references: about 300,000 of them.
    References,
    /// A pack.
    Objects,
    /// A pack of commits.
    History,
}

impl Answer {
    const fn limit(self) -> u64 {
        match self {
            Self::References => 32 << 20,
            Self::Objects => 2 << 30,
            Self::History => 64 << 20,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::References => "references",
            Self::Objects => "objects",
            Self::History => "history",
        }
    }
}

/// Shared by everything that works on one operation. gitoxide reports failures as text; what our own parts of the
/// transport know is kept here as a typed cause and preferred.
#[derive(Debug)]
pub(in super::super) struct Guard {
    url: RemoteUrl,
    timeout: Duration,
    until: Instant,
    interrupt: Arc<AtomicBool>,
    answer: Mutex<Answer>,
    left: AtomicU64,
    cause: Mutex<Option<GitError>>,
}

impl Guard {
    pub(in super::super) fn new(url: RemoteUrl, timeout: Duration, interrupt: Arc<AtomicBool>) -> Arc<Self> {
        Arc::new(Self {
            url,
            timeout,
            until: Instant::now() + timeout,
            interrupt,
            answer: Mutex::new(Answer::References),
            left: AtomicU64::new(Answer::References.limit()),
            cause: Mutex::new(None),
        })
    }

    pub(in super::super) const fn url(&self) -> &RemoteUrl {
        &self.url
    }

    pub(in super::super) fn interrupt(&self) -> &AtomicBool {
        &self.interrupt
    }

    /// Starts to count anew, for another kind of answer.
    pub(in super::super) fn expect(&self, answer: Answer) {
        *self.answer.lock().unwrap_or_else(PoisonError::into_inner) = answer;
        self.left.store(answer.limit(), Ordering::Relaxed);
    }

    /// The time that is left.
    pub(super) fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Fails when the time is up or somebody wants us to stop.
    pub(super) fn check(&self) -> io::Result<()> {
        if self.interrupt.load(Ordering::Relaxed) {
            return Err(self.fail(GitError::Interrupted {
                url: self.url.to_string(),
            }));
        }
        if self.remaining().is_zero() {
            return Err(self.fail(self.timed_out()));
        }
        Ok(())
    }

    /// Counts `bytes` that arrived.
    fn count(&self, bytes: usize) -> io::Result<()> {
        self.check()?;
        let bytes = bytes as u64;
        let enough = self
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            });
        if enough.is_err() {
            let answer = *self.answer.lock().unwrap_or_else(PoisonError::into_inner);
            return Err(self.fail(GitError::AnswerTooLarge {
                url: self.url.to_string(),
                what: answer.name(),
                limit: answer.limit(),
            }));
        }
        Ok(())
    }

    pub(super) fn timed_out(&self) -> GitError {
        GitError::Timeout {
            url: self.url.to_string(),
            timeout: self.timeout,
        }
    }

    /// Keeps the first cause; the returned error only carries the failure through gitoxide.
    pub(super) fn fail(&self, cause: GitError) -> io::Error {
        let text = cause.to_string();
        self.cause
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get_or_insert(cause);
        io::Error::other(text)
    }

    /// The typed cause if there is one, else what gitoxide said.
    pub(in super::super) fn explain(&self, error: &(dyn Error + 'static)) -> GitError {
        let cause = self.cause.lock().unwrap_or_else(PoisonError::into_inner).take();
        cause.unwrap_or_else(|| {
            if self.check().is_err() {
                return self.timed_out();
            }
            GitError::Protocol {
                url: self.url.to_string(),
                reason: chain(error),
            }
        })
    }
}

/// The messages of an error and its sources, each once.
pub(in super::super) fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        source = error.source();
    }
    text
}

/// A reader under guard.
pub(super) struct Guarded<R> {
    pub(super) inner: R,
    pub(super) guard: Arc<Guard>,
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.guard.check()?;
        let bytes = self.inner.read(buffer)?;
        self.guard.count(bytes)?;
        Ok(bytes)
    }
}
