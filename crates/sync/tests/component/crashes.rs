//! kill -9, a second replica, and an API server that goes away.

use std::collections::BTreeSet;

use anyhow::Context as _;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::{Api, api::ListParams};
use plumbline_testkit::{ControlPlane, wait_for};
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries, patches};

const OWNED: &str = "kustomize.toolkit.fluxcd.io/name=app";

async fn owned(bench: &Bench) -> anyhow::Result<BTreeSet<String>> {
    let list = bench
        .config_maps()
        .list(&ListParams::default().labels(OWNED))
        .await?;
    Ok(list.items.into_iter().filter_map(|it| it.metadata.name).collect())
}

#[tokio::test]
async fn killed_in_the_middle_of_a_thousand_it_converges_without_orphans() -> anyhow::Result<()> {
    const ALL: usize = 1000;
    let bench = Bench::new().await?;
    for i in 0..ALL {
        bench.write_config_map(&format!("m{i:04}"), "1")?;
    }
    bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&["--deletion-budget-percentage=100"])?;
    wait_for("the middle of the apply", LIMIT, async || {
        match owned(&bench).await {
            Ok(names) if names.len() > ALL / 5 => Ok(()),
            other => Err(format!("{:?}", other.map(|it| it.len()))),
        }
    })
    .await?;
    syncer.kill();
    let made = owned(&bench).await?;
    println!("killed with {} of {ALL} objects made", made.len());
    assert!(made.len() < ALL, "the kill came too late");
    // What was made, and may have been, is in the inventory already.
    let object = bench.kustomizations().get(APP).await?;
    let known: BTreeSet<String> = entries(&object).into_iter().map(|(id, _)| id).collect();
    for name in &made {
        assert!(
            known.contains(&format!("{}_{name}__ConfigMap", bench.namespace())),
            "{name}"
        );
    }

    // While it is down half of the files go, from both ends of what was made.
    for i in (0..ALL).step_by(2) {
        bench.repository.remove(&format!("deploy/m{i:04}.yaml"))?;
    }
    let revision = bench.commit()?;
    let log = bench.world.audit_log().since_now()?;
    let _syncer = bench.start(&["--deletion-budget-percentage=100"])?;
    bench.request_source().await?;
    let object = bench.applied(&revision).await?;
    let left = owned(&bench).await?;
    let expected: BTreeSet<String> = (1..ALL).step_by(2).map(|i| format!("m{i:04}")).collect();
    assert_eq!(left, expected);
    assert_eq!(entries(&object).len(), ALL / 2);
    // Restarted, it may apply the old revision from its mirror first; nothing is applied more than twice.
    let sent = patches(&bench.requests(&log)?, "configmaps");
    println!("{sent} applies after the restart");
    assert!(sent <= 2 * ALL, "{sent}");
    Ok(())
}

#[tokio::test]
async fn a_restart_with_nothing_new_changes_nothing() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    let before = bench.config_maps().get("a").await?.metadata.resource_version;
    drop(syncer);
    let _syncer = bench.start(&[])?;
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the request to be handled", |object| {
            let handled = object.status.as_ref();
            handled.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&asked)
        })
        .await?;
    bench.applied(&revision).await?;
    let after = bench.config_maps().get("a").await?.metadata.resource_version;
    assert_eq!(before, after, "the object was written again");
    Ok(())
}

#[tokio::test]
async fn one_of_two_replicas_works_and_the_other_takes_over() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    let mut first = bench.start_named("syncer-0", &["--enable-leader-election"])?;
    bench.applied(&revision).await?;
    let mut second = bench.start_named("syncer-1", &["--enable-leader-election"])?;
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> =
        Api::namespaced(bench.world.client(), bench.namespace());
    let holder = async || -> anyhow::Result<Option<String>> {
        let lease = leases.get("plumbline-sync-leader-election").await?;
        Ok(lease.spec.and_then(|spec| spec.holder_identity))
    };
    wait_for("the standby to wait", LIMIT, async || {
        let log = second.log();
        if log.contains("waiting for the lease") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    bench.write_config_map("a", "2")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    assert_eq!(holder().await?.as_deref(), Some("syncer-0"));
    assert!(!second.log().contains("leading"), "{}", second.log());
    assert!(first.runs() && second.runs());

    first.kill();
    bench.write_config_map("a", "3")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    assert_eq!(holder().await?.as_deref(), Some("syncer-1"));
    assert_eq!(bench.value("a").await?.as_deref(), Some("3"));
    assert!(second.runs());

    // One that is asked to end gives the lease away, and nobody waits for its end.
    let third = bench.start_named("syncer-2", &["--enable-leader-election"])?;
    wait_for("the new standby to wait", LIMIT, async || {
        let log = third.log();
        if log.contains("waiting for the lease") {
            Ok(())
        } else {
            Err(log)
        }
    })
    .await?;
    let renewed = async || -> anyhow::Result<(String, Timestamp)> {
        let spec = leases.get("plumbline-sync-leader-election").await?.spec;
        let spec = spec.context("no spec")?;
        let at = spec.renew_time.map(|time| time.0).unwrap_or_default();
        Ok((spec.holder_identity.unwrap_or_default(), at))
    };
    let (_, before) = renewed().await?;
    assert!(second.stop()?.success(), "{}", second.log());
    let after = wait_for("the new standby to lead", LIMIT, async || match renewed().await {
        Ok((name, at)) if name == "syncer-2" => Ok(at),
        other => Err(format!("{other:?}")),
    })
    .await?;
    // It would have held for 15 s.
    let took = after.duration_since(before);
    println!("taken over {took} after the last renewal");
    assert!(took < SignedDuration::from_secs(15), "{took}");
    bench.write_config_map("a", "4")?;
    let revision = bench.push().await?;
    bench.applied(&revision).await?;
    Ok(())
}

#[tokio::test]
async fn an_api_server_that_goes_away_is_waited_for() -> anyhow::Result<()> {
    let plane = tokio::task::spawn_blocking(ControlPlane::start_temporary).await??;
    let bench = Bench::on(&plane).await?;
    for i in 0..20 {
        bench.write_config_map(&format!("m{i}"), "1")?;
    }
    let revision = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&revision).await?;

    plane.stop_apiserver()?;
    bench.write_config_map("m0", "2")?;
    bench.repository.remove("deploy/m1.yaml")?;
    let revision = bench.commit()?;
    // Long enough that its requests and watches have failed.
    wait_for("the outage to be noticed", LIMIT, async || {
        let log = syncer.log();
        if log.contains("interrupted") || log.contains("will be tried again") {
            Ok(())
        } else {
            Err("nothing in the log")
        }
    })
    .await?;
    assert!(syncer.runs(), "{}", syncer.log());
    plane.start_apiserver()?;
    bench.request_source().await?;
    let object = bench.applied(&revision).await?;
    assert_eq!(entries(&object).len(), 19);
    assert_eq!(bench.value("m0").await?.as_deref(), Some("2"));
    // Drift is seen again, too: its watches are back.
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch(
            "m2",
            &kube::api::PatchParams::default(),
            &kube::api::Patch::Merge(&edit),
        )
        .await?;
    bench.until_value("m2", Some("1")).await?;
    assert!(syncer.runs());
    plane.check_alive().context("the control plane")?;
    Ok(())
}
