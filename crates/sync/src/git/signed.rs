//! What of a commit or tag is signed, and by what signature, as Git stores them.

use gix_object::{CommitRefIter, FindExt as _, Kind, TagRef};

use super::{CommitId, GitError, TagId, generation::Generation, transport::chain};

/// Git looks for the last of these lines in a tag's message.
const SIGNATURES: [&[u8]; 2] = [b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"];

/// An object of Git that can carry a signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// What the signature is about.
    pub content: Vec<u8>,
    /// The signature, armored; nothing if there is none.
    pub signature: Option<Vec<u8>>,
}

/// A tag object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tag {
    /// The name it was made with: a tag that was moved to another name still says its own.
    pub name: String,
    /// What it points to, if that is a commit.
    pub commit: Option<CommitId>,
    /// Its signature.
    pub signed: Signed,
}

pub(super) fn commit(generation: &Generation, id: CommitId) -> Result<Signed, GitError> {
    let mut buffer = Vec::new();
    let data = find(generation, &id.0, Kind::Commit, &mut buffer)?;
    let parsed = CommitRefIter::signature(data, generation.kind)
        .map_err(|error| GitError::Corrupt(format!("commit '{id}': {}", chain(&error))))?;
    Ok(match parsed {
        None => Signed {
            content: data.to_vec(),
            signature: None,
        },
        Some((signature, content)) => Signed {
            content: content.to_bstring().into(),
            signature: Some(signature.to_vec()),
        },
    })
}

pub(super) fn tag(generation: &Generation, id: TagId) -> Result<Tag, GitError> {
    let mut buffer = Vec::new();
    let data = find(generation, &id.0, Kind::Tag, &mut buffer)?;
    let parsed = TagRef::from_bytes(data, generation.kind)
        .map_err(|error| GitError::Corrupt(format!("tag '{id}': {}", chain(&error))))?;
    let commit = (parsed.target_kind == Kind::Commit).then(|| CommitId(parsed.target()));
    let at = data
        .split_inclusive(|byte| *byte == b'\n')
        .scan(0, |end, line| {
            let begin = *end;
            *end += line.len();
            Some((begin, line))
        })
        .filter(|(_, line)| SIGNATURES.iter().any(|begin| line.starts_with(begin)))
        .last()
        .map(|(begin, _)| begin);
    let (content, signature) = data.split_at(at.unwrap_or(data.len()));
    Ok(Tag {
        name: parsed.name.to_string(),
        commit,
        signed: Signed {
            content: content.to_vec(),
            signature: at.map(|_| signature.to_vec()),
        },
    })
}

fn find<'a>(
    generation: &Generation,
    id: &gix_hash::oid,
    kind: Kind,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], GitError> {
    let handle = generation.handle();
    match handle.find(id, buffer) {
        Ok(found) if found.kind == kind => Ok(found.data),
        Ok(found) => Err(GitError::Corrupt(format!(
            "'{id}' is a {} and should be a {kind}",
            found.kind
        ))),
        Err(error) => Err(GitError::Corrupt(chain(&error))),
    }
}
