//! Files of the charts that are generated from their `values.yaml` and `Chart.yaml`.

use anyhow::Context as _;
use xshell::Shell;

use super::values;

/// A chart, and what its README says beside the table.
struct Chart {
    name: &'static str,
    install: &'static str,
    guides: &'static str,
}

const CHARTS: [Chart; 3] = [
    Chart {
        name: "sync",
        install: "helm install sync oci://ghcr.io/plumbline/charts/sync --namespace flux-system --create-namespace \\\n  \
                  --set git.url=https://HOST/YOU/REPOSITORY --set git.branch=main --set git.path=deploy \\\n  \
                  --set git.interval=3m --set git.prune=true",
        guides: "Without `git.url` only the controller is installed. What may be applied: `rbac.*`, `tenant.*`.\n\
                 Guides: [installation](../../docs/guides/install.md), [use](../../docs/guides/sync.md), \
                 [coming from Flux](../../docs/guides/migrate-from-flux.md), [operations](../../docs/guides/operations.md).",
    },
    Chart {
        name: "reloader",
        install: "helm install reloader oci://ghcr.io/plumbline/charts/reloader --namespace reloader --create-namespace",
        guides: "Values of Stakater's chart work here, and its releases can be upgraded in place.\n\
                 Guides: [installation](../../docs/guides/install.md), [use](../../docs/guides/reloader.md), \
                 [coming from Stakater's Reloader](../../docs/guides/migrate-stakater.md), [operations](../../docs/guides/operations.md).",
    },
    Chart {
        name: "sealed-secrets",
        install: "helm install sealed-secrets oci://ghcr.io/plumbline/charts/sealed-secrets --namespace kube-system \\\n  \
                  --set fullnameOverride=sealed-secrets-controller",
        guides: "The name is the one that `kubeseal` looks for. Values of Bitnami's chart work here, and its releases can be upgraded in place.\n\
                 Guides: [installation](../../docs/guides/install.md), [use](../../docs/guides/sealed-secrets.md), \
                 [coming from Bitnami's controller](../../docs/guides/migrate-bitnami.md), [operations](../../docs/guides/operations.md).",
    },
];

/// Path and text of each file.
pub(super) fn files(sh: &Shell) -> anyhow::Result<Vec<(String, String)>> {
    let mut files = vec![];
    for chart in &CHARTS {
        let dir = format!("charts/{}", chart.name);
        let values_file = format!("{dir}/values.yaml");
        let nodes = values::read(&sh.read_file(&values_file)?)
            .with_context(|| format!("{values_file} is refused"))?;
        let schema = serde_json::to_string_pretty(&values::schema(&nodes))?;
        files.push((format!("{dir}/values.schema.json"), schema + "\n"));
        let about: serde_yaml::Value = serde_yaml::from_str(&sh.read_file(format!("{dir}/Chart.yaml"))?)?;
        let description = about
            .get("description")
            .and_then(serde_yaml::Value::as_str)
            .unwrap_or_default();
        let table = values::table(&nodes);
        let readme = format!(
            "<!-- Written by `cargo xtask codegen` from values.yaml. -->\n# {}\n\n{description}.\n\n```sh\n{}\n```\n\n{}\n\n## Values\n\n{table}",
            chart.name, chart.install, chart.guides,
        );
        files.push((format!("{dir}/README.md"), readme));
    }
    Ok(files)
}
