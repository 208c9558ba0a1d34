//! The floor: a client that does nothing but send the patches that the syncer sends.

use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::{
    Client,
    api::{Patch, PatchParams, Request},
};
use serde_json::Value;

use super::stage;

/// Requests in flight: the syncer's default for `--concurrent-ssa`.
pub(crate) const CONCURRENCY: usize = 8;
/// As the syncer asks: metadata instead of the object.
const METADATA: http::HeaderValue =
    http::HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

/// Applies `count` ConfigMaps in `namespace`, and says how long that took.
pub(crate) async fn apply(client: &Client, namespace: &str, count: usize) -> anyhow::Result<Duration> {
    // The fields of the syncer's own patches, under labels as long as its own that no watch of the syncer selects.
    let bodies: Vec<Value> = (0..count)
        .map(|index| {
            let mut object = stage::config_map(namespace, index);
            object["metadata"]["labels"] = serde_json::json!({
                "kustomize.toolkit.nobody.io/name": namespace,
                "kustomize.toolkit.nobody.io/namespace": stage::NAMESPACE,
            });
            object
        })
        .collect();
    let path = format!("/api/v1/namespaces/{namespace}/configmaps");
    let objects = bodies
        .iter()
        .enumerate()
        .map(|(index, body)| (path.clone(), stage::name(index), body));
    apply_all(client, objects).await
}

/// Applies objects, each by the path of its kind and its name, and says how long that took.
pub(crate) async fn apply_all<'a>(
    client: &Client,
    objects: impl Iterator<Item = (String, String, &'a Value)>,
) -> anyhow::Result<Duration> {
    let params = PatchParams::apply("plumbline-sync").force().validation_strict();
    let requests =
        objects.map(|(path, name, body)| Request::new(path).patch(&name, &params, &Patch::Apply(body)));
    send_all(client, requests).await
}

/// Patches the statuses of Kustomizations, by name, and says how long that took.
pub(crate) async fn statuses(client: &Client, patches: &[(String, Value)]) -> anyhow::Result<Duration> {
    let path = format!(
        "/apis/kustomize.toolkit.fluxcd.io/v1/namespaces/{}/kustomizations",
        stage::NAMESPACE
    );
    let params = PatchParams {
        field_manager: Some("plumbline-sync".into()),
        ..PatchParams::default()
    };
    let requests = patches.iter().map(|(name, status)| {
        Request::new(path.clone()).patch_subresource("status", name, &params, &Patch::Merge(status))
    });
    send_all(client, requests).await
}

/// Sends them, so many at a time as the syncer does, and says how long that took.
async fn send_all(
    client: &Client,
    requests: impl Iterator<Item = Result<http::Request<Vec<u8>>, kube::core::request::Error>>,
) -> anyhow::Result<Duration> {
    let begin = Instant::now();
    stream::iter(requests)
        .map(async |request| {
            let mut request = request?;
            request.headers_mut().insert(http::header::ACCEPT, METADATA);
            client.request_text(request).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    Ok(begin.elapsed())
}
