//! SealedSecrets: opened after a start, left alone by a restart, created one by one, beside 10,000 foreign Secrets.

use std::{
    collections::HashMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _, pin_mut, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, PostParams},
    core::PartialObjectMeta,
    runtime::watcher::{self, Event},
};
use plumbline_testkit::{AuditLog, ControlPlane, answer};
use serde_json::{Value, json};

use super::{
    figures::{Figures, Goal, number, percentile},
    process,
    unsealer::{USER_AGENT, Unsealer},
};

/// Where the SealedSecrets are.
const NAMESPACE: &str = "bench";
/// Items of every SealedSecret.
const ITEMS: usize = 3;
/// The API server holds the first object of a new custom resource for two seconds, so that its other replicas, if any, know of it.
const UNMEASURED: usize = 1;
/// Requests in flight of whoever prepares a measurement.
const CONCURRENCY: usize = 16;
/// How long anything may take: a machine with other work is slow, but not that slow.
const PATIENCE: Duration = Duration::from_mins(5);
/// How long the audit log, Events and late writes may lag behind.
const LAG: Duration = Duration::from_secs(3);

/// How much is measured.
struct Scale {
    /// SealedSecrets that are there when the unsealer starts.
    cold: usize,
    /// SealedSecrets that are created one after the other.
    single: usize,
    /// Secrets that are somebody else's.
    foreign: usize,
}

/// All of it, on a control plane of its own.
pub(crate) async fn measure(quick: bool) -> anyhow::Result<Figures> {
    let scale = if quick {
        Scale {
            cold: 100,
            single: 20,
            foreign: 1_000,
        }
    } else {
        Scale {
            cold: 500,
            single: 50,
            foreign: 10_000,
        }
    };
    let mut figures = Figures::default();
    println!("starting a control plane");
    let plane = ControlPlane::start_temporary()?;
    let kubectl =
        |arguments: &[&str], input: &str| plumbline_testkit::kubectl(plane.dir(), "", arguments, input);
    kubectl(
        &["apply", "--server-side", "-f", "-"],
        &process::crds("plumbline-unsealer", &[])?,
    )?;
    let established = "--for=condition=Established";
    kubectl(&["wait", established, "crd", "--all", "--timeout=30s"], "")?;
    kubectl(&["create", "namespace", NAMESPACE], "")?;
    let client = plumbline_testkit::client(&plane.kubeconfig(), "plumbline-bench").await?;
    let measured = async {
        let pem = first_start(&plane, &client, &scale, &mut figures).await?;
        cold(&plane, &client, &scale, &pem, &mut figures).await?;
        restart(&plane, &mut figures).await?;
        foreign(&plane, &client, &scale, &mut figures).await
    };
    let log = plane.dir().join("logs").join("plumbline-unsealer.log");
    measured.await.with_context(|| {
        let log = fs::read_to_string(log).unwrap_or_default();
        format!("plumbline-unsealer's log:\n{log}\nthe measurement failed")
    })?;
    Ok(figures)
}

/// The first start makes a key; then SealedSecrets are created one after the other. Returns the certificate.
async fn first_start(
    plane: &ControlPlane,
    client: &Client,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<String> {
    let unsealer = Unsealer::start(plane)?;
    let ready = unsealer.ready().await?.as_secs_f64();
    let note = "with the making of a key of 4096 bits";
    figures.add("first start until ready", ready, "s", None, note);
    figures.add("peak memory, idle", unsealer.process.peak()?, "MiB", None, "");
    let pem = kubeseal(&["--fetch-cert", "--cert", &unsealer.certificate_url()], "")?;

    let objects = seal(plane, &pem, "single", scale.single + UNMEASURED)?;
    let api = sealed_secrets(client);
    let secrets: Api<PartialObjectMeta<Secret>> = Api::namespaced(client.clone(), NAMESPACE);
    let seen = watcher::watcher(secrets, watcher::Config::default());
    pin_mut!(seen);
    until_listed(&mut seen).await?;
    let (mut took, mut creating) = (vec![], vec![]);
    for object in objects {
        let name = object.metadata.name.clone().unwrap_or_default();
        let begin = Instant::now();
        api.create(&PostParams::default(), &object).await?;
        creating.push(begin.elapsed().as_secs_f64() * 1000.0);
        until_seen(&mut seen, &name).await?;
        took.push(begin.elapsed().as_secs_f64() * 1000.0);
    }
    // The last status is written after the last Secret: killed between the two, the next process would open it again.
    until_synced(&api, scale.single + UNMEASURED).await?;
    let (took, creating) = (took.split_off(UNMEASURED), creating.split_off(UNMEASURED));
    let of = |values: &[f64], percent| percentile(values, percent).unwrap_or_default();
    let what = format!("one of {ITEMS} items created until its Secret is seen");
    let note = format!(
        "{} times; of it the creation of the SealedSecret: p50 {:.1} ms",
        scale.single,
        of(&creating, 50)
    );
    figures.add(format!("{what}, p50"), of(&took, 50), "ms", None, note);
    let slowest = took
        .iter()
        .copied()
        .enumerate()
        .max_by(|a, b| a.1.total_cmp(&b.1));
    let slowest = slowest.map_or_else(String::new, |(place, all)| {
        let creating = creating.get(place).copied().unwrap_or_default();
        format!(
            "the slowest was number {place}: {all:.0} ms, of them {creating:.0} ms creating the SealedSecret"
        )
    });
    figures.add(format!("{what}, p99"), of(&took, 99), "ms", None, slowest);
    Ok(pem)
}

/// Many SealedSecrets are there when the unsealer starts.
async fn cold(
    plane: &ControlPlane,
    client: &Client,
    scale: &Scale,
    pem: &str,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let api = sealed_secrets(client);
    create(&api, seal(plane, pem, "cold", scale.cold)?).await?;
    let log = plane.audit_log().since_now()?;
    let all = scale.cold + scale.single + UNMEASURED;
    let unsealer = Unsealer::start(plane)?;
    let last = until_synced(&api, all).await?;
    let what = format!("cold, {} objects of {ITEMS} items", scale.cold);
    let took = (last - unsealer.process.begin()).as_secs_f64();
    figures.add(
        format!("{what}: start until the last status"),
        took,
        "s",
        Some(Goal::Below(6.0)),
        format!(
            "{:.0} objects/s; the original needs about 400 s for 500",
            number(scale.cold) / took
        ),
    );
    tokio::time::sleep(LAG).await;
    let asked = Asked::read(&log)?;
    figures.add(
        format!("{what}: requests for each"),
        number(asked.total()) / number(scale.cold),
        "",
        Some(Goal::Below(3.05)),
        asked.to_string(),
    );
    figures.add(
        format!("{what}: RSA operations"),
        unsealer.operations().await?,
        "operations",
        Some(Goal::Exactly(number(scale.cold * ITEMS))),
        "",
    );
    let cpu = unsealer.process.cpu()?;
    let note = format!("{:.1} ms an object", cpu * 1000.0 / number(scale.cold));
    figures.add(format!("{what}: CPU"), cpu, "s", None, note);
    figures.add(
        format!("{what}: peak memory"),
        unsealer.process.peak()?,
        "MiB",
        Some(Goal::Below(40.0)),
        "",
    );
    Ok(())
}

/// Everything is as the last process left it.
async fn restart(plane: &ControlPlane, figures: &mut Figures) -> anyhow::Result<()> {
    let log = plane.audit_log().since_now()?;
    let unsealer = Unsealer::start(plane)?;
    let ready = unsealer.ready().await?.as_secs_f64();
    figures.add(
        "restart, nothing changed: ready",
        ready,
        "s",
        Some(Goal::Below(2.0)),
        "",
    );
    tokio::time::sleep(LAG).await;
    let operations = unsealer.operations().await?;
    let none = Some(Goal::Exactly(0.0));
    figures.add(
        "restart, nothing changed: RSA operations",
        operations,
        "operations",
        none,
        "",
    );
    let asked = Asked::read(&log)?;
    let writes = number(asked.writes());
    figures.add(
        "restart, nothing changed: writes",
        writes,
        "requests",
        none,
        asked.to_string(),
    );
    Ok(())
}

/// The cluster is full of Secrets that are none of its business.
async fn foreign(
    plane: &ControlPlane,
    client: &Client,
    scale: &Scale,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let secrets = (0..scale.foreign).map(|n| {
        serde_json::from_value(json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": format!("foreign-{n:05}"), "namespace": NAMESPACE},
            "stringData": {"filler": "x".repeat(10 << 10)},
        }))
    });
    let secrets = secrets.collect::<Result<_, _>>()?;
    let resource = ApiResource::erase::<Secret>(&());
    create(
        &Api::namespaced_with(client.clone(), NAMESPACE, &resource),
        secrets,
    )
    .await?;
    let unsealer = Unsealer::start(plane)?;
    let ready = unsealer.ready().await?;
    tokio::time::sleep(LAG).await;
    let what = format!("peak memory beside {} Secrets of 10 KiB", scale.foreign);
    let note = format!(
        "ready after {:.2} s, {:.2} s CPU",
        ready.as_secs_f64(),
        unsealer.process.cpu()?
    );
    figures.add(
        what,
        unsealer.process.peak()?,
        "MiB",
        Some(Goal::Below(40.0)),
        note,
    );
    Ok(())
}

/// Requests by verb and resource, watches and leases aside.
struct Asked(Vec<(String, String, usize)>);

impl Asked {
    fn read(log: &AuditLog) -> anyhow::Result<Self> {
        let requests = log.requests(USER_AGENT)?.without_watches_and_leases();
        let counts = requests.by_verb_and_resource().into_iter();
        Ok(Self(
            counts
                .map(|((verb, resource), count)| (verb, resource, count))
                .collect(),
        ))
    }

    fn total(&self) -> usize {
        self.0.iter().map(|(_, _, count)| count).sum()
    }

    fn writes(&self) -> usize {
        let writes = self
            .0
            .iter()
            .filter(|(verb, _, _)| !matches!(verb.as_str(), "get" | "list"));
        writes.map(|(_, _, count)| count).sum()
    }
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: Vec<String> = self
            .0
            .iter()
            .map(|(verb, resource, count)| format!("{count} {verb} {resource}"))
            .collect();
        f.write_str(&all.join(", "))
    }
}

/// `count` SealedSecrets, made by kubeseal itself.
fn seal(plane: &ControlPlane, pem: &str, prefix: &str, count: usize) -> anyhow::Result<Vec<DynamicObject>> {
    let certificate = plane.dir().join("cert.pem");
    fs::write(&certificate, pem)?;
    let secrets: String = (0..count)
        .map(|n| {
            let items: HashMap<String, &str> = (0..ITEMS)
                .map(|item| (format!("item{item}"), "the value of an item"))
                .collect();
            let metadata = json!({"name": format!("{prefix}-{n}"), "namespace": NAMESPACE});
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": items})
                .to_string()
        })
        .collect();
    let sealed = kubeseal(&["--cert", &certificate.display().to_string()], &secrets)?;
    let objects = serde_json::Deserializer::from_str(&sealed).into_iter::<Value>();
    objects
        .map(|object| Ok(serde_json::from_value(object?)?))
        .collect()
}

fn kubeseal(arguments: &[&str], input: &str) -> anyhow::Result<String> {
    let mut command = Command::new(process::program("kubeseal"));
    answer(command.env_clear().args(arguments), input.as_bytes())
}

async fn create(api: &Api<DynamicObject>, objects: Vec<DynamicObject>) -> anyhow::Result<()> {
    stream::iter(objects)
        .map(async |object| api.create(&PostParams::default(), &object).await.map(drop))
        .buffer_unordered(CONCURRENCY)
        .try_collect::<()>()
        .await
        .context("cannot create what is to be measured")
}

fn sealed_secrets(client: &Client) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("bitnami.com", "v1alpha1", "SealedSecret"));
    Api::namespaced_with(client.clone(), NAMESPACE, &resource)
}

type Seen = watcher::Result<Event<PartialObjectMeta<Secret>>>;

async fn until_listed(seen: &mut (impl stream::Stream<Item = Seen> + Unpin)) -> anyhow::Result<()> {
    within(async {
        while let Some(event) = seen.next().await {
            if matches!(event?, Event::InitDone) {
                return Ok(());
            }
        }
        anyhow::bail!("the watch on Secrets has ended")
    })
    .await
}

async fn until_seen(seen: &mut (impl stream::Stream<Item = Seen> + Unpin), name: &str) -> anyhow::Result<()> {
    within(async {
        while let Some(event) = seen.next().await {
            if let Event::Apply(secret) = event?
                && secret.metadata.name.as_deref() == Some(name)
            {
                return Ok(());
            }
        }
        anyhow::bail!("the watch on Secrets has ended")
    })
    .await
}

/// Waits until `count` SealedSecrets are synced; when the last one was.
async fn until_synced(api: &Api<DynamicObject>, count: usize) -> anyhow::Result<Instant> {
    let events = watcher::watcher(api.clone(), watcher::Config::default());
    pin_mut!(events);
    let mut synced = std::collections::HashSet::new();
    within(async {
        while let Some(event) = events.next().await {
            if let Event::Apply(object) | Event::InitApply(object) = event?
                && object.data["status"]["conditions"][0]["status"] == "True"
            {
                synced.insert(object.metadata.name);
                if synced.len() == count {
                    return Ok(Instant::now());
                }
            }
        }
        anyhow::bail!("the watch on SealedSecrets has ended")
    })
    .await
}

async fn within<T>(wait: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::time::timeout(PATIENCE, wait)
        .await
        .with_context(|| format!("not within {PATIENCE:?}"))?
}
