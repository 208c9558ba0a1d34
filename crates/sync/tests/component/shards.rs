//! An inventory that has no room in the status.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};
use plumbline_testkit::wait_for;

use crate::bench::{APP, Bench, LIMIT, entries};

const ALL: usize = 300;
const OWNED: &str = "kustomize.toolkit.fluxcd.io/name=app";
const FLAGS: [&str; 2] = ["--inventory-status-limit=50", "--deletion-budget-percentage=100"];

async fn owned(bench: &Bench) -> anyhow::Result<BTreeSet<String>> {
    let list = bench
        .config_maps()
        .list(&ListParams::default().labels(OWNED))
        .await?;
    Ok(list.items.into_iter().filter_map(|it| it.metadata.name).collect())
}

async fn shards(bench: &Bench) -> anyhow::Result<Vec<ConfigMap>> {
    let api: Api<ConfigMap> = bench.config_maps();
    let list = api
        .list(&ListParams::default().labels("app.kubernetes.io/managed-by=plumbline-sync"))
        .await?;
    Ok(list.items)
}

/// Names in the status and in the shards.
async fn known(bench: &Bench) -> anyhow::Result<(BTreeSet<String>, BTreeSet<String>)> {
    let name = |id: &str| id.split('_').nth(1).unwrap_or_default().to_owned();
    let object = bench.kustomizations().get(APP).await?;
    let ids = entries(&object).into_iter().map(|(id, _)| name(&id));
    let in_status = ids
        .filter(|name| !name.starts_with("plumbline-inventory-"))
        .collect();
    let mut in_shards = BTreeSet::new();
    for map in shards(bench).await? {
        let text = map.data.unwrap_or_default().remove("entries").unwrap_or_default();
        in_shards.extend(text.lines().map(name));
    }
    Ok((in_status, in_shards))
}

#[tokio::test]
async fn killed_in_the_middle_a_sharded_inventory_knows_everything_that_was_made() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for i in 0..ALL {
        bench.write_config_map(&format!("m{i:03}"), "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&FLAGS)?;
    wait_for("the middle of the apply", LIMIT, async || {
        match owned(&bench).await {
            Ok(names) if names.len() > ALL / 6 => Ok(()),
            other => Err(format!("{:?}", other.map(|it| it.len()))),
        }
    })
    .await?;
    syncer.kill();
    let made = owned(&bench).await?;
    println!("killed with {} of {ALL} objects made", made.len());
    let (in_status, in_shards) = known(&bench).await?;
    assert_eq!(in_status.len(), 50);
    assert!(
        made.iter()
            .all(|name| in_status.contains(name) || in_shards.contains(name))
    );

    // Another process goes on, and prunes what only a shard listed.
    let syncer = bench.start(&FLAGS)?;
    bench.applied(&first).await?;
    drop(syncer);
    for i in (0..ALL).step_by(2) {
        bench.repository.remove(&format!("deploy/m{i:03}.yaml"))?;
    }
    let second = bench.commit()?;
    let syncer = bench.start(&FLAGS)?;
    bench.request_source().await?;
    bench.applied(&second).await?;
    let left: BTreeSet<String> = (1..ALL).step_by(2).map(|i| format!("m{i:03}")).collect();
    assert_eq!(owned(&bench).await?, left);
    let (in_status, in_shards) = known(&bench).await?;
    assert_eq!(
        in_status.union(&in_shards).cloned().collect::<BTreeSet<_>>(),
        left
    );
    assert_eq!(in_status.intersection(&in_shards).count(), 0);

    // Without a shard nothing is known for sure: nothing is applied or deleted, and the status says which is missing.
    drop(syncer);
    let shard = shards(&bench).await?.remove(0);
    let name = shard.metadata.name.clone().unwrap_or_default();
    bench
        .config_maps()
        .delete(&name, &DeleteParams::default())
        .await?;
    bench.write_config_map("m001", "2")?;
    let third = bench.commit()?;
    let syncer = bench.start(&FLAGS)?;
    bench.request_source().await?;
    let message = bench.fails(&third, "ReconciliationFailed").await?;
    assert!(message.contains(&name), "{message}");
    assert_eq!(bench.value("m001").await?.as_deref(), Some("1"));
    let restored = ConfigMap {
        metadata: kube::api::ObjectMeta {
            name: Some(name),
            labels: shard.metadata.labels,
            owner_references: shard.metadata.owner_references,
            ..kube::api::ObjectMeta::default()
        },
        ..shard
    };
    bench
        .config_maps()
        .create(&kube::api::PostParams::default(), &restored)
        .await?;
    bench.applied(&third).await?;

    // Deleting the Kustomization takes everything with it, the shards last.
    drop(syncer);
    let _syncer = bench.start(&FLAGS)?;
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    wait_for("everything to be gone", LIMIT, async || {
        let left = owned(&bench).await.map_err(|error| error.to_string())?.len();
        let shards = shards(&bench).await.map_err(|error| error.to_string())?.len();
        if left + shards == 0 {
            Ok(())
        } else {
            Err(format!("{left} objects, {shards} shards"))
        }
    })
    .await
}
