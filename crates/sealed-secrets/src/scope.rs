//! Where a sealed item may be opened: the OAEP label binds it to a namespace and a name.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// Annotation that seals for every namespace and name; wins over [`NAMESPACE_WIDE`].
pub const CLUSTER_WIDE: &str = "sealedsecrets.bitnami.com/cluster-wide";
/// Annotation that seals for every name in one namespace.
pub const NAMESPACE_WIDE: &str = "sealedsecrets.bitnami.com/namespace-wide";

/// How far a sealed item may travel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Opens only under the namespace and name it was sealed for.
    #[default]
    Strict,
    /// Opens under any name of its namespace.
    NamespaceWide,
    /// Opens anywhere in the cluster.
    ClusterWide,
}

impl Scope {
    /// The scope that `annotations` of a SealedSecret (or of kubeseal's input Secret) state.
    ///
    /// Only the exact value `true` counts, as in the clients that wrote them.
    pub fn of(annotations: Option<&BTreeMap<String, String>>) -> Self {
        let says = |key| {
            annotations
                .and_then(|map| map.get(key))
                .is_some_and(|value| value == "true")
        };
        if says(CLUSTER_WIDE) {
            Self::ClusterWide
        } else if says(NAMESPACE_WIDE) {
            Self::NamespaceWide
        } else {
            Self::Strict
        }
    }

    /// The OAEP label of an object called `name` in `namespace`.
    ///
    /// Injective only for names without `/`: endpoints that take names from a caller check them first.
    pub fn label(self, namespace: &str, name: &str) -> Vec<u8> {
        match self {
            Self::Strict => format!("{namespace}/{name}").into_bytes(),
            Self::NamespaceWide => namespace.as_bytes().to_vec(),
            Self::ClusterWide => Vec::new(),
        }
    }

    /// The annotation that states this scope; none for strict, the default.
    pub fn annotation(self) -> Option<&'static str> {
        match self {
            Self::Strict => None,
            Self::NamespaceWide => Some(NAMESPACE_WIDE),
            Self::ClusterWide => Some(CLUSTER_WIDE),
        }
    }

    /// Replaces whatever scope `annotations` state by this one.
    pub fn annotate(self, annotations: &mut BTreeMap<String, String>) {
        annotations.remove(CLUSTER_WIDE);
        annotations.remove(NAMESPACE_WIDE);
        if let Some(key) = self.annotation() {
            annotations.insert(key.to_owned(), "true".to_owned());
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Strict => "strict",
            Self::NamespaceWide => "namespace-wide",
            Self::ClusterWide => "cluster-wide",
        })
    }
}

/// A scope that is none of the three.
#[derive(Debug, thiserror::Error)]
#[error("must be one of: strict, namespace-wide, cluster-wide")]
pub struct UnknownScope;

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        match text {
            "strict" => Ok(Self::Strict),
            "namespace-wide" => Ok(Self::NamespaceWide),
            "cluster-wide" => Ok(Self::ClusterWide),
            _ => Err(UnknownScope),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(pairs: &[(&str, &str)]) -> Scope {
        let map = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        Scope::of(Some(&map))
    }

    #[test]
    fn only_the_exact_true_counts() {
        assert_eq!(Scope::of(None), Scope::Strict);
        for value in ["TRUE", "1", " true", "true ", "", "false"] {
            assert_eq!(
                scope(&[(CLUSTER_WIDE, value), (NAMESPACE_WIDE, value)]),
                Scope::Strict,
                "{value:?}"
            );
        }
        assert_eq!(scope(&[(NAMESPACE_WIDE, "true")]), Scope::NamespaceWide);
        assert_eq!(
            scope(&[(NAMESPACE_WIDE, "true"), (CLUSTER_WIDE, "true")]),
            Scope::ClusterWide
        );
    }

    #[test]
    fn labels_bind_what_the_scope_says() {
        assert_eq!(Scope::Strict.label("ns", "name"), b"ns/name");
        assert_eq!(Scope::NamespaceWide.label("ns", "name"), b"ns");
        assert_eq!(Scope::ClusterWide.label("ns", "name"), b"");
    }

    #[test]
    fn names_round_trip() {
        for scope in [Scope::Strict, Scope::NamespaceWide, Scope::ClusterWide] {
            assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
        }
        assert_eq!(
            "Strict".parse::<Scope>().unwrap_err().to_string(),
            "must be one of: strict, namespace-wide, cluster-wide"
        );
    }
}
