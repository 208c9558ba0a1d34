//! Nothing is lost and nothing is repeated when the reloader is killed.

use plumbline_testkit::ControlPlane;

use crate::{
    harness::{AUTO, Bench, workload},
    process::Start,
};

#[tokio::test]
async fn what_changed_while_it_was_down_is_rolled_and_nothing_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for number in 0..6 {
        let name = format!("app-{number}");
        bench.config_map(&name, "v1").await?;
        let named = ("configmap.reloader.stakater.com/reload", name.as_str());
        bench.create(workload("Deployment", &name, &[named])).await?;
    }
    let mut reloader = bench.start(&[]).await?;
    let mut before = Vec::new();
    for number in 0..6 {
        let name = format!("app-{number}");
        bench
            .adopted("Deployment", &name, &[&format!("cm/{name}")])
            .await?;
        before.push(bench.get("Deployment", &name).await?);
    }
    reloader.kill();
    for number in [1, 4] {
        bench.set("ConfigMap", &format!("app-{number}"), "v2").await?;
    }
    let _reloader = bench.start(&[]).await?;
    for number in [1, 4] {
        let template = &before[number]["spec"]["template"];
        bench
            .rolled("Deployment", &format!("app-{number}"), template)
            .await?;
    }
    tokio::time::sleep(crate::harness::QUIET).await;
    for number in [0, 2, 3, 5] {
        let after = bench.get("Deployment", &format!("app-{number}")).await?;
        assert_eq!(
            after["metadata"]["annotations"],
            before[number]["metadata"]["annotations"]
        );
        assert_eq!(after["spec"], before[number]["spec"]);
    }
    Ok(())
}

#[tokio::test]
async fn a_restart_with_nothing_changed_writes_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.secret("db", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let mut reloader = bench.start(&[]).await?;
    bench.adopted("Deployment", "web", &["cm/app", "sec/db"]).await?;
    reloader.kill();
    let log = bench.world.audit_log().since_now()?;
    let _reloader = bench.start(&[]).await?;
    tokio::time::sleep(crate::harness::QUIET).await;
    let requests = log
        .requests("plumbline-reloader")?
        .in_namespace(bench.world.namespace());
    let verbs = requests.by_verb_and_resource();
    let writes: Vec<_> = verbs
        .keys()
        .filter(|(verb, _)| !["get", "list", "watch"].contains(&verb.as_str()))
        .collect();
    assert!(writes.is_empty(), "{verbs:?}");
    let lists: usize = verbs
        .iter()
        .filter(|((verb, _), _)| verb == "list")
        .map(|(_, count)| count)
        .sum();
    assert_eq!(
        lists, 8,
        "one list a kind and one of the copies of Jobs: {verbs:?}"
    );
    Ok(())
}

#[tokio::test]
async fn killed_at_any_point_it_rolls_once() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v0").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    for round in 1_u64..=5 {
        let before = bench.template("Deployment", "web").await?;
        bench.set("ConfigMap", "app", &format!("v{round}")).await?;
        tokio::time::sleep(std::time::Duration::from_millis(round * 7)).await;
        reloader.kill();
        reloader = bench.start(&["--debounce=0s"]).await?;
        let after = bench.rolled("Deployment", "web", &before).await?;
        bench.stays("Deployment", "web", &after).await?;
        assert_eq!(bench.count("Deployment", "web").await?, round);
    }
    Ok(())
}

#[tokio::test]
async fn a_standby_takes_over_and_loses_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let arguments = ["--enable-ha=true", "--debounce=0s"];
    let mut leader = bench.spawn(&named("one"), &arguments)?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let mut standby = bench.spawn(&named("two"), &arguments)?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let first = bench.rolled("Deployment", "web", &before).await?;
    bench.stays("Deployment", "web", &first).await?;
    leader.kill();
    bench.set("ConfigMap", "app", "v3").await?;
    let second = bench.rolled("Deployment", "web", &first).await?;
    bench.stays("Deployment", "web", &second).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 2);

    // One that is asked to end gives the lease away.
    let _third = bench.ready(bench.spawn(&named("three"), &arguments)?).await?;
    assert!(standby.stop()?.success(), "{}", standby.log());
    let lease = bench.get("Lease", "stakater-reloader-lock").await?;
    let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
    assert!(["", "three"].contains(&holder), "{lease}");
    bench.set("ConfigMap", "app", "v4").await?;
    let third = bench.rolled("Deployment", "web", &second).await?;
    bench.stays("Deployment", "web", &third).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 3);
    Ok(())
}

#[tokio::test]
async fn an_outage_of_the_api_server_is_survived() -> anyhow::Result<()> {
    let plane = ControlPlane::start_temporary()?;
    let bench = Bench::on(&plane).await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    // A change whose patch the API server does not live to answer, or even to see.
    bench.set("ConfigMap", "app", "v2").await?;
    plane.stop_apiserver()?;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    plane.start_apiserver()?;
    let second = bench.rolled("Deployment", "web", &before).await?;
    bench.set("ConfigMap", "app", "v3").await?;
    let third = bench.rolled("Deployment", "web", &second).await?;
    bench.stays("Deployment", "web", &third).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 2);
    assert!(!reloader.log().contains("panicked"), "{}", reloader.log());
    Ok(())
}

fn named(pod: &str) -> Start<'_> {
    Start {
        variables: vec![("POD_NAME", pod)],
        ..Start::default()
    }
}
