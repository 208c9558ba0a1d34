//! `spec.verify`: nothing is applied that was not signed by a trusted key.

use std::collections::BTreeMap;

use k8s_openapi::jiff::Timestamp;

use super::error::FetchError;
use crate::{
    api::{GitRepositorySpec, VERIFY},
    git::{CommitId, Mirror, Resolved},
    signature::{Keys, Refusal},
};

/// What has to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The commit.
    Head,
    /// The tag that leads to it.
    Tag,
    /// Both.
    TagAndHead,
}

impl Mode {
    /// `spec.verify.mode`.
    pub(super) fn parse(mode: &str) -> Result<Self, FetchError> {
        match mode {
            "" | "HEAD" | "head" => Ok(Self::Head),
            "Tag" => Ok(Self::Tag),
            "TagAndHEAD" => Ok(Self::TagAndHead),
            other => Err(FetchError::Field(format!(
                "spec.verify.mode: {other:?} is none of HEAD, Tag and TagAndHEAD"
            ))),
        }
    }

    /// As the status prints it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Head => "HEAD",
            Self::Tag => "Tag",
            Self::TagAndHead => "TagAndHEAD",
        }
    }
}

/// Which commits have to be signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    /// The newest, as in Flux.
    Tip,
    /// Every one since the last that was fetched.
    Range,
}

impl Span {
    /// By the annotation.
    pub(super) fn of(spec: &GitRepositorySpec, notes: &BTreeMap<String, String>) -> Result<Self, FetchError> {
        let refused = |reason: &str| Err(FetchError::Field(format!("the annotation {VERIFY}: {reason}")));
        match notes
            .get(VERIFY)
            .map(|text| text.trim().to_ascii_lowercase())
            .as_deref()
        {
            None | Some("" | "tip") => Ok(Self::Tip),
            Some("range") if spec.verify.is_none() => {
                refused("range needs spec.verify, which names the keys")
            }
            Some("range") => Ok(Self::Range),
            Some(other) => refused(&format!("{other:?} is neither range nor tip")),
        }
    }
}

/// What is demanded of each revision.
#[derive(Clone)]
pub(super) struct Verification {
    pub(super) mode: Mode,
    pub(super) span: Span,
    pub(super) keys: Keys,
}

impl Verification {
    /// Whether the fetched revision is signed as demanded; in words.
    pub(super) fn check(
        &self,
        mirror: &Mirror,
        resolved: &Resolved,
        base: Option<CommitId>,
        now: Timestamp,
    ) -> Result<String, FetchError> {
        let mut verified = Vec::new();
        if self.mode != Mode::Head {
            verified.push(self.tag(mirror, resolved, now)?);
        }
        if self.mode != Mode::Tag {
            let commit = mirror.signed_commit(resolved.commit)?;
            let signature = commit.signature.as_deref();
            let what = format!("commit '{}'", resolved.commit);
            verified.push(self.signed(&what, &commit.content, signature, now)?);
        }
        if let (Span::Range, Some(base)) = (self.span, base) {
            verified.extend(self.range(mirror, base, resolved.commit, now)?);
        }
        Ok(format!("verified signature of {}", verified.join(" and of ")))
    }

    /// Every commit that the new one brings beside itself.
    fn range(
        &self,
        mirror: &Mirror,
        base: CommitId,
        tip: CommitId,
        now: Timestamp,
    ) -> Result<Option<String>, FetchError> {
        let history = mirror.since(base, tip)?;
        let mut count = 0;
        for commit in &history.commits {
            // The newest is verified as spec.verify.mode says.
            if *commit == tip && self.mode != Mode::Tag {
                continue;
            }
            let signed = match history.signed(*commit)? {
                Some(signed) => signed,
                None => mirror.signed_commit(*commit)?,
            };
            let what = format!("commit '{commit}', which came after '{base}',");
            self.signed(&what, &signed.content, signed.signature.as_deref(), now)?;
            count += 1;
        }
        Ok((count > 0).then(|| format!("{count} commit(s) since '{base}'")))
    }

    fn tag(&self, mirror: &Mirror, resolved: &Resolved, now: Timestamp) -> Result<String, FetchError> {
        let name = resolved.revision.reference().unwrap_or_default();
        let refused = |reason: String| {
            FetchError::Verification(format!("{reason} (spec.verify.mode {})", self.mode.name()))
        };
        let Some(id) = resolved.tag else {
            return Err(refused(format!(
                "'{name}' is not an annotated tag, and only such can be signed: set spec.ref.tag or spec.ref.semver, and tag with 'git tag -s'"
            )));
        };
        let tag = mirror.tag(resolved.commit, id)?;
        // A signed tag says what it is called and which commit it means: it must not stand for another.
        let short = name.strip_prefix("refs/tags/").unwrap_or(name);
        if tag.name != short {
            return Err(refused(format!(
                "the tag '{short}' is the signed tag {:?} under another name",
                tag.name
            )));
        }
        if tag.commit != Some(resolved.commit) {
            return Err(refused(format!(
                "the tag '{short}' leads to the commit through another tag"
            )));
        }
        let signature = tag.signed.signature.as_deref();
        self.signed(&format!("tag '{short}'"), &tag.signed.content, signature, now)
    }

    fn signed(
        &self,
        what: &str,
        content: &[u8],
        signature: Option<&[u8]>,
        now: Timestamp,
    ) -> Result<String, FetchError> {
        match self.keys.verify(content, signature, now) {
            Ok(key) => Ok(format!("{what} with key '{key}'")),
            Err(refusal) => {
                let hint = match refusal {
                    Refusal::UnknownKey(_) => {
                        ": add its public key to the Secret of spec.verify.secretRef, if it is to be trusted"
                    }
                    _ => "",
                };
                Err(FetchError::Verification(format!(
                    "signature verification of {what} failed: {refusal}{hint}"
                )))
            }
        }
    }
}
