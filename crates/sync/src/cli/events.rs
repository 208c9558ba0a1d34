//! `events`: what was told about Kustomizations and sources.

use std::{collections::HashMap, pin::pin, process::ExitCode};

use clap::Args;
use futures::StreamExt as _;
use k8s_openapi::{api::core::v1::Event, jiff::Timestamp};
use kube::{
    Api,
    api::ListParams,
    runtime::{WatchStreamExt as _, watcher},
};
use serde::Serialize;

use super::{
    ClusterArgs, Format,
    output::{self, Table, plain},
    session::Session,
};
use crate::controller;

/// `events`.
#[derive(Args, Debug)]
pub struct EventsArgs {
    /// Name of a Kustomization: its events and those of its source; by default all of the namespace
    name: Option<String>,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Go on with new events as they come
    #[arg(long, short = 'w', visible_alias = "follow", visible_short_alias = 'f')]
    watch: bool,
    /// Form of the output; with --watch one line of JSON an event
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
}

/// One event.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    time: Option<String>,
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    object: String,
    message: String,
    count: i32,
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        let about = &event.involved_object;
        let text = |text: &Option<String>| plain(text.as_deref().unwrap_or_default());
        Self {
            time: time(event).map(|time| time.to_string()),
            kind: text(&event.type_),
            reason: text(&event.reason),
            object: format!("{}/{}", text(&about.kind), text(&about.name)),
            message: text(&event.message),
            count: event.count.unwrap_or(1),
        }
    }
}

fn time(event: &Event) -> Option<Timestamp> {
    let last = event.last_timestamp.as_ref().map(|time| time.0);
    last.or_else(|| event.event_time.as_ref().map(|time| time.0))
}

pub(super) async fn run(args: &EventsArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let source = match &args.name {
        Some(name) => {
            let object = session.kustomization(name).await?;
            let (namespace, source) = controller::source_key(&object.spec, &session.namespace);
            (namespace == session.namespace).then_some(source)
        }
        None => None,
    };
    let is_meant = |event: &Event| {
        let about = &event.involved_object;
        let name = about.name.as_deref();
        match about.kind.as_deref() {
            Some("Kustomization") => args.name.as_deref().is_none_or(|wanted| name == Some(wanted)),
            Some("GitRepository") => args.name.is_none() || (name.is_some() && name == source.as_deref()),
            _ => false,
        }
    };
    let api: Api<Event> = Api::namespaced(session.client.clone(), &session.namespace);
    if args.watch {
        follow(api, args.output, is_meant).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut events = api.list(&ListParams::default()).await?.items;
    events.retain(is_meant);
    events.sort_by_key(time);
    let told: Vec<Told> = events.iter().map(Told::from).collect();
    output::print(args.output, &told, || {
        let mut table = Table::new(&["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
        for one in &told {
            table.row(cells(one));
        }
        table.to_string()
    })?;
    Ok(ExitCode::SUCCESS)
}

fn cells(told: &Told) -> [String; 5] {
    [
        told.time.clone().unwrap_or_default(),
        told.kind.clone(),
        told.reason.clone(),
        told.object.clone(),
        told.message.replace('\n', "; "),
    ]
}

/// Prints events as they come, until nobody reads them any more. The last hour or so, which the API server keeps, comes
/// first.
async fn follow(api: Api<Event>, format: Format, is_meant: impl Fn(&Event) -> bool) -> anyhow::Result<()> {
    let events = watcher(api, watcher::Config::default()).default_backoff();
    let mut events = pin!(events);
    let mut told: HashMap<String, i32> = HashMap::new();
    let mut listed = Vec::new();
    while let Some(event) = events.next().await {
        let new = match event {
            Ok(watcher::Event::Apply(event)) => vec![event],
            Ok(watcher::Event::InitApply(event)) => {
                listed.push(event);
                continue;
            }
            Ok(watcher::Event::InitDone) => {
                listed.sort_by_key(time);
                std::mem::take(&mut listed)
            }
            Ok(_) => continue,
            Err(error) => {
                output::note(&format!("the watch is interrupted and will go on: {error}"));
                continue;
            }
        };
        for event in new.iter().filter(|event| is_meant(event)) {
            let name = event.metadata.name.clone().unwrap_or_default();
            let count = event.count.unwrap_or(1);
            if told.insert(name, count) == Some(count) {
                continue;
            }
            let one = Told::from(event);
            let line = match format {
                Format::Text => cells(&one).join("  "),
                Format::Json => serde_json::to_string(&one)?,
                Format::Yaml => format!("---\n{}", serde_yaml::to_string(&one)?.trim_end()),
            };
            output::write(&format!("{line}\n"))?;
        }
    }
    Ok(())
}
