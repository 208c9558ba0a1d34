//! What a server said there is, shared by all who follow something of the same repository: one query for all of them.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{GitError, Resolved, reference::ListedRef};

/// Who has not asked for so long is not asked for any longer.
const FORGOTTEN: Duration = Duration::from_hours(2);

/// What a reference stands for, and since when that is known.
#[derive(Debug, Clone)]
pub struct Polled {
    /// The commit.
    pub resolved: Resolved,
    /// When the server was asked.
    pub at: Instant,
    /// Whether it was asked by somebody else.
    pub shared: bool,
}

/// An answer of the server.
pub(super) struct Listed {
    /// Just before it was asked.
    pub(super) at: Instant,
    /// What it was asked for.
    prefixes: Vec<String>,
    pub(super) refs: Vec<ListedRef>,
}

/// The last answer, and what is to be asked for.
#[derive(Default)]
pub(super) struct Listings(Mutex<State>);

#[derive(Default)]
struct State {
    last: Option<Arc<Listed>>,
    /// Prefixes of reference names, and when somebody last wanted them.
    wanted: HashMap<String, Instant>,
    /// Prefixes of which there is more than is taken: only those who want them ask for them.
    alone: HashSet<String>,
    /// A query that failed, and when it was begun.
    failed: Option<(Instant, GitError)>,
}

impl Listings {
    /// An answer for `prefix` that is not older than `since`, and whether somebody else asked for it. Those who want to
    /// know at the same time wait for one query, which asks for what all of them follow.
    pub(super) fn since(
        &self,
        prefix: &str,
        since: Instant,
        ask: impl Fn(&[&str]) -> Result<Vec<ListedRef>, GitError>,
    ) -> Result<(Arc<Listed>, bool), GitError> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if !state.alone.contains(prefix) {
            state.wanted.insert(prefix.to_owned(), now);
        }
        if let Some(last) = &state.last
            && last.at >= since
            && last
                .prefixes
                .iter()
                .any(|asked| prefix.starts_with(asked.as_str()))
        {
            return Ok((Arc::clone(last), true));
        }
        // Who waited for a query that failed need not make the same experience.
        if let Some((at, error)) = &state.failed
            && *at >= since
            && let Some(error) = error.again()
        {
            return Err(error);
        }
        state
            .wanted
            .retain(|_, asked| now.duration_since(*asked) < FORGOTTEN);
        let together = state.together(prefix);
        let listed = match ask_for(together, now, &ask) {
            // Together it is too much: nobody has to suffer from what others follow.
            Err(GitError::AnswerTooLarge { .. })
                if !state.alone.contains(prefix) && state.wanted.len() > 1 =>
            {
                ask_for(vec![prefix.to_owned()], now, &ask)
            }
            other => other,
        };
        match listed {
            Ok(listed) => {
                state.failed = None;
                let listed = Arc::new(listed);
                if !state.alone.contains(prefix) {
                    state.last = Some(Arc::clone(&listed));
                }
                Ok((listed, false))
            }
            Err(error) => {
                if matches!(error, GitError::AnswerTooLarge { .. }) {
                    state.wanted.remove(prefix);
                    state.alone.insert(prefix.to_owned());
                }
                state.failed = error.again().map(|error| (now, error));
                Err(error)
            }
        }
    }
}

impl State {
    /// What to ask for when somebody wants to know of `prefix`.
    fn together(&self, prefix: &str) -> Vec<String> {
        if self.alone.contains(prefix) {
            return vec![prefix.to_owned()];
        }
        let mut prefixes: Vec<String> = self.wanted.keys().cloned().collect();
        prefixes.sort();
        prefixes
    }
}

fn ask_for(
    prefixes: Vec<String>,
    at: Instant,
    ask: impl Fn(&[&str]) -> Result<Vec<ListedRef>, GitError>,
) -> Result<Listed, GitError> {
    let asked: Vec<&str> = prefixes.iter().map(String::as_str).collect();
    let refs = ask(&asked)?;
    Ok(Listed { at, prefixes, refs })
}
