//! Branches that are moved back: held until somebody confirms it (ADR 21).

use std::{collections::BTreeMap, fmt::Write as _};

use clap::ValueEnum;
use sha2::{Digest as _, Sha256};

use super::{SourceKey, error::FetchError};
use crate::{
    api::{self, CONFIRM_REWIND, REWIND},
    git::{GitError, Mirror, Reference, Resolved, Revision},
};

/// Key of `status.artifact.metadata`: the digest of the URL that the artifact came from.
const ORIGIN: &str = "plumbline.dev/origin";

/// What becomes of a branch that does not continue what was fetched before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rewinds {
    /// It is held until it is confirmed.
    Hold,
    /// It is followed.
    Allow,
}

/// What was last fetched of the same repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Base(pub(super) Revision);

impl Base {
    /// The artifact of the status, if it came from this URL.
    pub(super) fn of(artifact: Option<&api::Artifact>, url: &str) -> Option<Self> {
        let artifact = artifact?;
        let metadata = artifact.metadata.as_ref();
        // Flux's own status does not say.
        if metadata
            .and_then(|metadata| metadata.get(ORIGIN))
            .is_some_and(|known| *known != digest(url))
        {
            return None;
        }
        artifact.revision.parse().ok().map(Self)
    }
}

/// What an artifact remembers of where it came from.
pub(super) fn origin(url: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(ORIGIN.to_owned(), digest(url))])
}

fn digest(url: &str) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(url.trim_end_matches('/')).iter().take(8) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// What a GitRepository wants to happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Guard {
    rewinds: Rewinds,
    /// The revision that somebody confirmed.
    confirmed: Option<String>,
}

impl Guard {
    /// Its annotations before the flag.
    pub(super) fn of(notes: &BTreeMap<String, String>, default: Rewinds) -> Result<Self, FetchError> {
        let rewinds = match notes
            .get(REWIND)
            .map(|text| text.trim().to_ascii_lowercase())
            .as_deref()
        {
            None | Some("") => default,
            Some("hold") => Rewinds::Hold,
            Some("allow") => Rewinds::Allow,
            Some(other) => {
                return Err(FetchError::Field(format!(
                    "the annotation {REWIND}: {other:?} is neither hold nor allow"
                )));
            }
        };
        Ok(Self {
            rewinds,
            confirmed: notes.get(CONFIRM_REWIND).cloned(),
        })
    }

    /// Whether the move from `base` to what was resolved has to be looked into.
    pub(super) fn watches(&self, base: &Base, reference: &Reference, resolved: &Resolved) -> bool {
        self.rewinds == Rewinds::Hold
            && reference.is_branch()
            && base.0.reference() == resolved.revision.reference()
            && base.0.commit() != resolved.commit
            && self.confirmed.as_deref() != Some(&resolved.revision.to_string())
    }

    /// Fails when the branch was moved back, or when that cannot be told.
    pub(super) fn check(
        base: &Base,
        mirror: &Mirror,
        resolved: &Resolved,
        key: &SourceKey,
    ) -> Result<(), FetchError> {
        let proof = match mirror.since(base.0.commit(), resolved.commit) {
            Ok(history) if history.continues => return Ok(()),
            Ok(_) => "does not continue it: it was moved back, or replaced by another history".to_owned(),
            // It may pass, as any failure to reach the server.
            Err(error) if error.is_transient() && !matches!(error, GitError::Protocol { .. }) => {
                return Err(error.into());
            }
            Err(error) => format!("cannot be shown to continue it: {error}"),
        };
        Err(FetchError::Rewound(Box::new(Held {
            from: base.0.clone(),
            to: resolved.revision.clone(),
            proof,
            key: key.clone(),
        })))
    }
}

/// A move of a branch that is held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Held {
    from: Revision,
    to: Revision,
    proof: String,
    key: SourceKey,
}

impl Held {
    /// Whether this is the move that was found before.
    pub(super) fn is(&self, base: &Base, resolved: &Resolved) -> bool {
        self.from == base.0 && self.to == resolved.revision
    }
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (namespace, name) = &self.key;
        write!(
            f,
            "'{}' was fetched, and '{}' {}. What was fetched before stays in use. If that is intended: kubectl annotate \
             gitrepository {name} --namespace {namespace} --overwrite {CONFIRM_REWIND}={} (for every such move: {REWIND}=allow)",
            self.from, self.to, self.proof, self.to
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "main@sha1:1111111111111111111111111111111111111111";
    const NEW: &str = "main@sha1:2222222222222222222222222222222222222222";

    fn guard(notes: &[(&str, &str)]) -> Guard {
        let notes = notes
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Guard::of(&notes, Rewinds::Hold).unwrap()
    }

    fn watches(guard: &Guard, from: &str, to: &str) -> bool {
        let resolved = Resolved::from(to.parse::<Revision>().unwrap());
        let branch = crate::git::ReferenceSpec {
            branch: Some("main"),
            ..Default::default()
        };
        guard.watches(
            &Base(from.parse().unwrap()),
            &Reference::from_spec(branch).unwrap(),
            &resolved,
        )
    }

    #[test]
    fn only_unconfirmed_moves_of_the_same_branch_are_watched() {
        assert!(watches(&guard(&[]), OLD, NEW));
        assert!(!watches(&guard(&[]), OLD, OLD));
        assert!(!watches(&guard(&[]), &OLD.replace("main", "next"), NEW));
        assert!(!watches(&guard(&[(REWIND, "allow")]), OLD, NEW));
        assert!(!watches(&guard(&[(CONFIRM_REWIND, NEW)]), OLD, NEW));
        assert!(watches(&guard(&[(CONFIRM_REWIND, OLD)]), OLD, NEW));
        let wrong = BTreeMap::from([(REWIND.to_owned(), "yes".to_owned())]);
        assert!(Guard::of(&wrong, Rewinds::Hold).is_err());
    }

    #[test]
    fn an_artifact_of_another_url_is_no_base() {
        let mut artifact: api::Artifact = serde_json::from_value(serde_json::json!({
            "path": "", "url": "", "revision": OLD, "lastUpdateTime": "2026-11-26T12:00:00Z",
        }))
        .unwrap();
        assert!(
            Base::of(Some(&artifact), "https://example.com/a").is_some(),
            "as Flux writes it"
        );
        artifact.metadata = Some(origin("https://example.com/a/"));
        assert!(Base::of(Some(&artifact), "https://example.com/a").is_some());
        assert!(Base::of(Some(&artifact), "https://example.com/b").is_none());
    }
}
