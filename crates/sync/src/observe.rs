//! What a Kustomization wants (from Git) and what it has (from the cluster), without changing either.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Instant,
};

use crate::{
    api::{KustomizationSpec, OWNER_NAME, OWNER_NAMESPACE},
    cluster::{
        kinds::{Kind, Kinds},
        live::{Live, Need, Owner},
    },
    decide::{Candidate, Knowledge, Unplaced},
    git::{GitError, RepoPath},
    manifest::{
        ApplyPolicy, ContentDigest, Desired, Overlay, ParseCache, Problem, SourceFile, Variables, Wanted,
        digest, load,
    },
    object::{Gvk, Identity, ObjectId},
    order,
    source::Artifact,
};

/// Larger manifest files are refused: with the API server's limit of 3 MiB a request, they are no manifests.
pub const MAX_FILE: u64 = 10 << 20;

/// Why a path cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It does not exist.
    #[error(
        "the path {0:?} does not exist at this revision: correct spec.path or push it; nothing is deleted"
    )]
    PathMissing(String),
    /// It cannot be read.
    #[error("the path {0:?} cannot be read: {1}; nothing is deleted")]
    Git(String, GitError),
}

/// Blocking: loads the manifests under `path`.
pub fn manifests(
    artifact: &Artifact,
    path: &str,
    variables: Option<Arc<Variables>>,
    cache: &mut ParseCache,
) -> Result<Desired, LoadError> {
    let failed = |error| LoadError::Git(path.to_owned(), error);
    let repo_path = RepoPath::parse(path).map_err(failed)?;
    let snapshot = &artifact.snapshot;
    if snapshot.tree_id(&repo_path).map_err(failed)?.is_none() {
        return Err(LoadError::PathMissing(path.to_owned()));
    }
    let listing = snapshot.files(&repo_path, &artifact.ignore).map_err(failed)?;
    let files: Vec<SourceFile> = listing
        .files
        .into_iter()
        .filter(|file| is_manifest(&file.path))
        .map(|file| SourceFile {
            path: Arc::from(file.path),
            blob: file.blob,
        })
        .collect();
    let mut desired = load(&files, variables, cache, |file| {
        snapshot
            .read(file.blob, MAX_FILE)
            .map_err(|error| error.to_string())
    });
    desired
        .unreadable
        .extend(listing.problems.into_iter().map(|p| Problem {
            at: p.path,
            message: p.reason,
        }));
    Ok(desired)
}

/// Flux takes these two endings, in lower case.
fn is_manifest(path: &str) -> bool {
    path.rsplit_once('.')
        .is_some_and(|(_, ending)| matches!(ending, "yaml" | "yml"))
}

/// The labels and annotations that every object of a Kustomization gets.
pub fn overlay(owner: &Owner, spec: &KustomizationSpec) -> Overlay {
    let common = spec.common_metadata.clone().unwrap_or_default();
    let mut overlay = Overlay {
        labels: common.labels,
        annotations: common.annotations,
    };
    overlay.labels.insert(OWNER_NAME.into(), owner.name.clone());
    overlay
        .labels
        .insert(OWNER_NAMESPACE.into(), owner.namespace.clone());
    overlay
}

/// The fields that are not built yet and are set.
pub fn unsupported(spec: &KustomizationSpec) -> Vec<&'static str> {
    [
        ("spec.targetNamespace", spec.target_namespace.is_some()),
        ("spec.namePrefix", spec.name_prefix.is_some()),
        ("spec.nameSuffix", spec.name_suffix.is_some()),
        ("spec.patches", !spec.patches.is_empty()),
        ("spec.images", !spec.images.is_empty()),
        ("spec.components", !spec.components.is_empty()),
        ("spec.buildMetadata", !spec.build_metadata.is_empty()),
        ("spec.decryption", spec.decryption.is_some()),
        ("spec.kubeConfig", spec.kube_config.is_some()),
        (
            "spec.dependsOn[].readyExpr",
            spec.depends_on.iter().any(|on| on.ready_expr.is_some()),
        ),
        ("spec.healthCheckExprs", !spec.health_check_exprs.is_empty()),
        ("spec.force", spec.force),
        ("spec.ignore", !spec.ignore.is_empty()),
    ]
    .into_iter()
    .filter_map(|(field, set)| set.then_some(field))
    .collect()
}

/// An object that can be applied: its place among the desired ones, and its kind.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Index in [`Desired::objects`].
    pub index: usize,
    /// Its kind in the cluster.
    pub kind: Arc<Kind>,
    /// Digest of what is applied: the manifest and the overlay.
    pub content: ContentDigest,
}

/// Everything `decide` needs, and what `act` needs to carry it out.
#[derive(Debug, Default)]
pub struct Observation {
    /// What can be applied, in Git's order.
    pub candidates: Vec<Candidate>,
    /// Parallel to `candidates`.
    pub placed: Vec<Placed>,
    /// What is wanted and has no place.
    pub unplaced: BTreeSet<Unplaced>,
    /// Indices of objects whose kind the API server does not serve.
    pub parked: Vec<usize>,
    /// What is wrong with single objects.
    pub problems: Vec<Problem>,
}

/// The kinds that are wanted and that the API server is not known to serve.
pub fn unknown_kinds<'a>(desired: &'a Desired, kinds: &Kinds) -> HashSet<Gvk<'a>> {
    let mut wanted: HashSet<Gvk<'_>> = desired.objects.iter().map(Wanted::gvk).collect();
    wanted.retain(|gvk| kinds.find(*gvk).is_none());
    wanted
}

/// What is known of the cluster without asking it.
pub struct Cluster<'a> {
    /// Kinds that are served.
    pub kinds: &'a Kinds,
    /// What is known of objects.
    pub live: &'a Live,
    /// The other Kustomization that has the object, if one does.
    pub claimed: &'a (dyn Fn(&ObjectId) -> Option<Owner> + Sync),
}

/// Places every wanted object in the cluster and asks what it needs. No request is made.
pub fn place(desired: &Desired, overlay: &Overlay, cluster: &Cluster<'_>, now: Instant) -> Observation {
    let (kinds, live) = (cluster.kinds, cluster.live);
    let overlay_digest = overlay_digest(overlay);
    let mut found: HashMap<Gvk<'_>, Option<Arc<Kind>>> = HashMap::new();
    let mut seen = Observation::default();
    for (index, wanted) in desired.objects.iter().enumerate() {
        let kind = found
            .entry(wanted.gvk())
            .or_insert_with(|| kinds.find(wanted.gvk()).map(Arc::new))
            .clone();
        let unplaced = || Unplaced {
            group: wanted.id.group.clone(),
            kind: wanted.id.kind.clone(),
            name: wanted.id.name.clone(),
        };
        let Some(kind) = kind else {
            seen.parked.push(index);
            seen.unplaced.insert(unplaced());
            continue;
        };
        if kind.namespaced && wanted.id.namespace.is_empty() {
            seen.problems.push(Problem {
                at: wanted.origin.to_string(),
                message: format!(
                    "{} {:?} needs a metadata.namespace",
                    wanted.id.kind, wanted.id.name
                ),
            });
            seen.unplaced.insert(unplaced());
            continue;
        }
        if wanted.policy == ApplyPolicy::Ignore {
            seen.unplaced.insert(unplaced());
            continue;
        }
        let id = if kind.namespaced || wanted.id.namespace.is_empty() {
            wanted.id.clone()
        } else {
            let identity = Identity {
                namespace: String::new(),
                ..(*wanted.id).clone()
            };
            identity.into()
        };
        if let Some(other) = (cluster.claimed)(&id) {
            seen.problems.push(Problem {
                at: wanted.origin.to_string(),
                message: format!(
                    "{id} belongs to the Kustomization {}/{}, which keeps it: remove it from one of the two",
                    other.namespace, other.name
                ),
            });
            seen.unplaced.insert(unplaced());
            continue;
        }
        let content = combine(&wanted.digest, &overlay_digest);
        let need = live.need(&id, &content, now);
        let stage = order::stage(wanted.gvk());
        seen.candidates.push(Candidate {
            id,
            version: Arc::clone(&wanted.version),
            stage,
            need,
        });
        seen.placed.push(Placed { index, kind, content });
    }
    seen
}

/// Whether all that Git wants is known.
pub fn knowledge(desired: &Desired) -> Knowledge {
    if !desired.unreadable.is_empty() {
        Knowledge::Partial
    } else if desired.objects.is_empty() {
        Knowledge::Empty
    } else {
        Knowledge::Complete
    }
}

/// Whether all that Git wants is applied, as far as is known after the plan was carried out without a failure.
pub fn all_applied(seen: &Observation, desired: &Desired) -> bool {
    let stands = |candidate: &Candidate| matches!(candidate.need, Need::Failed(..) | Need::Flapping(_));
    seen.parked.is_empty()
        && seen.problems.is_empty()
        && desired.unreadable.is_empty()
        && desired.problems.is_empty()
        && !seen.candidates.iter().any(stands)
}

/// What stands in the way of objects that need something but are not applied now.
pub fn standing_problems(seen: &Observation, desired: &Desired) -> Vec<Problem> {
    let mut problems = Vec::new();
    for (candidate, placed) in seen.candidates.iter().zip(&seen.placed) {
        let message = match &candidate.need {
            Need::Failed(failure, _) => failure.message.clone(),
            Need::Flapping(left) => format!(
                "something changes it again and again; it is left alone for {} s: find out who with \
                 kubectl get --show-managed-fields",
                left.as_secs()
            ),
            _ => continue,
        };
        let at = desired
            .objects
            .get(placed.index)
            .map_or_else(String::new, |object| object.origin.to_string());
        problems.push(Problem {
            at,
            message: format!("{}: {message}", candidate.id),
        });
    }
    problems
}

fn overlay_digest(overlay: &Overlay) -> ContentDigest {
    digest(&serde_json::json!({ "labels": overlay.labels, "annotations": overlay.annotations }))
}

fn combine(a: &ContentDigest, b: &ContentDigest) -> ContentDigest {
    let mut out = *a;
    // Both are digests: XOR with a rotated one keeps every change visible.
    for (byte, other) in out.iter_mut().zip(b.iter().rev()) {
        *byte ^= *other;
    }
    out
}
