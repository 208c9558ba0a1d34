//! What a workload can depend on: a ConfigMap, a Secret or a SecretProviderClass of its namespace.

use std::{fmt, str::FromStr};

/// The kinds of source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourceKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A SecretProviderClass of the secrets-store CSI driver.
    SecretProviderClass,
}

impl SourceKind {
    /// All kinds, in the order in which they are written.
    pub const ALL: [Self; 3] = [Self::ConfigMap, Self::Secret, Self::SecretProviderClass];

    /// The short prefix used in the state annotation.
    pub const fn short(self) -> &'static str {
        match self {
            Self::ConfigMap => "cm",
            Self::Secret => "sec",
            Self::SecretProviderClass => "spc",
        }
    }

    /// Stakater's word for the kind, in variable names, `last-reloaded-from` and alerts.
    pub const fn shout(self) -> &'static str {
        match self {
            Self::ConfigMap => "CONFIGMAP",
            Self::Secret => "SECRET",
            Self::SecretProviderClass => "SECRETPROVIDERCLASS",
        }
    }

    /// The kind's name in the API.
    pub const fn kind(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::SecretProviderClass => "SecretProviderClass",
        }
    }

    /// The plural that Stakater uses in metrics and flags.
    pub const fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
            Self::SecretProviderClass => "secretproviderclasspodstatuses",
        }
    }
}

/// A source within the namespace of its workload, written `cm/app`, or of another one, written `cm/infra/ca`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SourceKey {
    /// What it is.
    pub kind: SourceKind,
    /// Its name.
    pub name: String,
}

impl SourceKey {
    /// The namespace and the name of the object itself: a name with a slash is that of another namespace.
    pub fn home<'a>(&'a self, namespace: &'a str) -> (&'a str, &'a str) {
        self.name.split_once('/').unwrap_or((namespace, &self.name))
    }

    /// A key from its parts.
    pub fn new(kind: SourceKind, name: impl Into<String>) -> Self {
        Self {
            kind,
            name: name.into(),
        }
    }
}

impl fmt::Display for SourceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.kind.short(), self.name)
    }
}

/// A text that is not `cm/…`, `sec/…` or `spc/…`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a source: expected cm/NAME, sec/NAME or spc/NAME")]
pub struct UnknownSource(pub String);

impl FromStr for SourceKey {
    type Err = UnknownSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (short, name) = text.split_once('/').ok_or_else(|| UnknownSource(text.into()))?;
        SourceKind::ALL
            .into_iter()
            .find(|kind| kind.short() == short && !name.is_empty())
            .map(|kind| Self::new(kind, name))
            .ok_or_else(|| UnknownSource(text.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_being_written_and_read() {
        for kind in SourceKind::ALL {
            let key = SourceKey::new(kind, "my.app-config");
            assert_eq!(key.to_string().parse(), Ok(key));
        }
        for junk in ["", "cm", "cm/", "pod/x", "/x"] {
            assert!(junk.parse::<SourceKey>().is_err(), "{junk}");
        }
    }
}
