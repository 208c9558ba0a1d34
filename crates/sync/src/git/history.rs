//! Which commits came since another one.
//!
//! The mirror is shallow: it has single commits and not what was between them. What was between is fetched when it
//! matters, as commits alone (no files, where the server can leave them out), into a place that goes with the answer. One
//! request, bounded in bytes and time: the server is told that we have the old commit with all before it, and so sends
//! what `git log old..new` would show.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

use gix_object::{CommitRefIter, Find as _};

use super::{
    CommitId, GitError, Mirror, Resolved, Revision, Signed,
    fetch::{Wanted, fetch_into, object_format},
    generation::{Generation, Handle},
    signed,
    transport::{Answer, Session, chain},
};

/// Commits that are looked at; more cannot be told apart from a history without end.
const COMMITS: usize = 20_000;

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
        self.since_at_most(old, new, COMMITS)
    }

    /// As [`Self::since`], for at most so many commits.
    pub fn since_at_most(&self, old: CommitId, new: CommitId, most: usize) -> Result<History, GitError> {
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
        let known = parents(&fetched.handle(), new, &mut Vec::new()).map_err(GitError::Corrupt)?;
        let parents = known.unwrap_or_default();
        if parents == [old] {
            return Ok(here(vec![new], true));
        }
        let guard = self.guard();
        let mut session = Session::connect(self.remote(), Arc::clone(&guard))?;
        if !session.can_filter() && !fetched.contains(old) {
            // Such a server sends files as differences to those of the old commit.
            drop(session);
            let old = Resolved::from(Revision::new(None, old));
            if let Err(error) = self.fetch(&old) {
                tracing::debug!(%error, "the old commit cannot be fetched again");
            }
            session = Session::connect(self.remote(), guard)?;
        }
        let fetched = self.fetched(new)?;
        let directory = self.scratch()?;
        let generation = Generation::create(directory.path(), 0, fetched.kind)?;
        let (found, kind) = (object_format(&session)?, fetched.kind);
        if found != kind {
            return Err(GitError::Corrupt(format!(
                "the repository has {found} now, and had {kind}"
            )));
        }
        session.guard.expect(Answer::History);
        let wanted = Wanted::History {
            old,
            new,
            known: Box::new(fetched.handle()),
        };
        fetch_into(&generation, session, &wanted)?;
        let (commits, continues) =
            walk(&generation, old, new, most).map_err(|reason| GitError::Protocol {
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
fn parents(reader: &Handle, commit: CommitId, buffer: &mut Vec<u8>) -> Result<Option<Vec<CommitId>>, String> {
    let found = reader
        .try_find(&commit.0, buffer)
        .map_err(|error| chain(&error))?;
    let Some(found) = found else { return Ok(None) };
    if found.kind != gix_object::Kind::Commit {
        return Err(format!("'{commit}' is a {} and should be a commit", found.kind));
    }
    let parents = CommitRefIter::from_bytes(found.data, commit.0.kind()).parent_ids();
    Ok(Some(parents.map(CommitId).collect()))
}

/// From `new` back, as far as there are commits.
fn walk(
    generation: &Generation,
    old: CommitId,
    new: CommitId,
    most: usize,
) -> Result<(Vec<CommitId>, bool), String> {
    let (reader, mut buffer) = (generation.handle(), Vec::new());
    let mut todo = VecDeque::from([new]);
    let mut seen = HashSet::from([new]);
    let (mut commits, mut continues) = (Vec::new(), false);
    while let Some(commit) = todo.pop_front() {
        // What did not come is what the old commit has too.
        let Some(parents) = parents(&reader, commit, &mut buffer)? else {
            continue;
        };
        commits.push(commit);
        if commits.len() > most {
            return Err(format!(
                "there are more than {most} commits between '{old}' and '{new}'"
            ));
        }
        continues |= parents.contains(&old);
        todo.extend(
            parents
                .into_iter()
                .filter(|parent| *parent != old && seen.insert(*parent)),
        );
    }
    Ok((commits, continues))
}
