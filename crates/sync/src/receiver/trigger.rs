//! Has sources look, by the annotation that `flux reconcile` writes too: it reaches whichever replica or shard has them,
//! and is not lost when one ends.

use futures::{StreamExt as _, stream};
use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    core::PartialObjectMeta,
};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::hooks::{Hook, Kind, Select, Target};
use crate::api::{GitRepository, Kustomization, REQUESTED_AT};

/// Not the manager that applies: the annotation must not be taken for something that Git wants.
const MANAGER: &str = "plumbline-receiver";
/// Objects that one call can be about.
const OBJECTS: u32 = 1000;
/// Requests in flight for one call.
const CONCURRENCY: usize = 8;

/// Why an object could not be told to look.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {source}")]
pub(super) struct Failed {
    what: String,
    source: kube::Error,
}

/// Has everything look that the hook is about. All of it is tried.
pub(super) async fn trigger(client: &Client, hook: &Hook) -> Result<usize, Failed> {
    let now = Timestamp::now().to_string();
    let mut count = 0;
    for target in &hook.targets {
        count += match target.kind {
            Kind::GitRepository => one::<GitRepository>(client, target, &now).await?,
            Kind::Kustomization => one::<Kustomization>(client, target, &now).await?,
        };
    }
    Ok(count)
}

async fn one<K>(client: &Client, target: &Target, now: &str) -> Result<usize, Failed>
where
    K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let kind = K::kind(&());
    let api: Api<PartialObjectMeta<K>> = Api::namespaced(client.clone(), &target.namespace);
    let names = match &target.select {
        Select::Name(name) => vec![name.clone()],
        Select::Labels(labels) => {
            let selector: Vec<String> = labels
                .iter()
                .map(|(key, value)| format!("{key}={value}"))
                .collect();
            let selector = selector.join(",");
            let params = ListParams::default().labels(&selector).limit(OBJECTS);
            let found = api.list_metadata(&params).await.map_err(|source| Failed {
                what: format!("{kind} with the labels {selector:?} in {}", target.namespace),
                source,
            })?;
            found.items.iter().map(ResourceExt::name_any).collect()
        }
    };
    let patch = json!({ "metadata": { "annotations": { REQUESTED_AT: now } } });
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let count = names.len();
    let mut results = stream::iter(names)
        .map(|name| {
            let (api, patch, params) = (&api, &patch, &params);
            async move {
                let result = api.patch_metadata(&name, params, &Patch::Merge(patch)).await;
                (name, result)
            }
        })
        .buffer_unordered(CONCURRENCY);
    let mut failed = None;
    while let Some((name, result)) = results.next().await {
        if let Err(source) = result {
            let what = format!("{kind} {}/{name}", target.namespace);
            failed.get_or_insert(Failed { what, source });
        }
    }
    drop(results);
    failed.map_or(Ok(count), Err)
}
