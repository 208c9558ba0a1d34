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
    let params = PatchParams::apply("plumbline-sync").force().validation_strict();
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/configmaps"));
    let begin = Instant::now();
    stream::iter(bodies.iter().enumerate())
        .map(async |(index, body)| {
            let mut request = request.patch(&stage::name(index), &params, &Patch::Apply(body))?;
            request.headers_mut().insert(http::header::ACCEPT, METADATA);
            client.request_text(request).await?;
            anyhow::Ok(())
        })
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await?;
    Ok(begin.elapsed())
}
