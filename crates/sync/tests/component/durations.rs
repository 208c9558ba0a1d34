//! Durations that nobody means, and requests without end.

use std::{net::TcpListener, time::Duration};

use serde_json::json;

use crate::{
    bench::{APP, Bench, patches, ready},
    webhook::scrape,
};

/// How often the syncer has looked at a Kustomization.
async fn looks(port: u16) -> anyhow::Result<u64> {
    let metrics = scrape(port).await?;
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("controller_runtime_reconcile_total{controller=\"kustomization\""))
        .filter_map(|line| line.rsplit(' ').next());
    Ok(counts.map(str::parse::<u64>).sum::<Result<_, _>>()?)
}

#[tokio::test]
async fn durations_that_nobody_means_are_refused_or_bounded() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    // The API server itself refuses what is no duration at all.
    for interval in ["1ns", "-1m", "1d", "", "1h;", "١m"] {
        let refused = bench.set_spec(APP, json!({ "interval": interval })).await;
        assert!(refused.is_err(), "{interval:?} was taken");
    }
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut syncer = bench.start(&[&format!("--metrics-addr=127.0.0.1:{port}")])?;
    bench.applied(&revision).await?;
    for field in ["interval", "retryInterval", "timeout"] {
        bench.set_spec(APP, json!({ field: "99999999999999h" })).await?;
        bench
            .until(APP, "the duration to be refused", |object| {
                let (_, reason, message) = ready(object);
                reason == "InvalidField" && message.contains(&format!("spec.{field}"))
            })
            .await?;
        bench.set_spec(APP, json!({ field: "1h" })).await?;
        bench
            .until(APP, "the field to be mended", |object| ready(object).0 == "True")
            .await?;
    }
    bench
        .source_named("endless", json!({ "interval": "99999999999999h" }))
        .await?;
    let message = bench.source_named_is("endless", "False", "InvalidField").await?;
    assert!(message.contains("spec.interval"), "{message}");

    // Nothing is as often as it says: once a second, and without a request where nothing changed.
    let zero = json!({ "interval": "0s", "retryInterval": "0s", "timeout": "0s" });
    bench.set_spec(APP, zero).await?;
    bench
        .until(APP, "the interval to be taken", |object| {
            object.status.as_ref().and_then(|it| it.observed_generation) == object.metadata.generation
        })
        .await?;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let log = bench.world.audit_log().since_now()?;
    let before = looks(port).await?;
    tokio::time::sleep(Duration::from_secs(4)).await;
    let requests = bench.requests(&log)?;
    assert_eq!(requests.count(), 0, "{:?}", requests.by_verb_and_resource());
    let looked = looks(port).await? - before;
    assert!((1..=6).contains(&looked), "{looked} looks in 4 s of interval 0s");
    // The source asks its server no more often either.
    bench.server.requests();
    bench.world.kubectl(&[
        "patch",
        "gitrepository",
        APP,
        "--type=merge",
        "-p",
        r#"{"spec":{"interval":"0s"}}"#,
    ])?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    let polls = bench.server.requests().len();
    println!("{polls} requests to the Git server in 5 s of interval 0s");
    assert!(polls <= 14, "{polls}");
    assert!(syncer.runs());
    Ok(())
}

#[tokio::test]
async fn a_storm_of_requests_is_one_look_after_another() -> anyhow::Result<()> {
    const STORM: usize = 150;
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    bench.kustomization("other", json!({ "path": "./other" })).await?;
    bench
        .repository
        .write("other/b.yaml", bench.manifest("other", "1"))?;
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    let log = bench.world.audit_log().since_now()?;
    let mut last = String::new();
    for _ in 0..STORM {
        last = bench.request(APP).await?;
    }
    // Somebody else's commit is applied in the midst of it.
    let second = bench.push().await?;
    bench.applied_by("other", &second).await?;
    bench
        .until(APP, "the last request to be handled", |object| {
            let status = object.status.as_ref();
            status.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&last)
        })
        .await?;
    let requests = bench.requests(&log)?;
    println!("{:?}", requests.by_verb_and_resource());
    let others = requests.0.iter().filter(|it| it.name != "other").count();
    assert!(others <= 2 * STORM + 20, "{others}");
    assert_eq!(patches(&requests, "configmaps"), 1, "only what is new is applied");
    Ok(())
}
