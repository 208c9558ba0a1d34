//! A status that would be larger than what etcd takes.

use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{APP, Bench, LIMIT, entries};

#[tokio::test]
async fn an_inventory_of_long_names_has_room() -> anyhow::Result<()> {
    // 1.8 MiB of entries, and fewer than --inventory-status-limit.
    const ALL: usize = 5_500;
    let bench = Bench::new().await?;
    let mut manifests = String::new();
    for i in 0..ALL {
        manifests.push_str(&bench.manifest(&format!("m{i:0249}"), "1"));
        manifests.push_str("---\n");
    }
    bench.repository.write("deploy/all.yaml", &manifests)?;
    bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    // It is written ahead: as soon as the first object is there, all of it is.
    let object = bench
        .until(APP, "the inventory to be written", |object| {
            !entries(object).is_empty()
        })
        .await?;
    wait_for("the first objects", LIMIT, async || {
        let params = kube::api::ListParams::default()
            .limit(10)
            .labels("kustomize.toolkit.fluxcd.io/name=app");
        match bench.config_maps().list(&params).await {
            Ok(list) if list.items.len() >= 10 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    syncer.kill();
    let size = json!(object.status).to_string().len();
    println!("a status of {size} bytes");
    assert!(size < 1_400_000, "{size}");
    let shards: Vec<_> = entries(&object)
        .into_iter()
        .filter(|(id, _)| id.contains("plumbline-inventory-"))
        .collect();
    assert!(!shards.is_empty());
    let mut known = entries(&object).len() - shards.len();
    for (id, _) in &shards {
        let name = id.split('_').nth(1).unwrap_or_default();
        let map = bench.config_maps().get(name).await?;
        let text = map.data.unwrap_or_default().remove("entries").unwrap_or_default();
        assert!(text.len() < 1 << 20, "{} bytes", text.len());
        known += text.lines().count();
    }
    assert_eq!(known, ALL);
    Ok(())
}
