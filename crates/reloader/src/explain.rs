//! `explain KIND/NAME`: what a workload uses, and why it would or would not be rolled. Reads only.

use std::{collections::HashSet, io::Write as _};

use anyhow::Context as _;
use k8s_openapi::{
    api::{
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        batch::v1::{CronJob, Job},
        core::v1::{ConfigMap, Secret},
    },
    jiff::Timestamp,
};
use kube::{Api, Client, ResourceExt, api::ListParams};
use plumbline_common::client::{self, ClientOptions};

use crate::{
    argo::Rollout,
    args::{Explain, Flags},
    config::{Config, Environment},
    content::Content,
    decide::{Observed, Plan, Presence, decide},
    digest::Keyer,
    index::{Index, News, Scope, SeenSource},
    keystore,
    kinds::{Rollable, WorkloadKind},
    options::Options,
    pause,
    run::USER_AGENT,
    source::{SourceKey, SourceKind},
    workload::{Reading, Workload},
};

/// Reads a workload and its namespace's sources, and prints what the controller would decide.
pub async fn run(explain: &Explain, flags: &Flags) -> anyhow::Result<()> {
    client::install_crypto_provider();
    let environment = Environment::read();
    let config = Config::new(
        flags,
        &Environment {
            pod_name: Some(String::new()),
            ..environment.clone()
        },
    )?;
    let options = ClientOptions {
        kubeconfig: flags.kubeconfig.clone(),
        context: flags.context.clone(),
    };
    let client = client::connect(&options, USER_AGENT).await?;
    let namespace = explain
        .namespace
        .clone()
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let own = environment
        .own_namespace
        .unwrap_or_else(|| client.default_namespace().to_owned());
    let keyer = keystore::existing(client.clone(), &own).await?;
    let (kind, name) = parse(&explain.workload)?;
    let reading = Reading {
        keys: config.keys.clone(),
        key_id: keyer.id().to_owned(),
    };
    let mut workload = read(&client, &namespace, kind, name, &reading).await?;
    if let Some(other) = &workload.template_of {
        let other = read(&client, &namespace, other.kind, &other.name, &reading).await?;
        workload.use_template_of(&other);
    }

    let mut index = Index::new(config.auto_all);
    let listing = Listing {
        client: &client,
        namespace: &namespace,
        keyer: &keyer,
        config: &config,
    };
    listing.sources::<ConfigMap>(&mut index).await?;
    listing.sources::<Secret>(&mut index).await?;
    for source in workload.options.iter().flat_map(|options| &options.foreign) {
        match source.kind {
            SourceKind::Secret => listing.foreign::<Secret>(source, &mut index).await?,
            _ => listing.foreign::<ConfigMap>(source, &mut index).await?,
        }
    }
    index.put_workload(workload.clone(), News::Listed);
    let text = text(&index, &workload, &config);
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("cannot write to standard output")
}

fn parse(text: &str) -> anyhow::Result<(WorkloadKind, &str)> {
    let (kind, name) = text
        .split_once('/')
        .with_context(|| format!("{text:?} is not KIND/NAME"))?;
    let kind = WorkloadKind::parse(kind).with_context(|| {
        format!(
            "{kind:?} is no kind of workload: write deployment, statefulset, daemonset, cronjob, job or rollout"
        )
    })?;
    Ok((kind, name))
}

async fn read(
    client: &Client,
    namespace: &str,
    kind: WorkloadKind,
    name: &str,
    reading: &Reading,
) -> anyhow::Result<Workload> {
    async fn as_kind<K: Rollable>(
        client: &Client,
        namespace: &str,
        name: &str,
        reading: &Reading,
    ) -> anyhow::Result<Workload> {
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        let object = api.get(name).await?;
        Workload::read(&object, reading).context("it has no pod template, or is being deleted")
    }
    let workload = match kind {
        WorkloadKind::Deployment => as_kind::<Deployment>(client, namespace, name, reading).await,
        WorkloadKind::StatefulSet => as_kind::<StatefulSet>(client, namespace, name, reading).await,
        WorkloadKind::DaemonSet => as_kind::<DaemonSet>(client, namespace, name, reading).await,
        WorkloadKind::CronJob => as_kind::<CronJob>(client, namespace, name, reading).await,
        WorkloadKind::Job => as_kind::<Job>(client, namespace, name, reading).await,
        WorkloadKind::Rollout => as_kind::<Rollout>(client, namespace, name, reading).await,
    };
    workload.with_context(|| format!("cannot read {kind} {namespace}/{name}"))
}

struct Listing<'a> {
    client: &'a Client,
    namespace: &'a str,
    keyer: &'a Keyer,
    config: &'a Config,
}

impl Listing<'_> {
    async fn sources<K: Content>(&self, index: &mut Index) -> anyhow::Result<()> {
        if !self.config.sources.contains(&K::SOURCE) {
            return Ok(());
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), self.namespace);
        let list = api
            .list(&ListParams::default())
            .await
            .with_context(|| format!("cannot list {}s in {}", K::SOURCE.kind(), self.namespace))?;
        let mut seen = HashSet::new();
        for object in &list.items {
            seen.insert((self.namespace.to_owned(), object.name_any()));
            index.put_source(self.seen(object), News::Listed);
        }
        let scope = Scope {
            kind: K::SOURCE,
            namespace: Some(self.namespace.to_owned()),
            name: None,
        };
        index.listed_sources(scope, &seen);
        Ok(())
    }

    // Who may not read it is told that it is not watched.
    async fn foreign<K: Content>(&self, source: &SourceKey, index: &mut Index) -> anyhow::Result<()> {
        let (namespace, name) = source.home(self.namespace);
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        match api.get_opt(name).await {
            Ok(Some(object)) => drop(index.put_source(self.seen(&object), News::Listed)),
            Ok(None) => {
                let scope = Scope {
                    kind: K::SOURCE,
                    namespace: Some(namespace.to_owned()),
                    name: Some(name.to_owned()),
                };
                index.listed_sources(scope, &HashSet::new());
            }
            Err(kube::Error::Api(status)) if status.is_forbidden() => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {source}")),
        }
        Ok(())
    }

    fn seen<K: Content>(&self, object: &K) -> SeenSource {
        SeenSource::of(object, self.keyer, &self.config.keys)
    }
}

// What it waits for when it is to be rolled.
fn wishes(options: &Options) -> Vec<String> {
    let mut lines = Vec::new();
    if !options.after.is_empty() {
        let others = options.after.iter();
        let others = others.map(|(kind, name)| format!("{}/{name}", kind.kind().to_lowercase()));
        lines.push(format!(
            "  comes after: {}",
            others.collect::<Vec<_>>().join(", ")
        ));
    }
    if options.canary {
        lines.push("  is a canary: others with the same source wait until it is well".into());
    }
    if options.evict {
        lines.push("  its pods are evicted, its template stays".into());
    }
    match &options.windows {
        None => {}
        Some(Err(problem)) => lines.push(format!("  held: {problem}")),
        Some(Ok(windows)) => {
            let wait = windows.until_open(Timestamp::now());
            if wait.is_zero() {
                lines.push("  its window is open".into());
            } else {
                lines.push(format!(
                    "  its window opens in {} min",
                    wait.as_secs().div_ceil(60)
                ));
            }
        }
    }
    lines
}

/// What there is to tell, as text.
fn text(index: &Index, workload: &Workload, config: &Config) -> String {
    let mut lines = vec![workload.key.to_string()];
    for problem in &workload.policy.problems {
        lines.push(format!("  problem: {problem}"));
    }
    if workload.controlled {
        lines.push("  belongs to another object, which is rolled instead".into());
    } else if !workload.policy.opted_in(config.auto_all) {
        lines.push("  nothing rolls it: no annotation of it or of its pod template asks for that".into());
    }
    let dependencies = index.dependencies(workload);
    for source in workload.references.iter() {
        if !dependencies.iter().any(|dependency| dependency.source == *source) {
            lines.push(format!(
                "  {source}: referenced, but never rolls it (not asked for, excluded or ignored)"
            ));
        }
    }
    for source in index.unshared(workload) {
        lines.push(format!("  {source}: named, but its owner does not share it"));
    }
    for dependency in &dependencies {
        let state = match dependency.presence {
            Presence::Unknown => "is not watched",
            Presence::Missing => "does not exist",
            Presence::Present(_) => "exists",
        };
        let cause = dependency.cause.as_str();
        lines.push(format!("  {}: {cause}; {state}", dependency.source));
    }
    match &workload.last_trigger {
        Some(last) => lines.push(format!(
            "  last rolled at {} for {} ({} in all)",
            last.at,
            last.sources.join(", "),
            last.count
        )),
        None => lines.push("  never rolled by us".into()),
    }
    match pause::standing(&workload.pause, Timestamp::now()) {
        pause::Standing::Running => {}
        pause::Standing::Paused(rest) => lines.push(format!("  paused for {} s more", rest.as_secs())),
        pause::Standing::Over => lines.push("  its pause is over".into()),
    }
    if let Err(problem) = pause::beside(&workload.pause) {
        lines.push(format!("  held: {problem}"));
    }
    lines.extend(workload.options.iter().flat_map(|options| wishes(options)));
    let observed = Observed {
        workload,
        dependencies,
        rolled: &[],
    };
    lines.push(match decide(&observed, &config.settings) {
        Plan::Nothing => "  now: nothing to do".into(),
        Plan::Record { why, stale, .. } => {
            let stale: Vec<_> = stale.iter().map(ToString::to_string).collect();
            let missed = if stale.is_empty() {
                String::new()
            } else {
                format!(", missed before: {}", stale.join(", "))
            };
            format!("  now: its state is to be recorded ({why:?}{missed})")
        }
        Plan::Roll { changes, .. } | Plan::Hold { changes, .. } => {
            let changes: Vec<_> = changes.iter().map(|change| change.source.to_string()).collect();
            format!("  now: it is to be rolled for {}", changes.join(", "))
        }
    });
    lines.push(String::new());
    lines.join("\n")
}
