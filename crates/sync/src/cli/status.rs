//! `status`: sources, the Kustomizations that use them, and their objects.

use std::{
    collections::{BTreeMap, HashMap},
    process::ExitCode,
    sync::Arc,
};

use clap::Args;
use futures::{StreamExt as _, stream};
use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Condition, jiff::Timestamp};
use kube::{ResourceExt as _, api::ObjectMeta};
use plumbline_common::conditions;
use serde::Serialize;

use super::{
    ClusterArgs, Format, TROUBLE, TargetArgs,
    desk::Desk,
    output::{self, plain, short},
    session::Session,
    target::{self, Rights},
    tree,
};
use crate::{
    api::{ADOPTED, Kustomization, REVISION, SUSPEND_BY, SUSPEND_REASON, SUSPEND_UNTIL},
    cluster::{live::Owner, requests, target::TargetCluster},
    config::ControllerArgs,
    health::{self, Health},
    object::{Gvk, ObjectId},
};

/// Requests in flight.
const CONCURRENCY: usize = 16;

/// `status`.
#[derive(Args, Debug)]
pub struct StatusArgs {
    /// Name of a Kustomization; by default all of the namespace, without their objects
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Show objects also where no name is given
    #[arg(long)]
    objects: bool,
    /// Do not fetch the source: the files that objects come from are not shown
    #[arg(long)]
    no_git: bool,
}

/// A source and what uses it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Source {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) url: String,
    pub(super) revision: String,
    #[serde(flatten)]
    pub(super) state: State,
    pub(super) kustomizations: Vec<Node>,
}

/// A Kustomization and its objects.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Node {
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) path: String,
    pub(super) revision: String,
    #[serde(flatten)]
    pub(super) state: State,
    /// Where its objects are, if not in the cluster of the Kustomization.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cluster: Option<String>,
    /// How many objects it manages.
    pub(super) managed: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) objects: Vec<Object>,
}

/// How something is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State {
    /// `True`, `False`, `Unknown`; `Suspended` when nothing is reconciled.
    pub(super) ready: String,
    pub(super) reason: String,
    pub(super) message: String,
}

/// An object, its health, and where it comes from.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    #[serde(rename = "object")]
    pub(super) id: String,
    /// `Current`, `InProgress`, `Failed`, `Missing` or `Unknown`.
    pub(super) health: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) message: Option<String>,
    /// The revision that brought its present content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) revision: Option<String>,
    /// File, line and document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// It was there before, and is never deleted.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(super) adopted: bool,
}

pub(super) async fn run(args: &StatusArgs, flags: ControllerArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let target = TargetArgs {
        target: args.name.clone(),
        kustomization: None,
        file: None,
        reference: None,
    };
    let mut desk = Desk::set_up(session, flags, &target).await?;
    let with_objects = args.objects || args.name.is_some();
    let mut sources: BTreeMap<(String, String), Source> = BTreeMap::new();
    for object in desk.targets(&target).await? {
        let owner = Owner {
            namespace: object
                .namespace()
                .unwrap_or_else(|| desk.session.namespace.clone()),
            name: object.name_any(),
        };
        let mut node = node(&object, &owner);
        if with_objects {
            let files = if args.no_git {
                HashMap::new()
            } else {
                desk.files(&object, &owner).await.unwrap_or_else(|error| {
                    output::note(&format!("the files of {} are not shown: {error:#}", owner.name));
                    HashMap::new()
                })
            };
            match objects(&desk, &object, &owner, &files).await {
                Ok(objects) => {
                    node.managed = objects.len();
                    node.objects = objects;
                }
                Err(error) => {
                    output::note(&format!("the objects of {} are not shown: {error:#}", owner.name));
                }
            }
        }
        let key = desk.step(&object, &owner).source_key();
        if !sources.contains_key(&key) {
            let source = source(&desk, &key).await?;
            sources.insert(key.clone(), source);
        }
        if let Some(source) = sources.get_mut(&key) {
            source.kustomizations.push(node);
        }
    }
    let sources: Vec<Source> = sources.into_values().collect();
    output::print(args.output, &sources, || tree::text(&sources))?;
    let is_well = |state: &State| matches!(state.ready.as_str(), "True" | "Suspended");
    let all_well = sources.iter().all(|source| {
        is_well(&source.state) && source.kustomizations.iter().all(|node| is_well(&node.state))
    });
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(TROUBLE)
    })
}

async fn source(desk: &Desk, (namespace, name): &(String, String)) -> anyhow::Result<Source> {
    let found = desk.session.source(namespace, name).await?;
    let status = found
        .as_ref()
        .and_then(|source| source.status.clone())
        .unwrap_or_default();
    let mut state = match &found {
        Some(source) => state(&source.metadata, source.spec.suspend, &status.conditions),
        None => State {
            ready: "False".into(),
            reason: "NotFound".into(),
            message: "it does not exist".into(),
        },
    };
    state.message = plain(&state.message);
    Ok(Source {
        namespace: namespace.clone(),
        name: name.clone(),
        url: found.map(|source| source.spec.url).unwrap_or_default(),
        revision: status
            .artifact
            .map(|artifact| artifact.revision)
            .unwrap_or_default(),
        state,
        kustomizations: Vec::new(),
    })
}

fn node(object: &Kustomization, owner: &Owner) -> Node {
    let status = object.status.clone().unwrap_or_default();
    let mut state = state(&object.metadata, object.spec.suspend, &status.conditions);
    state.message = plain(&state.message);
    Node {
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        path: object.spec.path.clone().unwrap_or_else(|| ".".into()),
        revision: status.last_applied_revision.unwrap_or_default(),
        state,
        cluster: target::remote(object).map(|name| plain(&name)),
        managed: status
            .inventory
            .map(|inventory| inventory.entries.len())
            .unwrap_or_default(),
        objects: Vec::new(),
    }
}

fn state(metadata: &ObjectMeta, suspend: Option<bool>, all: &[Condition]) -> State {
    let ready = conditions::find(all, "Ready");
    let mut state = State {
        ready: ready.map_or("Unknown", |it| it.status.as_str()).to_owned(),
        reason: ready.map(|it| it.reason.clone()).unwrap_or_default(),
        message: ready.map_or_else(
            || "nobody has looked at it yet".to_owned(),
            |it| it.message.clone(),
        ),
    };
    if suspend == Some(true) {
        let says = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name));
        state.ready = "Suspended".into();
        state.reason = "Suspended".into();
        state.message = [
            ("", SUSPEND_REASON),
            ("by ", SUSPEND_BY),
            ("until ", SUSPEND_UNTIL),
        ]
        .into_iter()
        .filter_map(|(word, name)| Some(format!("{word}{}", says(name)?)))
        .collect::<Vec<_>>()
        .join(", ");
    }
    state
}

async fn objects(
    desk: &Desk,
    object: &Kustomization,
    owner: &Owner,
    files: &HashMap<ObjectId, String>,
) -> anyhow::Result<Vec<Object>> {
    let step = desk.step_there(object, owner, Rights::Account).await?;
    let recorded = desk.inventory(&step).await?;
    let cluster = &step.cluster;
    let entries: Vec<_> = recorded
        .entries
        .iter()
        .map(|(id, v)| (id.clone(), Arc::clone(v)))
        .collect();
    let objects = stream::iter(entries)
        .map(|(id, version)| async move {
            let mut found = read(cluster, &id, &version).await;
            found.at = files.get(&id).cloned();
            found
        })
        .buffered(CONCURRENCY);
    Ok(objects.collect().await)
}

async fn read(cluster: &TargetCluster, id: &ObjectId, version: &str) -> Object {
    let mut out = Object {
        id: id.to_string(),
        health: "Unknown",
        message: None,
        revision: None,
        at: None,
        adopted: false,
    };
    let gvk = Gvk {
        group: &id.group,
        version,
        kind: &id.kind,
    };
    let kinds = &cluster.kinds;
    let Some(kind) = kinds
        .find(gvk)
        .or_else(|| kinds.find_any_version(&id.group, &id.kind))
    else {
        out.message = Some("the API server does not serve its kind".into());
        return out;
    };
    // Of Secrets and the like only metadata is read.
    let metadata = if health::is_always_current(&id.group, &id.kind) {
        requests::read(&cluster.client, &kind, id)
            .await
            .inspect(|metadata| {
                out.health = if metadata.is_some() { "Current" } else { "Missing" };
            })
    } else {
        requests::read_object(&cluster.client, &kind, id)
            .await
            .map(|object| {
                let Some(object) = object else {
                    out.health = "Missing";
                    return None;
                };
                (out.health, out.message) = match health::of(&object, Timestamp::now()) {
                    Health::Current => ("Current", None),
                    Health::InProgress(why) => ("InProgress", Some(plain(&why))),
                    Health::Failed(why) => ("Failed", Some(plain(&why))),
                };
                serde_json::from_value(object["metadata"].clone()).ok()
            })
    };
    match metadata {
        Ok(metadata) => {
            let annotations = metadata
                .and_then(|metadata| metadata.annotations)
                .unwrap_or_default();
            out.revision = annotations.get(REVISION).map(|revision| plain(revision));
            out.adopted = annotations.contains_key(ADOPTED);
        }
        Err(error) => out.message = Some(format!("cannot be read: {error}")),
    }
    out
}

impl Desk {
    /// Where the objects of a Kustomization stand at the revision that was last applied.
    async fn files(
        &mut self,
        object: &Kustomization,
        owner: &Owner,
    ) -> anyhow::Result<HashMap<ObjectId, String>> {
        let status = object.status.clone().unwrap_or_default();
        let applied = status.last_applied_revision.clone().unwrap_or_default();
        self.look_at(applied.rsplit_once(':').map(|(_, commit)| commit.to_owned()));
        let step = self.step_there(object, owner, Rights::Account).await?;
        let wants = self.wants(&step).await?;
        let planned = self.plan(&step, &wants).await?;
        let placed = planned.seen.candidates.iter().zip(&planned.seen.placed);
        Ok(placed
            .map(|(candidate, placed)| {
                let origin = &wants.desired.objects[placed.index].origin;
                (candidate.id.clone(), plain(&origin.to_string()))
            })
            .collect())
    }
}

/// What is printed of a revision beside an object.
pub(super) fn brought_by(object: &Object) -> String {
    object.revision.as_deref().map(short).unwrap_or_default()
}
