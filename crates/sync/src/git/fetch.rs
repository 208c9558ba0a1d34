//! Fetching one commit into a generation: depth 1, one request, what is known already is not sent again.

use std::{
    io::BufRead,
    num::NonZeroU32,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicBool,
};

use gix_hash::{Kind, ObjectId};
use gix_object::FindExt;
use gix_protocol::fetch::{
    Arguments, Context, Negotiate, Options, Response, Shallow, Tags,
    negotiate::{Action, Round, one_round::State},
};
use gix_utils::progress::{Discard, DynNestedProgress};

use super::{
    CommitId, GitError, Resolved,
    generation::{Generation, Handle, OBJECT_LIMIT},
    transport::{Answer, Session, agent, chain},
};

/// Larger files are left on the server where it knows how: no manifest is as large, and images, archives and
/// binaries beside them need not travel. In bytes.
pub(super) const BLOB_FILTER: u64 = 16 << 20;

/// The hash the server's repository is made with.
pub(super) fn object_format(session: &Session) -> Result<Kind, GitError> {
    let Some(capability) = session.handshake.capabilities.capability("object-format") else {
        return Ok(Kind::Sha1);
    };
    let name = capability.value().map(ToString::to_string).unwrap_or_default();
    name.parse().map_err(|_| GitError::Protocol {
        url: session.guard.url().to_string(),
        reason: format!("its object format {name:?} is unknown"),
    })
}

/// What is to be received.
pub(super) enum Wanted<'a> {
    /// One commit and all it holds, and the tag that led to it.
    Files(&'a Resolved),
    /// The commits that `new` has and `old` has not.
    History {
        old: CommitId,
        new: CommitId,
        /// A reader of a place that has the old commit's files, which a server that sends files takes for granted.
        known: Box<Handle>,
    },
}

impl Wanted<'_> {
    const fn commit(&self) -> CommitId {
        match self {
            Self::Files(resolved) => resolved.commit,
            Self::History { new, .. } => *new,
        }
    }

    fn negotiation(&self, generation: &Generation, can_filter: bool) -> OneRound {
        let (tag, haves, filter) = match self {
            Self::Files(resolved) => (
                resolved.tag.map(|tag| tag.0),
                generation.tips(),
                format!("blob:limit={BLOB_FILTER}"),
            ),
            Self::History { old, .. } => (None, vec![*old], "tree:0".to_owned()),
        };
        OneRound {
            want: [Some(self.commit().0), tag],
            haves,
            filter: can_filter.then_some(filter),
        }
    }
}

/// Receives what is wanted into a generation.
pub(super) fn fetch_into(
    generation: &Generation,
    mut session: Session,
    wanted: &Wanted<'_>,
) -> Result<(), GitError> {
    let commit = wanted.commit();
    let url = session.guard.url().to_string();
    let can_filter = session.can_filter();
    let mut negotiate = wanted.negotiation(generation, can_filter);
    let depth = match wanted {
        Wanted::Files(_) => {
            generation.prune_shallow()?;
            if can_filter {
                generation.set_filtered()?;
            }
            session.guard.expect(Answer::Objects);
            Shallow::DepthAtRemote(NonZeroU32::MIN)
        }
        Wanted::History { .. } => {
            session.guard.expect(Answer::History);
            Shallow::NoChange
        }
    };
    let known = match wanted {
        Wanted::Files(_) => generation.handle(),
        Wanted::History { known, .. } => Handle::clone(known),
    };
    let options = Options {
        shallow_file: generation.shallow_file(),
        shallow: &depth,
        tags: Tags::None,
        reject_shallow_remote: false,
    };
    let guard = std::sync::Arc::clone(&session.guard);
    let context = Context {
        handshake: &mut session.handshake,
        transport: &mut session.transport,
        user_agent: agent(),
        trace_packetlines: false,
    };
    let store = |pack: &mut dyn BufRead, progress: &mut dyn DynNestedProgress, interrupt: &AtomicBool| {
        write_pack(generation, &known, pack, progress, interrupt).map(|()| true)
    };
    let fetch = || {
        gix_protocol::fetch(
            &mut negotiate,
            store,
            Discard,
            guard.interrupt(),
            context,
            options,
        )
    };
    // What the server sends is data: if gitoxide does not expect it, that is this source's trouble. Nothing that it was at
    // work on is used afterwards; what it had written is an incomplete pack, which nobody reads.
    let Ok(outcome) = catch_unwind(AssertUnwindSafe(fetch)) else {
        return Err(GitError::Protocol {
            url,
            reason: "what it sends is not understood".to_owned(),
        });
    };
    if let Err(error) = outcome {
        if chain(&error).contains("not our ref") {
            return Err(GitError::ReferenceNotFound {
                wanted: format!("commit '{commit}'"),
                url,
                existing: Vec::new(),
            });
        }
        return Err(session.fail(&error));
    }
    drop(session);
    let Wanted::Files(_) = wanted else {
        return Ok(());
    };
    verify(generation, commit).map_err(|reason| GitError::Protocol { url, reason })?;
    generation.add_tip(commit)
}

fn write_pack(
    generation: &Generation,
    known: &Handle,
    pack: &mut dyn BufRead,
    progress: &mut dyn DynNestedProgress,
    interrupt: &AtomicBool,
) -> gix_error::Result<()> {
    let options = gix_pack::bundle::write::Options {
        thread_limit: Some(1),
        alloc_limit_bytes: Some(OBJECT_LIMIT),
        ..Default::default()
    };
    let written = gix_pack::Bundle::write_to_directory(
        pack,
        Some(&generation.pack_directory()),
        progress,
        interrupt,
        Some(known.clone()),
        generation.kind,
        options,
    )?;
    if let Some(keep) = written.keep_path {
        // There is no garbage collection here that it would hold back.
        drop(std::fs::remove_file(keep));
    }
    Ok(())
}

/// The server must have sent what was asked for.
fn verify(generation: &Generation, commit: CommitId) -> Result<(), String> {
    let handle = generation.handle();
    let mut buffer = Vec::new();
    let tree = match handle.find_commit(&commit.0, &mut buffer) {
        Ok(found) => found.tree(),
        Err(error) => {
            return Err(format!(
                "'{commit}' did not arrive as a commit: {}",
                chain(&error)
            ));
        }
    };
    let mut buffer = Vec::new();
    handle
        .find_tree(&tree, &mut buffer)
        .map(|_| ())
        .map_err(|error| format!("the tree of '{commit}' did not arrive: {}", chain(&error)))
}

/// One want, all haves, done: the server answers with the pack at once.
struct OneRound {
    want: [Option<ObjectId>; 2],
    haves: Vec<CommitId>,
    filter: Option<String>,
}

impl Negotiate for OneRound {
    fn mark_complete_and_common_ref(&mut self) -> gix_error::Result<Action> {
        Ok(Action::MustNegotiate {
            remote_ref_target_known: Vec::new(),
        })
    }

    fn add_wants(&mut self, arguments: &mut Arguments, _known: &[bool]) -> bool {
        if let Some(filter) = &self.filter {
            arguments.filter(filter);
        }
        for want in self.want.iter().flatten() {
            arguments.want(want);
        }
        true
    }

    fn one_round(
        &mut self,
        _state: &mut State,
        arguments: &mut Arguments,
        _previous: Option<&Response>,
    ) -> gix_error::Result<(Round, bool)> {
        for have in &self.haves {
            arguments.have(have.0);
        }
        let round = Round {
            haves_sent: self.haves.len(),
            in_vain: 0,
            haves_to_send: self.haves.len(),
            previous_response_had_at_least_one_in_common: false,
        };
        Ok((round, true))
    }
}
