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
    manifest::{ApplyPolicy, ContentDigest, Desired, Overlay, Problem, Wanted, digest},
    object::{Gvk, Identity, ObjectId},
    order,
};

pub use crate::gather::{Build, LoadError, MAX_FILE, manifests};

/// The labels and annotations that every object of a Kustomization gets.
pub fn overlay(owner: &Owner, spec: &KustomizationSpec) -> Overlay {
    let common = spec.common_metadata.clone().unwrap_or_default();
    let mut overlay = Overlay {
        labels: common.labels,
        annotations: common.annotations,
        ignored: spec.ignore.clone(),
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
        ("spec.decryption", spec.decryption.is_some()),
        (
            "spec.kubeConfig",
            spec.kube_config
                .as_ref()
                .is_some_and(|it| it.secret_ref.is_none() && it.config_map_ref.is_none()),
        ),
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
    /// Objects that another Kustomization has and keeps.
    pub contested: Vec<(ObjectId, Owner)>,
    /// Objects that another Kustomization is about to hand over.
    pub in_transit: Vec<(ObjectId, Owner)>,
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
    /// The other Kustomization that has the object, if one does, and whether it keeps it.
    pub claimed: &'a (dyn Fn(&ObjectId) -> Option<(Owner, Claim)> + Sync),
}

/// What becomes of an object that another Kustomization has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The other one wants it, too, and had it first.
    Keeps,
    /// The other one no longer wants it, and is about to hand it over.
    Leaves,
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
        if live.is_frozen(&id) {
            seen.unplaced.insert(unplaced());
            continue;
        }
        if let Some((other, claim)) = (cluster.claimed)(&id) {
            seen.unplaced.insert(unplaced());
            if claim == Claim::Leaves {
                seen.in_transit.push((id, other));
                continue;
            }
            seen.problems.push(Problem {
                at: wanted.origin.to_string(),
                message: format!(
                    "{id} belongs to the Kustomization {}/{}, which keeps it: remove it from one of the two",
                    other.namespace, other.name
                ),
            });
            seen.contested.push((id, other));
            continue;
        }
        let content = combine(&wanted.digest, &overlay_digest);
        let need = match live.need(&id, &content, now) {
            Need::Missing if wanted.expires => Need::Left,
            need => need,
        };
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
        && seen.in_transit.is_empty()
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
    let mut all = serde_json::json!({ "labels": overlay.labels, "annotations": overlay.annotations });
    if !overlay.ignored.is_empty() {
        all["ignored"] = serde_json::json!(overlay.ignored);
    }
    digest(&all)
}

fn combine(a: &ContentDigest, b: &ContentDigest) -> ContentDigest {
    let mut out = *a;
    // Both are digests: XOR with a rotated one keeps every change visible.
    for (byte, other) in out.iter_mut().zip(b.iter().rev()) {
        *byte ^= *other;
    }
    out
}
