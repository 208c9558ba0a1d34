//! Which commits came since another one.
//!
//! The mirror is shallow: it has single commits and not what was between them. What was between is fetched when it
//! matters, as commits alone (no files, where the server can leave them out), into a place that goes with the answer. One
//! request, bounded in bytes and time: the server is told that we have the old commit with all before it, and so sends
//! what `git log old..new` would show.

use std::collections::{HashSet, VecDeque};

use gix_object::FindExt as _;

use super::{
    CommitId, GitError, Mirror, Signed,
    fetch::{Wanted, fetch_into, object_format},
    generation::Generation,
    signed,
    transport::{Answer, Session, chain},
};

/// Commits that are looked at; more cannot be told apart from a history without end.
const COMMITS: usize = 50_000;

/// The commits that a new commit brings and an old one did not have.
pub struct History {
    /// The new commit first; each before its parents.
    pub commits: Vec<CommitId>,
    /// Whether the old commit is among their parents: nothing of it was taken back.
    pub continues: bool,
    // Before the directory it is in.
    generation: Option<Generation>,
    _directory: Option<tempfile::TempDir>,
}

impl Mirror {
    /// What `new`, which was fetched, brings that `old` has not. No request where the parents of `new` answer it.
    pub fn since(&self, old: CommitId, new: CommitId) -> Result<History, GitError> {
        let here = |commits, continues| History {
            commits,
            continues,
            generation: None,
            _directory: None,
        };
        if old == new {
            return Ok(here(Vec::new(), true));
        }
        let fetched = self.fetched(new)?;
        let parents = parents(&fetched, new)?.unwrap_or_default();
        if parents == [old] {
            return Ok(here(vec![new], true));
        }
        let directory = self.scratch()?;
        let generation = Generation::create(directory.path(), 0, fetched.kind)?;
        let guard = self.guard();
        let session = Session::connect(self.remote(), guard)?;
        let (found, kind) = (object_format(&session)?, fetched.kind);
        if found != kind {
            return Err(GitError::Corrupt(format!("the repository has {found} now, and had {kind}")));
        }
        session.guard.expect(Answer::History);
        let wanted = Wanted::History {
            old,
            new,
            known: fetched.handle(),
        };
        fetch_into(&generation, session, &wanted)?;
        let (commits, continues) = walk(&generation, old, new).map_err(|reason| GitError::Protocol {
            url: self.remote().url.to_string(),
            reason,
        })?;
        Ok(History {
            commits,
            continues,
            generation: Some(generation),
            _directory: Some(directory),
        })
    }
}

impl History {
    /// What is signed of one of the commits; `None` for what only the mirror has.
    pub fn signed(&self, commit: CommitId) -> Result<Option<Signed>, GitError> {
        let Some(generation) = &self.generation else {
            return Ok(None);
        };
        signed::commit(generation, commit).map(Some)
    }
}

/// The parents of a commit; `None` if it is not there.
fn parents(generation: &Generation, commit: CommitId) -> Result<Option<Vec<CommitId>>, GitError> {
    let handle = generation.handle();
    let mut buffer = Vec::new();
    if !generation.contains(commit) {
        return Ok(None);
    }
    let found = handle
        .find_commit(&commit.0, &mut buffer)
        .map_err(|error| GitError::Corrupt(chain(&error)))?;
    Ok(Some(found.parents().map(CommitId).collect()))
}

/// From `new` back, as far as there are commits.
fn walk(generation: &Generation, old: CommitId, new: CommitId) -> Result<(Vec<CommitId>, bool), String> {
    let mut todo = VecDeque::from([new]);
    let mut seen = HashSet::from([new]);
    let (mut commits, mut continues) = (Vec::new(), false);
    while let Some(commit) = todo.pop_front() {
        // What did not come is what the old commit has too.
        let Some(parents) = parents(generation, commit).map_err(|error| error.to_string())? else {
            continue;
        };
        commits.push(commit);
        if commits.len() > COMMITS {
            return Err(format!("there are more than {COMMITS} commits between '{old}' and '{new}'"));
        }
        continues |= parents.contains(&old);
        todo.extend(parents.into_iter().filter(|parent| *parent != old && seen.insert(*parent)));
    }
    Ok((commits, continues))
}
