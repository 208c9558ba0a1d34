//! The ConfigMap `reloader-meta-info`, by which Stakater's tools find a reloader and its options.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::{args::Flags, config::Environment, owned::MANAGER};

const NAME: &str = "reloader-meta-info";
const LABEL: &str = "reloader.stakater.com/meta-info";

/// Writes the ConfigMap, if `RELOADER_NAMESPACE` or `POD_NAMESPACE` tells where. Without the right to, it is not written.
pub(crate) async fn publish(client: &Client, environment: &Environment, flags: &Flags) {
    let Some(namespace) = &environment.own_namespace else {
        return;
    };
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let body = body(
        namespace,
        environment.deployment_name.as_deref().unwrap_or_default(),
        flags,
    );
    let write = async {
        // Stakater writes it at every start; a start with nothing new is to write nothing.
        let live = api
            .get_opt(NAME)
            .await?
            .and_then(|live| serde_json::to_value(live.data).ok());
        if live.as_ref() != body.get("data") {
            api.patch(NAME, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&body))
                .await?;
        }
        Ok::<_, kube::Error>(())
    };
    if let Ok(Err(error)) = tokio::time::timeout(crate::act::TIMEOUT, write).await {
        tracing::debug!(%error, "the ConfigMap {NAME} was not written");
    }
}

fn body(namespace: &str, deployment: &str, flags: &Flags) -> Value {
    let build = json!({ "version": env!("CARGO_PKG_VERSION"), "implementation": "plumbline-reloader" });
    let options = json!({
        "autoReloadAll": flags.auto_reload_all,
        "configmapUpdateOnChangeAnnotation": flags.configmap_annotation,
        "secretUpdateOnChangeAnnotation": flags.secret_annotation,
        "reloaderAutoAnnotation": flags.auto_annotation,
        "ignoreResourceAnnotation": flags.ignore_annotation,
        "configmapReloaderAutoAnnotation": flags.configmap_auto_annotation,
        "secretReloaderAutoAnnotation": flags.secret_auto_annotation,
        "autoSearchAnnotation": flags.auto_search_annotation,
        "searchMatchAnnotation": flags.search_match_annotation,
        "pauseDeploymentAnnotation": flags.pause_deployment_annotation,
        "pauseDeploymentTimeAnnotation": flags.pause_deployment_time_annotation,
        "reloadStrategy": flags.reload_strategy,
        "reloadOnCreate": flags.reload_on_create == "true",
        "reloadOnDelete": flags.reload_on_delete == "true",
        "syncAfterRestart": flags.sync_after_restart,
        "enableHA": flags.enable_ha,
        "namespacesToIgnore": flags.namespaces_to_ignore,
        "namespaceSelectors": flags.namespace_selector,
        "resourceSelectors": flags.resource_label_selector,
        "resourcesToIgnore": flags.resources_to_ignore,
        "workloadTypesToIgnore": flags.ignored_workload_types,
    });
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": NAME, "namespace": namespace, "labels": { LABEL: "reloader" }},
        "data": {
            "buildInfo": build.to_string(),
            "reloaderOptions": options.to_string(),
            "deploymentInfo": json!({ "name": deployment, "namespace": namespace }).to_string(),
        },
    })
}
