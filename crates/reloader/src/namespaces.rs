//! Namespaces selected by labels, at run time: metadata only.

use std::collections::HashSet;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, ResourceExt,
    core::PartialObjectMeta,
    runtime::watcher::{self, Event, watcher},
};

use crate::controller::Controller;

const PAUSE: std::time::Duration = std::time::Duration::from_secs(2);

/// Follows the namespaces that a selector selects, for ever.
pub(crate) async fn follow(controller: &Controller, selector: &str) {
    let api: Api<PartialObjectMeta<Namespace>> = Api::all(controller.client());
    let mut stream = std::pin::pin!(watcher(api, watcher::Config::default().labels(selector)));
    let mut selected = HashSet::new();
    // Nothing is worked on before the first list is complete.
    controller.select(HashSet::new());
    let mut listing = HashSet::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Event::Init) => listing.clear(),
            Ok(Event::InitApply(namespace)) => {
                listing.insert(namespace.name_any());
            }
            Ok(Event::InitDone) => {
                selected = std::mem::take(&mut listing);
                controller.select(selected.clone());
            }
            Ok(Event::Apply(namespace)) => {
                if selected.insert(namespace.name_any()) {
                    controller.select(selected.clone());
                }
            }
            Ok(Event::Delete(namespace)) => {
                if selected.remove(&namespace.name_any()) {
                    controller.select(selected.clone());
                }
            }
            Err(error) => {
                controller.stream_failing("Namespace", &error.to_string());
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
