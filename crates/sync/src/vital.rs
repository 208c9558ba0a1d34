//! Pure: what a Kustomization does not delete, whatever Git says: the ground that it and this controller stand on. Its end would
//! be the end of everything else, past every budget.

use kube::CustomResourceExt as _;

use crate::{
    api::{GitRepository, Kustomization, Receiver},
    cluster::{identity::ClusterId, live::Owner},
    object::ObjectId,
    reconcile::Step,
    source::SourceKey,
};

/// Where this controller runs.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Its namespace.
    pub namespace: String,
    /// Its Pod.
    pub pod: String,
}

/// What stays.
#[derive(Clone, Debug)]
pub struct Vital<'a> {
    /// Where this controller runs.
    pub place: &'a Place,
    /// The Kustomization and its source, as long as it is not itself being deleted.
    pub own: Option<(&'a Owner, SourceKey)>,
}

impl Vital<'_> {
    /// Why an object stays although Git no longer wants it.
    pub fn reason_to_keep(&self, id: &ObjectId) -> Option<&'static str> {
        let is = |group: &str, kind: &str| id.group == group && id.kind == kind;
        let crds = [
            GitRepository::crd_name(),
            Kustomization::crd_name(),
            Receiver::crd_name(),
        ];
        if is("apiextensions.k8s.io", "CustomResourceDefinition") && crds.contains(&id.name.as_str()) {
            return Some("every object of its kind would go with it: delete it by hand if it should go");
        }
        if is("", "Namespace") && id.name == self.place.namespace {
            return Some("this controller runs in it: delete it by hand if it should go");
        }
        if is("apps", "Deployment")
            && id.namespace == self.place.namespace
            && deployment(&self.place.pod) == Some(&id.name)
        {
            return Some("it is this controller: delete it by hand if it should go");
        }
        let (owner, source) = self.own.as_ref()?;
        if is("", "Namespace") && id.name == owner.namespace {
            return Some("this Kustomization is in it: delete it by hand if it should go");
        }
        if is("kustomize.toolkit.fluxcd.io", "Kustomization")
            && (&id.namespace, &id.name) == (&owner.namespace, &owner.name)
        {
            return Some(
                "it is this Kustomization: delete it by hand if it should go, with all that it applied",
            );
        }
        if is("source.toolkit.fluxcd.io", "GitRepository")
            && (&id.namespace, &id.name) == (&source.0, &source.1)
        {
            return Some("it is the source of this Kustomization: delete it by hand if it should go");
        }
        None
    }
}

/// The Deployment that a Pod is of, by the names that Kubernetes gives.
fn deployment(pod: &str) -> Option<&str> {
    let (replica_set, _) = pod.rsplit_once('-')?;
    Some(replica_set.rsplit_once('-')?.0)
}

/// Of a cluster where this controller does not run.
static ELSEWHERE: Place = Place {
    namespace: String::new(),
    pod: String::new(),
};

impl Step<'_> {
    /// What this Kustomization does not delete.
    pub(crate) fn vital(&self) -> Vital<'_> {
        let is_home = self.cluster.id == ClusterId::Home;
        let lives = self.object.metadata.deletion_timestamp.is_none();
        Vital {
            place: if is_home {
                &self.context.settings.place
            } else {
                &ELSEWHERE
            },
            own: (is_home && lives).then(|| (self.owner, self.source_key())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Identity;

    #[test]
    fn the_ground_stays_and_nothing_else_does() {
        let place = Place {
            namespace: "flux-system".into(),
            pod: "plumbline-sync-7d4f9-x2x".into(),
        };
        let owner = Owner {
            namespace: "team".into(),
            name: "app".into(),
        };
        let alive = Vital {
            place: &place,
            own: Some((&owner, ("team".into(), "repo".into()))),
        };
        let dying = Vital {
            place: &place,
            own: None,
        };
        let id = |text: &str| -> ObjectId {
            let parts: Vec<&str> = text.split(' ').collect();
            let identity = Identity {
                group: parts[0].into(),
                kind: parts[1].into(),
                namespace: parts[2].into(),
                name: parts[3].into(),
            };
            identity.into()
        };
        let (crd, kustomization) = (
            "apiextensions.k8s.io CustomResourceDefinition",
            "kustomize.toolkit.fluxcd.io Kustomization",
        );
        for (text, kept) in [
            (
                format!("{crd}  kustomizations.kustomize.toolkit.fluxcd.io"),
                (true, true),
            ),
            (
                format!("{crd}  gitrepositories.source.toolkit.fluxcd.io"),
                (true, true),
            ),
            (format!("{crd}  things.example.org"), (false, false)),
            (" Namespace  flux-system".into(), (true, true)),
            (" Namespace  team".into(), (true, false)),
            (" Namespace  other".into(), (false, false)),
            ("apps Deployment flux-system plumbline-sync".into(), (true, true)),
            ("apps Deployment other plumbline-sync".into(), (false, false)),
            (
                "apps Deployment flux-system plumbline-sync-7d4f9".into(),
                (false, false),
            ),
            (format!("{kustomization} team app"), (true, false)),
            (format!("{kustomization} team other"), (false, false)),
            (
                "source.toolkit.fluxcd.io GitRepository team repo".into(),
                (true, false),
            ),
            (
                "source.toolkit.fluxcd.io GitRepository other repo".into(),
                (false, false),
            ),
        ] {
            let id = id(&text);
            let kept_by = (
                alive.reason_to_keep(&id).is_some(),
                dying.reason_to_keep(&id).is_some(),
            );
            assert_eq!(kept_by, kept, "{text}");
        }
        assert_eq!(deployment("a"), None);
    }
}
