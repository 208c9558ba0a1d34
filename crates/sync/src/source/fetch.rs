//! One look at a repository: from its settings to a fetched revision. Everything here blocks.

use std::{collections::BTreeSet, fmt::Write as _, sync::Arc, time::Instant};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use sha2::{Digest as _, Sha256};

use super::{
    Artifact, SourceKey,
    error::{CIRCLE, FetchError},
    rewind::{self, Base, Guard, Held},
    settings::Settings,
    verify::{Mode, Span},
};
use crate::{
    api::{self, GitRepositoryInclude, GitRepositorySpec},
    git::{
        CommitId, FileUrls, GitError, IgnoreRules, Mirror, Mirrors, Part, Reference, ReferenceSpec, Remote,
        RepoPath, Resolved, Revision, Snapshot,
    },
};

/// Submodules inside of submodules.
const SUBMODULE_DEPTH: u32 = 8;
/// All submodules of a source.
const SUBMODULES: usize = 200;

/// A source that is included, with what it has.
pub(super) struct Included {
    pub(super) include: GitRepositoryInclude,
    pub(super) key: SourceKey,
    pub(super) artifact: Arc<Artifact>,
}

/// What a look needs.
pub(super) struct Look {
    pub(super) mirrors: Mirrors,
    pub(super) settings: Settings,
    pub(super) file_urls: FileUrls,
    pub(super) key: SourceKey,
    pub(super) spec: GitRepositorySpec,
    pub(super) includes: Vec<Included>,
    /// What was fetched before.
    pub(super) base: Option<Base>,
    pub(super) guard: Guard,
    /// A move that is held already.
    pub(super) held: Option<Held>,
    pub(super) now: Timestamp,
}

/// What a look came to.
pub(super) struct Fetched {
    pub(super) artifact: Arc<Artifact>,
    /// When the server was asked what there is.
    pub(super) listed: Instant,
    /// Whether somebody else had asked.
    pub(super) shared: bool,
}

/// Whether the network may be used.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Network {
    Used,
    Unused,
}

impl Look {
    /// Asks for the revision, unless the server was asked after `since`, and fetches it unless it is `known` already.
    pub(super) fn fetch(&self, known: Option<Arc<Artifact>>, since: Instant) -> Result<Fetched, FetchError> {
        let reference = self.reference()?;
        let mirror = self.mirrors.open(self.settings.remote.clone())?;
        let begun = Instant::now();
        let polled = mirror.resolve_since(&reference, since)?;
        let resolved = polled.resolved;
        let fetched = |artifact| Fetched {
            artifact,
            listed: polled.at,
            shared: polled.shared,
        };
        if let Some(known) = known
            && known.digest == self.digest(&resolved.revision)
            && mirror.contains(resolved.commit)
        {
            return Ok(fetched(known));
        }
        self.hold(&reference, &mirror, &resolved)?;
        mirror.fetch(&resolved)?;
        let base = self.base.as_ref().map(|base| base.0.commit());
        let verified = self.verify(&mirror, &resolved, base)?;
        let artifact = self.assemble(&resolved, verified, Network::Used, begun)?;
        Ok(fetched(Arc::new(artifact)))
    }

    /// Fails when the branch takes back what was fetched before and nobody wanted that.
    fn hold(&self, reference: &Reference, mirror: &Mirror, resolved: &Resolved) -> Result<(), FetchError> {
        let Some(base) = &self.base else { return Ok(()) };
        if !self.guard.watches(base, reference, resolved) {
            return Ok(());
        }
        if let Some(held) = self.held.as_ref().filter(|held| held.is(base, resolved)) {
            return Err(FetchError::Rewound(Box::new(held.clone())));
        }
        mirror.fetch(resolved)?;
        Guard::check(base, mirror, resolved, &self.key)
    }

    /// The revision that the status names, if the mirror still has it: what was applied before a restart goes on being
    /// applied while the repository is out of reach.
    pub(super) fn recall(&self, described: &api::Artifact) -> Result<Option<Arc<Artifact>>, FetchError> {
        let revision: Revision = described.revision.parse()?;
        let resolved = Resolved::from(revision);
        let mirror = self.mirrors.open(self.settings.remote.clone())?;
        if !mirror.contains(resolved.commit) {
            return Ok(None);
        }
        // Not known which tag led here: the server has to be asked.
        if self
            .settings
            .verification
            .as_ref()
            .is_some_and(|wanted| wanted.mode != Mode::Head)
        {
            return Ok(None);
        }
        let verified = self.verify(&mirror, &resolved, None)?;
        let artifact = self.assemble(&resolved, verified, Network::Unused, Instant::now())?;
        Ok(Some(Arc::new(artifact)))
    }

    /// A revision that was fetched before. No request is made if the mirror still has it.
    pub(super) fn revisit(&self, revision: &str) -> Result<Artifact, FetchError> {
        let resolved = Resolved::from(revision.parse::<Revision>()?);
        let mirror = self.mirrors.open(self.settings.remote.clone())?;
        let begun = Instant::now();
        mirror.fetch(&resolved)?;
        let verified = self.verify(&mirror, &resolved, None)?;
        self.assemble(&resolved, verified, Network::Used, begun)
    }

    fn verify(
        &self,
        mirror: &Mirror,
        resolved: &Resolved,
        base: Option<CommitId>,
    ) -> Result<Option<String>, FetchError> {
        let Some(wanted) = &self.settings.verification else {
            return Ok(None);
        };
        wanted.check(mirror, resolved, base, self.now).map(Some)
    }

    fn assemble(
        &self,
        resolved: &Resolved,
        verified: Option<String>,
        network: Network,
        begun: Instant,
    ) -> Result<Artifact, FetchError> {
        let kept = self
            .spec
            .sparse_checkout
            .iter()
            .map(|path| RepoPath::parse(path))
            .collect::<Result<Vec<_>, _>>()?;
        let mirror = self.mirrors.open(self.settings.remote.clone())?;
        let mut snapshot = mirror.snapshot(resolved.commit)?;
        if self.spec.recurse_submodules == Some(true) {
            let mut submodules = Submodules {
                look: self,
                network,
                begun,
                count: 0,
            };
            snapshot =
                submodules.put_into(snapshot, &self.settings.remote, &RepoPath::default(), &kept, 0)?;
        }
        snapshot = snapshot.keep(kept)?;
        let (parts, includes) = self.included()?;
        let parts_missing = parts
            .iter()
            .find(|(part, _)| !matches!(part.snapshot.tree_id(&part.from), Ok(Some(_))));
        if let Some((part, name)) = parts_missing {
            return Err(FetchError::Field(format!(
                "spec.include: the directory {:?} does not exist in GitRepository {name:?} at its revision",
                part.from.to_string()
            )));
        }
        let snapshot = snapshot.with(parts.into_iter().map(|(part, _)| part).collect());
        let revision = resolved.revision.to_string();
        let digest = self.digest(&resolved.revision);
        Ok(Artifact {
            described: api::Artifact {
                path: format!("gitrepository/{}/{}/{}", self.key.0, self.key.1, resolved.commit),
                url: String::new(),
                revision: revision.clone(),
                digest: Some(digest.clone()),
                last_update_time: Time(self.now),
                size: None,
                metadata: Some(rewind::origin(&self.spec.url)),
            },
            revision,
            digest,
            verified,
            snapshot,
            ignore: IgnoreRules::new(self.spec.ignore.as_deref())?,
            includes,
        })
    }

    /// The included files, each with the name of its source; and all sources that are in them.
    #[expect(clippy::type_complexity, reason = "two lists that are made in one pass")]
    fn included(&self) -> Result<(Vec<(Part, String)>, BTreeSet<SourceKey>), FetchError> {
        let mut all = BTreeSet::new();
        let mut parts = Vec::new();
        for Included {
            include,
            key,
            artifact,
        } in &self.includes
        {
            if *key == self.key || artifact.includes.contains(&self.key) {
                return Err(FetchError::Include {
                    name: key.1.clone(),
                    problem: "includes this one: includes must not lead in a circle",
                    reason: CIRCLE,
                });
            }
            all.insert(key.clone());
            all.extend(artifact.includes.iter().cloned());
            let at = include.to_path.as_deref().filter(|path| !path.is_empty());
            parts.push((
                Part {
                    at: RepoPath::parse(at.unwrap_or(&key.1))?,
                    from: RepoPath::parse(include.from_path.as_deref().unwrap_or_default())?,
                    snapshot: artifact.snapshot.clone(),
                    ignore: Some(artifact.ignore.clone()),
                },
                key.1.clone(),
            ));
        }
        Ok((parts, all))
    }

    /// Names all that an artifact of this revision depends on.
    fn digest(&self, revision: &Revision) -> String {
        let mut hash = Sha256::new();
        let mut part = |text: &str| {
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        };
        part(&revision.to_string());
        part(self.spec.ignore.as_deref().unwrap_or("\0"));
        part(if self.spec.recurse_submodules == Some(true) {
            "submodules"
        } else {
            ""
        });
        for directory in &self.spec.sparse_checkout {
            part("keep");
            part(directory);
        }
        if let Some(wanted) = &self.settings.verification {
            // What was verified otherwise, or not at all, is another artifact.
            part("verify");
            part(wanted.mode.name());
            part(wanted.keys.digest());
            if wanted.span == Span::Range {
                part("range");
            }
        }
        for Included {
            include, artifact, ..
        } in &self.includes
        {
            part("include");
            part(&include.repository.name);
            part(include.from_path.as_deref().unwrap_or_default());
            part(include.to_path.as_deref().unwrap_or_default());
            part(&artifact.digest);
        }
        let hash = hash.finalize();
        let mut digest = String::from("sha256:");
        for byte in hash {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        digest
    }

    fn reference(&self) -> Result<Reference, FetchError> {
        let Some(reference) = &self.spec.reference else {
            return Ok(Reference::from_spec(ReferenceSpec::default())?);
        };
        Ok(Reference::from_spec(ReferenceSpec {
            branch: reference.branch.as_deref(),
            tag: reference.tag.as_deref(),
            semver: reference.semver.as_deref(),
            name: reference.name.as_deref(),
            commit: reference.commit.as_deref(),
        })?)
    }
}

/// Fetches submodules; the time of the whole look bounds them together.
struct Submodules<'a> {
    look: &'a Look,
    network: Network,
    begun: Instant,
    count: usize,
}

impl Submodules<'_> {
    /// `at` is where `snapshot` will be; only submodules that are in or above a directory of `kept` are fetched.
    fn put_into(
        &mut self,
        snapshot: Snapshot,
        remote: &Remote,
        at: &RepoPath,
        kept: &[RepoPath],
        depth: u32,
    ) -> Result<Snapshot, GitError> {
        let mut parts = Vec::new();
        for submodule in snapshot.submodules()? {
            let path = at.join(&submodule.path);
            if !kept.is_empty() && !kept.iter().any(|kept| path.is_in(kept) || kept.is_in(&path)) {
                continue;
            }
            self.count += 1;
            if depth >= SUBMODULE_DEPTH || self.count > SUBMODULES {
                return Err(GitError::InvalidSubmodule {
                    name: path.to_string(),
                    reason: format!(
                        "there are more than {SUBMODULES} submodules, or more than {SUBMODULE_DEPTH} inside one another"
                    ),
                });
            }
            let failed = |source| GitError::Submodule {
                name: path.to_string(),
                source: Box::new(source),
            };
            let mut remote = submodule.remote(remote, self.look.file_urls)?;
            remote.timeout = self
                .look
                .settings
                .remote
                .timeout
                .saturating_sub(self.begun.elapsed());
            let mirror = self.look.mirrors.open(remote.clone()).map_err(failed)?;
            let resolved = Resolved::from(Revision::new(None, submodule.commit));
            if self.network == Network::Used {
                mirror.fetch(&resolved).map_err(failed)?;
            }
            let inner = mirror.snapshot(submodule.commit).map_err(failed)?;
            parts.push(Part {
                at: submodule.path,
                from: RepoPath::default(),
                snapshot: self.put_into(inner, &remote, &path, kept, depth + 1)?,
                ignore: None,
            });
        }
        Ok(snapshot.with(parts))
    }
}
