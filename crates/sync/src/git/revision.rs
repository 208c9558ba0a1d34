//! Revisions as a status prints them (Flux's RFC-0005): `main@sha1:…`, `sha1:…`, `refs/pull/1/head@sha1:…`.

use std::{fmt, str::FromStr};

use gix_hash::{Kind, ObjectId};

use super::GitError;

macro_rules! object_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub(super) ObjectId);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = GitError;

            fn from_str(hex: &str) -> Result<Self, GitError> {
                parse_hex(hex).map(Self)
            }
        }
    };
}

object_id!(
    /// Names a commit: its SHA-1 or SHA-256 in hex.
    CommitId
);
object_id!(
    /// Names the content of a directory, all below it included.
    TreeId
);
object_id!(
    /// Names the content of a file.
    BlobId
);

object_id!(
    /// Names a tag object: what an annotated or signed tag is, besides the commit it leads to.
    TagId
);

impl BlobId {
    /// The raw hash, for maps on disk.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

fn parse_hex(hex: &str) -> Result<ObjectId, GitError> {
    ObjectId::from_hex(hex.as_bytes())
        .map_err(|_| GitError::InvalidReference(format!("{hex:?} is not a full SHA-1 or SHA-256 in hex")))
}

/// A commit and the reference it was found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Revision {
    reference: Option<String>,
    commit: CommitId,
}

impl Revision {
    /// `reference` is a branch or tag by its short name, another reference by its full name, or nothing.
    pub const fn new(reference: Option<String>, commit: CommitId) -> Self {
        Self { reference, commit }
    }

    /// The commit.
    pub const fn commit(&self) -> CommitId {
        self.commit
    }

    /// The reference as printed before the `@`.
    pub fn reference(&self) -> Option<&str> {
        self.reference.as_deref()
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(reference) = &self.reference {
            write!(f, "{reference}@")?;
        }
        let algorithm = match self.commit.0.kind() {
            Kind::Sha256 => "sha256",
            _ => "sha1",
        };
        write!(f, "{algorithm}:{}", self.commit)
    }
}

impl FromStr for Revision {
    type Err = GitError;

    fn from_str(text: &str) -> Result<Self, GitError> {
        let invalid =
            || GitError::InvalidReference(format!("{text:?} is not a revision like main@sha1:<commit>"));
        // A reference may hold an '@', a digest cannot.
        let (reference, digest) = match text.rsplit_once('@') {
            Some((reference, digest)) => (Some(reference.to_owned()), digest),
            None => (None, text),
        };
        let (algorithm, hex) = digest.split_once(':').ok_or_else(invalid)?;
        let id = parse_hex(hex)?;
        let matches = match id.kind() {
            Kind::Sha256 => algorithm == "sha256",
            _ => algorithm == "sha1",
        };
        if !matches || reference.as_deref() == Some("") {
            return Err(invalid());
        }
        Ok(Self::new(reference, CommitId(id)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_print_and_parse_as_flux_writes_them() {
        let sha1 = "0123456789012345678901234567890123456789";
        let sha256 = "0123456789012345678901234567890123456789012345678901234567890123";
        for text in [
            format!("main@sha1:{sha1}"),
            format!("sha1:{sha1}"),
            format!("refs/pull/1/head@sha1:{sha1}"),
            format!("v1.2@sha1:{sha1}"),
            format!("odd@name@sha1:{sha1}"),
            format!("main@sha256:{sha256}"),
        ] {
            assert_eq!(text.parse::<Revision>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_digest_of_another_algorithm_or_length_is_refused() {
        let sha1 = "0123456789012345678901234567890123456789";
        for text in [
            format!("main@sha256:{sha1}"),
            format!("@sha1:{sha1}"),
            "main".to_owned(),
            "main@sha1:abc".to_owned(),
            String::new(),
        ] {
            assert!(text.parse::<Revision>().is_err(), "{text}");
        }
    }
}
