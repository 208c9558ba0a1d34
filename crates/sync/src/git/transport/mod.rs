//! Connections to Git servers. Each is bounded by a [`Guard`] and reads no configuration of the user or the system.

mod exchange;
mod guard;
mod http;
mod private;
mod process;
mod proxy;
mod requests;
mod resolver;
mod ssh;
mod tls;

use std::sync::Arc;

use gix_protocol::{Handshake, LsRefsCommand, command::Feature, handshake::Ref, ls_refs::RefPrefixes};
use gix_transport::{Protocol, Service, client::blocking_io::Transport};
use gix_utils::progress::Discard;

pub(super) use self::{
    guard::{Answer, Guard, chain},
    private::sweep,
};
use super::{CommitId, GitError, Remote, TagId, reference::ListedRef, remote::Scheme};

/// A connection after the first words were exchanged.
pub(super) struct Session {
    pub(super) transport: Box<dyn Transport>,
    pub(super) handshake: Handshake,
    pub(super) guard: Arc<Guard>,
}

/// How we call ourselves.
pub(super) fn agent() -> Feature {
    (
        "agent",
        Some(concat!("git/plumbline-", env!("CARGO_PKG_VERSION")).to_owned()),
    )
}

impl Session {
    /// Connects and reads the capabilities of the server.
    pub(super) fn connect(remote: &Remote, guard: Arc<Guard>) -> Result<Self, GitError> {
        remote.policy.admit(&remote.url)?;
        let mut transport: Box<dyn Transport> = match remote.url.scheme {
            Scheme::Http | Scheme::Https => Box::new(http::connect(remote, Arc::clone(&guard))?),
            Scheme::Ssh => Box::new(ssh::connect(remote, Arc::clone(&guard))?),
            Scheme::File => Box::new(process::local(remote, Arc::clone(&guard))?),
        };
        // Credentials are sent with the first request; there is nobody to ask for others.
        let nobody = |_| Ok(None);
        match gix_protocol::handshake(
            &mut transport,
            Service::UploadPack,
            nobody,
            Vec::new(),
            &mut Discard,
        ) {
            Ok(handshake) => Ok(Self {
                transport,
                handshake,
                guard,
            }),
            Err(error) => {
                drop(transport);
                Err(guard.explain(&error))
            }
        }
    }

    /// Lists the references whose names start with one of `prefixes`, tags peeled.
    pub(super) fn list(&mut self, prefixes: &[&str]) -> gix_error::Result<Vec<ListedRef>> {
        let refs = if let Some(refs) = self.handshake.refs.clone() {
            // A server of the old protocol lists everything at once.
            refs
        } else {
            let mut wanted = RefPrefixes::new();
            wanted.extend(prefixes.iter().map(|prefix| (*prefix).into()));
            self.guard.expect(Answer::References);
            LsRefsCommand::new(Some(wanted), &self.handshake.capabilities, agent()).invoke_blocking(
                &mut self.transport,
                &mut Discard,
                false,
            )?
        };
        let asked = |one: &ListedRef| prefixes.iter().any(|prefix| one.name.starts_with(prefix));
        Ok(refs.into_iter().filter_map(listed).filter(asked).collect())
    }

    /// Ends a failed session and says why it failed.
    pub(super) fn fail(self, error: &(dyn std::error::Error + 'static)) -> GitError {
        let Self { transport, guard, .. } = self;
        // The last words of a program are read when it has ended.
        drop(transport);
        guard.explain(error)
    }

    /// Whether the server can leave large files out of a pack.
    pub(super) fn can_filter(&self) -> bool {
        let fetch = self.handshake.capabilities.capability("fetch");
        self.handshake.server_protocol_version == Protocol::V2
            && fetch.and_then(|fetch| fetch.supports("filter")).unwrap_or(false)
    }
}

fn listed(one: Ref) -> Option<ListedRef> {
    let (name, object, tag) = match one {
        Ref::Peeled {
            full_ref_name,
            tag,
            object,
        } => (full_ref_name, object, Some(TagId(tag))),
        Ref::Direct {
            full_ref_name,
            object,
        } => (full_ref_name, object, None),
        Ref::Symbolic {
            full_ref_name,
            tag,
            object,
            ..
        } => (full_ref_name, object, tag.map(TagId)),
        Ref::Unborn { .. } => return None,
    };
    // A name that is not UTF-8 cannot be asked for.
    Some(ListedRef {
        name: String::from_utf8(name.into()).ok()?,
        commit: CommitId(object),
        tag,
    })
}
