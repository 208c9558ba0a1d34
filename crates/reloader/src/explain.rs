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
    annotations::Marks,
    argo::Rollout,
    args::{Explain, Flags},
    config::{Config, Environment},
    content::Content,
    decide::{Observed, Plan, Presence, decide},
    digest::Keyer,
    index::{Index, News, Scope, SeenSource},
    keystore,
    kinds::{Rollable, WorkloadKind},
    pause,
    run::USER_AGENT,
    source::SourceKey,
    workload::{Reading, Workload, version},
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
    let workload = read(&client, &namespace, kind, name, &reading).await?;

    let mut index = Index::new(config.auto_all);
    let listing = Listing {
        client: &client,
        namespace: &namespace,
        keyer: &keyer,
        config: &config,
    };
    listing.sources::<ConfigMap>(&mut index).await?;
    listing.sources::<Secret>(&mut index).await?;
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
            let hashed = object.hashed(self.keyer);
            seen.insert((self.namespace.to_owned(), object.name_any()));
            let source = SeenSource {
                namespace: self.namespace.to_owned(),
                key: SourceKey::new(K::SOURCE, object.name_any()),
                digest: hashed.digest,
                sha1: hashed.sha1,
                keys: hashed.keys,
                marks: Marks::parse(object.meta().annotations.as_ref(), &self.config.keys),
                version: version(object.meta()),
            };
            index.put_source(source, News::Listed);
        }
        index.listed_sources(
            Scope {
                kind: K::SOURCE,
                namespace: None,
                name: None,
            },
            &seen,
        );
        Ok(())
    }
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
        lines.push(format!("  blocked: {problem}"));
    }
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
