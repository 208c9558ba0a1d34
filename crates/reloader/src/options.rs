//! Our own annotations on a workload: opt-in, and beside Stakater's. Pure.

use std::collections::BTreeMap;

use crate::{
    annotations::Problem,
    keys,
    kinds::WorkloadKind,
    source::{SourceKey, SourceKind},
    window::Windows,
};

/// What a workload asks for beyond what Stakater's annotations can say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Workloads of the same namespace that are rolled before it.
    pub after: Vec<(WorkloadKind, String)>,
    /// Others that use the same source wait until it has been rolled, and it is well.
    pub canary: bool,
    /// When it may be rolled. An unreadable one holds it: it stands there so that nothing happens at a wrong time.
    pub windows: Option<Result<Windows, Problem>>,
    /// Its pods are evicted instead of its template being changed.
    pub evict: bool,
    /// Only the keys it uses of a source count.
    pub by_key: bool,
    /// Sources of other namespaces, named `namespace/name`.
    pub foreign: Vec<SourceKey>,
}

impl Options {
    /// Reads the annotations of a workload. `None`: it asks for nothing. What cannot be understood is added to `problems`.
    pub fn parse(
        annotations: Option<&BTreeMap<String, String>>,
        problems: &mut Vec<Problem>,
    ) -> Option<Box<Self>> {
        let annotations = annotations?;
        let value = |key: &str| annotations.get(key).map(String::as_str);
        let mut problem = |key: &str, value: &str, error: String| {
            problems.push(Problem {
                key: key.into(),
                value: value.into(),
                error,
            });
        };
        let mut options = Self::default();
        for entry in list(value(keys::AFTER)) {
            match workload(entry) {
                Some(other) => options.after.push(other),
                None => problem(keys::AFTER, entry, "write KIND/NAME, as deployment/db".into()),
            }
        }
        options.canary = value(keys::CANARY) == Some("true");
        options.windows = value(keys::WINDOW).map(|text| {
            text.parse().map_err(|error: crate::window::Unreadable| Problem {
                key: keys::WINDOW.into(),
                value: text.into(),
                error: error.to_string(),
            })
        });
        options.evict = match value(keys::STRATEGY) {
            None | Some("template") => false,
            Some("evict") => true,
            Some(other) => {
                problem(keys::STRATEGY, other, "write template or evict".into());
                false
            }
        };
        options.by_key = match value(keys::GRANULARITY) {
            None | Some("object") => false,
            Some("keys") => true,
            Some(other) => {
                problem(keys::GRANULARITY, other, "write object or keys".into());
                false
            }
        };
        for entry in list(value(keys::FOREIGN)) {
            match foreign(entry) {
                Some(source) => options.foreign.push(source),
                None => problem(
                    keys::FOREIGN,
                    entry,
                    "write cm/NAMESPACE/NAME or sec/NAMESPACE/NAME".into(),
                ),
            }
        }
        (options != Self::default()).then(|| Box::new(options))
    }
}

fn list(value: Option<&str>) -> impl Iterator<Item = &str> {
    value
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|entry| !entry.is_empty())
}

fn workload(text: &str) -> Option<(WorkloadKind, String)> {
    let (kind, name) = text.split_once('/')?;
    let kind = WorkloadKind::parse(kind)?;
    (!name.is_empty()).then(|| (kind, name.to_owned()))
}

fn foreign(text: &str) -> Option<SourceKey> {
    let source: SourceKey = text.parse().ok()?;
    let (namespace, name) = source.name.split_once('/')?;
    let whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    (whole && source.kind != SourceKind::SecretProviderClass).then_some(source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(annotations: &[(&str, &str)]) -> (Option<Box<Options>>, Vec<Problem>) {
        let annotations = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        let mut problems = Vec::new();
        let options = Options::parse(Some(&annotations), &mut problems);
        (options, problems)
    }

    #[test]
    fn who_asks_for_nothing_has_no_options() {
        assert_eq!(parse(&[("reloader.stakater.com/auto", "true")]), (None, vec![]));
        assert_eq!(
            parse(&[(keys::CANARY, "yes"), (keys::STRATEGY, "template")]),
            (None, vec![])
        );
    }

    #[test]
    fn what_is_asked_for_is_understood() {
        let (options, problems) = parse(&[
            (keys::AFTER, "deployment/db, sts/queue"),
            (keys::CANARY, "true"),
            (keys::STRATEGY, "evict"),
            (keys::GRANULARITY, "keys"),
            (keys::FOREIGN, "cm/infra/ca"),
        ]);
        let options = options.unwrap();
        assert_eq!(problems, []);
        let after = [
            (WorkloadKind::Deployment, "db"),
            (WorkloadKind::StatefulSet, "queue"),
        ];
        assert_eq!(options.after, after.map(|(kind, name)| (kind, name.to_owned())));
        assert!(options.canary && options.evict && options.by_key);
        assert_eq!(
            options.foreign,
            [SourceKey::new(SourceKind::ConfigMap, "infra/ca")]
        );
    }

    #[test]
    fn junk_is_told_and_the_rest_holds() {
        let (options, problems) = parse(&[
            (keys::AFTER, "db,deployment/cache"),
            (keys::STRATEGY, "delete"),
            (keys::FOREIGN, "cm/ca,spc/infra/x,cm/a/b/c"),
            (keys::WINDOW, "sometimes"),
        ]);
        let options = options.unwrap();
        assert_eq!(options.after, [(WorkloadKind::Deployment, "cache".to_owned())]);
        assert_eq!(options.foreign, []);
        assert!(options.windows.unwrap().is_err());
        let values: Vec<_> = problems.iter().map(|problem| problem.value.as_str()).collect();
        assert_eq!(values, ["db", "delete", "cm/ca", "spc/infra/x", "cm/a/b/c"]);
    }
}
