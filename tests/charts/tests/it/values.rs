//! Values that people have. Those of Stakater and Bitnami are written after the names and defaults that their charts document.

use std::path::PathBuf;

use plumbline_charts::Chart;

/// Values of a chart.
pub(crate) struct Case {
    pub(crate) chart: Chart,
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    has_file: bool,
    sets: &'static [&'static str],
}

impl Case {
    /// The file with the values, if there is one.
    pub(crate) fn file(&self) -> Option<PathBuf> {
        let name = format!("{}-{}.yaml", self.chart.name(), self.name);
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
            .join("tests/it/values")
            .join(name);
        self.has_file.then_some(path)
    }

    /// Arguments for helm.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let mut arguments = vec![];
        if let Some(file) = self.file() {
            arguments.extend(["--values".to_owned(), file.display().to_string()]);
        }
        for set in self.sets {
            arguments.extend(["--set".to_owned(), (*set).to_owned()]);
        }
        arguments
    }
}

const fn defaults(chart: Chart) -> Case {
    Case {
        chart,
        name: "defaults",
        about: "nothing is said",
        has_file: false,
        sets: &[],
    }
}

const fn file(chart: Chart, name: &'static str, about: &'static str) -> Case {
    Case {
        chart,
        name,
        about,
        has_file: true,
        sets: &[],
    }
}

/// Every one.
pub(crate) const CASES: &[Case] = &[
    defaults(Chart::Sync),
    Case {
        chart: Chart::Sync,
        name: "git",
        about: "the simple way",
        has_file: false,
        sets: &[
            "git.url=https://git.example/you/estate",
            "git.branch=main",
            "git.path=deploy",
            "git.interval=3m",
            "git.prune=true",
        ],
    },
    file(Chart::Sync, "tenant", "one namespace, one tenant, Roles only"),
    file(Chart::Sync, "everything", "whatever can be said"),
    defaults(Chart::Reloader),
    file(
        Chart::Reloader,
        "stakater",
        "Stakater's defaults, as an upgrade with --reuse-values brings them",
    ),
    file(
        Chart::Reloader,
        "namespaced",
        "two namespaces, Roles only, names of sources",
    ),
    file(Chart::Reloader, "everything", "whatever can be said"),
    defaults(Chart::SealedSecrets),
    file(
        Chart::SealedSecrets,
        "bitnami",
        "Bitnami's defaults, as an upgrade with --reuse-values brings them",
    ),
    file(Chart::SealedSecrets, "namespaced", "two namespaces, Roles only"),
    file(Chart::SealedSecrets, "everything", "whatever can be said"),
];
