//! Measures the release binary on a real control plane: latency, fan-out, memory, requests.
//!
//! `cargo build --release -p plumbline-reloader && cargo run --release -p plumbline-reloader --example measure -- BINARY [DEPLOYMENTS] [SOURCES]`

use std::{
    collections::HashMap,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use futures::{StreamExt, stream};
use k8s_openapi::api::{apps::v1::Deployment, core::v1::ConfigMap};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams, WatchEvent, WatchParams},
};
use plumbline_common::client::ClientOptions;
use plumbline_testkit::{Leash, World, wait_for};
use serde_json::json;

mod connect;

use connect::connect;

const HASH: &str = "reloader.plumbline.dev/config-hash";
const SOURCES: &str = "reloader.plumbline.dev/sources";
const LIMIT: Duration = Duration::from_mins(1);

#[allow(clippy::print_stdout, reason = "printing is what it is for")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    plumbline_common::client::install_crypto_provider();
    let mut arguments = std::env::args().skip(1);
    let binary = arguments.next().context("which binary?")?;
    let deployments: usize = arguments.next().map_or(Ok(200), |text| text.parse())?;
    let sources: usize = arguments.next().map_or(Ok(0), |text| text.parse())?;
    let world = World::new().await?;
    // Without Nagle's delay of its own, which would be measured too.
    let options = ClientOptions {
        kubeconfig: Some(world.kubeconfig()),
        context: None,
    };
    let client = connect(&options, "measure").await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), world.namespace());
    let api: Api<Deployment> = Api::namespaced(client, world.namespace());

    populate(&maps, &api, deployments, sources).await?;

    let start = || -> anyhow::Result<(Leash, std::process::Child)> {
        let leash = Leash::new()?;
        let mut command = Command::new(&binary);
        command
            .args(["--listen-address=0", "--debounce=0s", "--flap-limit=0"])
            .arg(format!("--namespaces={}", world.namespace()))
            .arg(format!("--kubeconfig={}", world.kubeconfig().display()))
            .env("POD_NAMESPACE", world.namespace())
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let child = leash.spawn(&mut command)?;
        Ok((leash, child))
    };
    let began = Instant::now();
    let (leash, mut child) = start()?;
    wait_for("adoption", LIMIT, async || {
        let list = api
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|error| error.to_string())?;
        let adopted = list
            .items
            .iter()
            .filter(|item| item.annotations().contains_key(SOURCES))
            .count();
        if adopted == deployments + 1 {
            Ok(())
        } else {
            Err(adopted.to_string())
        }
    })
    .await?;
    println!(
        "adopted {} workloads within {:?}; {}",
        deployments + 1,
        began.elapsed(),
        memory(child.id())?
    );

    let mut latencies = Vec::new();
    for round in 1..=100 {
        latencies.push(change(&maps, &api, "own", &round.to_string(), 1).await?.1);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    latencies.sort();
    println!(
        "one to one: best {:?} p50 {:?} p99 {:?} worst {:?}",
        latencies[0], latencies[49], latencies[98], latencies[99]
    );

    println!("deciles: {:?}", latencies.iter().step_by(10).collect::<Vec<_>>());

    let log = world.audit_log().since_now()?;
    let (first, last) = change(&maps, &api, "shared", "1", deployments).await?;
    println!("one to {deployments}: first {first:?} last {last:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let requests = log
        .requests("plumbline-reloader")?
        .in_namespace(world.namespace());
    println!(
        "requests: {:?}; {}",
        requests.by_verb_and_resource(),
        memory(child.id())?
    );

    child.kill()?;
    child.wait()?;
    drop(leash);
    let log = world.audit_log().since_now()?;
    let (leash, mut child) = start()?;
    tokio::time::sleep(Duration::from_secs(15)).await;
    let requests = log
        .requests("plumbline-reloader")?
        .in_namespace(world.namespace());
    println!(
        "restart: {:?}; {}",
        requests.by_verb_and_resource(),
        memory(child.id())?
    );
    child.kill()?;
    child.wait()?;
    drop(leash);
    Ok(())
}

async fn populate(
    maps: &Api<ConfigMap>,
    api: &Api<Deployment>,
    deployments: usize,
    sources: usize,
) -> anyhow::Result<()> {
    let filler = "x".repeat(20 << 10);
    parallel(sources, async |number| {
        create(
            maps,
            json!({"metadata": {"name": format!("filler-{number}")}, "data": {"key": filler}}),
        )
        .await
    })
    .await?;
    create(
        maps,
        json!({"metadata": {"name": "shared"}, "data": {"key": "0"}}),
    )
    .await?;
    create(maps, json!({"metadata": {"name": "own"}, "data": {"key": "0"}})).await?;
    parallel(deployments, async |number| {
        create(api, deployment(&format!("web-{number}"), "shared")).await
    })
    .await?;
    create(api, deployment("single", "own")).await?;
    Ok(())
}

async fn parallel(number: usize, work: impl AsyncFn(usize) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut results = stream::iter(0..number)
        .map(|number| work(number))
        .buffer_unordered(8);
    while let Some(result) = results.next().await {
        result?;
    }
    Ok(())
}

async fn create<K>(api: &Api<K>, object: serde_json::Value) -> anyhow::Result<()>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned + serde::Serialize,
{
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}

fn deployment(name: &str, source: &str) -> serde_json::Value {
    json!({
        "metadata": {"name": name, "annotations": {"reloader.stakater.com/auto": "true"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": name}}, "template": {
            "metadata": {"labels": {"app": name}},
            "spec": {"containers": [{"name": "a", "image": "example.com/nothing:1",
                "envFrom": [{"configMapRef": {"name": source}}]}]}}},
    })
}

// Changes a ConfigMap and watches until so many templates have changed. Returns when the first and the last did.
async fn change(
    maps: &Api<ConfigMap>,
    api: &Api<Deployment>,
    name: &str,
    content: &str,
    wanted: usize,
) -> anyhow::Result<(Duration, Duration)> {
    let list = api.list(&kube::api::ListParams::default()).await?;
    let hash = |item: &Deployment| {
        let annotations = item
            .spec
            .as_ref()?
            .template
            .metadata
            .as_ref()?
            .annotations
            .as_ref()?;
        annotations.get(HASH).cloned()
    };
    let before: HashMap<_, _> = list
        .items
        .iter()
        .map(|item| (item.name_any(), hash(item)))
        .collect();
    let version = list.metadata.resource_version.unwrap_or_default();
    let mut events = api.watch(&WatchParams::default(), &version).await?.boxed();
    let began = Instant::now();
    let patch = json!({"data": {"key": content}});
    maps.patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    let mut changed = HashMap::new();
    while let Some(event) = tokio::time::timeout(LIMIT, events.next()).await? {
        if let WatchEvent::Modified(item) = event?
            && before.get(&item.name_any()) != Some(&hash(&item))
        {
            changed.entry(item.name_any()).or_insert_with(|| began.elapsed());
            if changed.len() == wanted {
                break;
            }
        }
    }
    let times = || changed.values().copied();
    Ok((
        times().min().unwrap_or_default(),
        times().max().unwrap_or_default(),
    ))
}

fn memory(pid: u32) -> anyhow::Result<String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let lines = status
        .lines()
        .filter(|line| line.starts_with("VmRSS") || line.starts_with("VmHWM"));
    Ok(lines
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect::<Vec<_>>()
        .join(", "))
}
