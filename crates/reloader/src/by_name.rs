//! Watches each source that is used by its name: a Role with `resourceNames` allows no more.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::watcher;
use tokio::task::JoinSet;

use crate::{
    controller::Controller,
    observe,
    source::{SourceKey, SourceKind},
};

/// Follows the sources that are used, for ever: a watch begins and ends with the use.
pub(crate) async fn follow(controller: Arc<Controller>) {
    let mut tasks = JoinSet::new();
    let mut watched = HashMap::new();
    loop {
        let kinds = &controller.config().sources;
        let mut used: HashSet<(String, SourceKey)> = controller.used();
        used.retain(|(_, source)| kinds.contains(&source.kind));
        watched.retain(|key: &(String, SourceKey), task: &mut tokio::task::AbortHandle| {
            let keep = used.contains(key);
            if !keep {
                task.abort();
                controller.source_unwatched(&key.0, &key.1);
            }
            keep
        });
        for key in used {
            watched.entry(key).or_insert_with_key(|(namespace, source)| {
                let task = one(controller.clone(), namespace.clone(), source.clone());
                tasks.spawn(task)
            });
        }
        controller.used_changed().await;
        // What has ended was aborted here.
        while tasks.try_join_next().is_some() {}
    }
}

async fn one(controller: Arc<Controller>, namespace: String, source: SourceKey) {
    let mut selection = watcher::Config::default().fields(&format!("metadata.name={}", source.name));
    if let Some(labels) = &controller.config().source_selector {
        selection = selection.labels(labels);
    }
    let (namespace, name) = (Some(namespace), Some(source.name));
    if source.kind == SourceKind::Secret {
        observe::sources::<Secret>(controller, namespace, selection, name).await;
    } else {
        observe::sources::<ConfigMap>(controller, namespace, selection, name).await;
    }
}
