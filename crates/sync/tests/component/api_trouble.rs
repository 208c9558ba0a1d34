//! Whatever is answered in the place of the API server: nothing is deleted, given up or taken for somebody else's on incomplete
//! knowledge, and all goes on when the trouble is over.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::{
    bench::{APP, Bench, LIMIT, entries, patches, ready},
    faults::{Fault, FaultyServer, about, lists, watches},
};

const PREFIX: &str = "kustomize.toolkit.fluxcd.io/";

/// Waits until the present fault has been answered so often.
async fn answered(api: &FaultyServer, times: usize) -> anyhow::Result<()> {
    wait_for("the fault to be met", LIMIT, async || match api.answered() {
        seen if seen >= times => Ok(()),
        seen => Err(seen),
    })
    .await
}

/// Waits until the Kustomization has handled a request.
async fn handled(bench: &Bench) -> anyhow::Result<()> {
    let asked = bench.request(APP).await?;
    bench
        .until(APP, "the request to be handled", |object| {
            let status = object.status.as_ref();
            status.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&asked)
        })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_or_deleted_stays_in_the_inventory() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    for name in ["a", "b", "c"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    // Somebody in between does not know the way, or the API server has no answer: that is no word about the object.
    bench.repository.remove("deploy/b.yaml")?;
    api.answer(Fault::Page(404), usize::MAX, about("GET", "configmaps", "b"));
    let second = bench.push().await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(message.contains("/b: cannot be deleted"), "{message}");
    for fault in [
        Fault::Status(500),
        Fault::Page(200),
        Fault::Status(404),
        Fault::Status(410),
    ] {
        for method in ["GET", "DELETE"] {
            // A page instead of the answer to a deletion: it may have been done.
            if method == "DELETE" && matches!(fault, Fault::Page(_)) {
                continue;
            }
            // First both: a look that has read it already would delete it when only reading fails from now on.
            let (get, delete) = (
                about("GET", "configmaps", "b"),
                about("DELETE", "configmaps", "b"),
            );
            api.answer(Fault::Status(500), usize::MAX, move |parts| {
                get(parts) || delete(parts)
            });
            handled(&bench).await?;
            answered(&api, 1).await?;
            api.answer(fault.clone(), usize::MAX, about(method, "configmaps", "b"));
            handled(&bench).await?;
            answered(&api, 1).await?;
            assert!(bench.value("b").await?.is_some(), "{fault:?} to {method}");
            let object = bench.kustomizations().get(APP).await?;
            assert_eq!(entries(&object).len(), 3, "{fault:?} to {method}");
            assert_eq!(ready(&object).1, "ReconciliationFailed", "{fault:?} to {method}");
        }
    }
    // It has no time for a while, and says when it has.
    api.answer(Fault::Status(429), 3, about("DELETE", "configmaps", "b"));
    let object = bench.applied(&second).await?;
    assert_eq!(entries(&object).len(), 2);
    assert_eq!(bench.value("b").await?, None);
    assert_eq!(api.answered(), 3);

    // The end of the Kustomization is no different.
    api.answer(Fault::Page(404), usize::MAX, about("GET", "configmaps", "c"));
    let api_of = bench.kustomizations();
    api_of.delete(APP, &DeleteParams::default()).await?;
    bench
        .until(APP, "the end to be held up", |object| {
            ready(object).1 == "PruneFailed"
        })
        .await?;
    assert!(bench.value("c").await?.is_some());
    api.forward_all();
    bench.until_value("c", None).await?;
    wait_for("the Kustomization to be gone", LIMIT, async || {
        match api_of.get_opt(APP).await {
            Ok(None) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    bench.until_value("a", None).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_cannot_be_listed_is_asked_for_object_by_object() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    for name in ["mine", "frozen", "unread"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let freeze = json!({
        "metadata": { "annotations": { format!("{PREFIX}reconcile"): "disabled" } }, "data": { "key": "by hand" },
    });
    bench
        .config_maps()
        .patch("frozen", &PatchParams::default(), &Patch::Merge(&freeze))
        .await?;
    syncer.kill();

    for name in ["mine", "frozen", "unread"] {
        bench.write_config_map(name, "2")?;
    }
    let second = bench.commit()?;
    let (is_list, is_unread) = (lists("configmaps"), about("GET", "configmaps", "unread"));
    api.answer(Fault::Status(500), usize::MAX, move |parts| {
        is_list(parts) || is_unread(parts)
    });
    let _syncer = bench.start(&[])?;
    bench.request_source().await?;
    bench.until_value("mine", Some("2")).await?;
    let message = bench.fails(&second, "ReconciliationFailed").await?;
    assert!(
        message.contains("/unread: it is not known whether it is there"),
        "{message}"
    );
    assert_eq!(bench.value("frozen").await?.as_deref(), Some("by hand"));
    assert_eq!(bench.value("unread").await?.as_deref(), Some("1"));
    // It is not taken for somebody else's that is adopted and never deleted.
    let mine = bench.config_maps().get("mine").await?;
    let annotations = mine.metadata.annotations.unwrap_or_default();
    assert!(
        !annotations.contains_key("plumbline.dev/adopted"),
        "{annotations:?}"
    );

    api.forward_all();
    bench.until_value("unread", Some("2")).await?;
    bench.repository.remove("deploy/mine.yaml")?;
    let third = bench.push().await?;
    bench.applied(&third).await?;
    bench.until_value("mine", None).await?;
    assert_eq!(bench.value("frozen").await?.as_deref(), Some("by hand"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kind_that_may_not_be_listed_is_said_and_holds_nothing_up() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.app().await?;
    api.answer(Fault::Status(403), usize::MAX, lists("configmaps"));
    let began = Instant::now();
    let _syncer = bench.start(&[])?;
    bench.applied(&revision).await?;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(10),
        "a list that is refused was waited for: {took:?}"
    );
    let message = bench
        .event("Kustomization", "DriftNotWatched", "ConfigMap")
        .await?;
    assert!(message.starts_with("ConfigMap cannot be listed"), "{message}");
    // The right comes: so does the watch.
    api.forward_all();
    wait_for("drift to be put right", LIMIT, async || {
        let edit = json!({ "data": { "key": "by hand" } });
        let maps = bench.config_maps();
        let patched = maps
            .patch("a", &PatchParams::default(), &Patch::Merge(&edit))
            .await;
        patched.map_err(|error| error.to_string())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        match bench.value("a").await {
            Ok(Some(value)) if value == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kinds_that_cannot_be_discovered_are_said_and_delete_nothing() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    syncer.kill();

    bench.repository.remove("deploy/b.yaml")?;
    bench.write_config_map("a", "2")?;
    let second = bench.commit()?;
    for path in ["/apis", "/api"] {
        api.answer(Fault::Status(500), usize::MAX, move |parts| {
            parts.uri.path() == path
        });
        let _syncer = bench.start(&[])?;
        bench.request_source().await?;
        let message = bench.fails(&second, "ReconciliationFailed").await?;
        assert!(message.contains("cannot be discovered"), "{message}");
        answered(&api, 2).await?;
        assert_eq!(bench.value("a").await?.as_deref(), Some("1"), "{path}");
        assert!(bench.value("b").await?.is_some(), "{path}");
        let object = bench.kustomizations().get(APP).await?;
        assert_eq!(entries(&object).len(), 2, "{path}");
    }
    api.forward_all();
    let _syncer = bench.start(&[])?;
    bench.applied(&second).await?;
    assert_eq!(bench.value("b").await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watches_that_are_cut_and_expire_lose_and_repeat_nothing() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    bench.write_config_map("a", "1")?;
    bench.write_config_map("b", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let mut syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let version = async |name: &str| -> anyhow::Result<String> {
        let object = bench.config_maps().get(name).await?;
        object.metadata.resource_version.context("no version")
    };
    let before = version("b").await?;
    let log = bench.world.audit_log().since_now()?;

    // 410: what happened in between has to be found out by a new list.
    api.answer(Fault::Expired, 3, watches("configmaps"));
    api.cut_watches();
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch("a", &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    answered(&api, 3).await?;
    bench.until_value("a", Some("1")).await?;
    // The new list fails, too, and is made again.
    api.answer(Fault::Expired, 2, watches("configmaps"));
    api.answer_too(Fault::Status(500), 2, lists("configmaps"));
    api.cut_watches();
    bench.config_maps().delete("a", &DeleteParams::default()).await?;
    answered(&api, 4).await?;
    bench.until_value("a", Some("1")).await?;

    assert_eq!(
        version("b").await?,
        before,
        "it was written although nothing happened"
    );
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(entries(&object).len(), 2);
    let requests = bench.requests(&log)?;
    assert!(patches(&requests, "configmaps") <= 4, "{requests:?}");
    assert!(syncer.runs());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_server_without_time_is_not_pestered() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    for i in 0..12 {
        bench.write_config_map(&format!("m{i}"), "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    bench.repository.remove("deploy/m0.yaml")?;
    // The client waits a little and asks again; what it does not take for a passing thing waits a second, two, four.
    for (code, least, waits) in [(429, 40, 500), (500, 30, 3000)] {
        for i in 1..12 {
            bench.write_config_map(&format!("m{i}"), &code.to_string())?;
        }
        let is_write = |parts: &http::request::Parts| {
            parts.method == http::Method::PATCH && parts.uri.path().contains("/configmaps/m")
        };
        api.answer(Fault::Status(code), least, is_write);
        let begun = Instant::now();
        let revision = bench.push().await?;
        let object = bench.applied(&revision).await?;
        println!("{least} answers {code} took {:?}", begun.elapsed());
        assert_eq!(api.answered(), least);
        assert_eq!(entries(&object).len(), 11);
        bench.until_value("m1", Some(&code.to_string())).await?;
        // Each of twelve objects is tried, waits longer each time, and is not tried without end.
        assert!(
            begun.elapsed() > Duration::from_millis(waits),
            "{:?}",
            begun.elapsed()
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_health_that_could_not_be_read_is_read_again() -> anyhow::Result<()> {
    let mut bench = Bench::new().await?;
    let api = bench.behind_faults().await?;
    let ns = bench.namespace();
    bench.repository.write(
        "deploy/web.yaml",
        format!(
            "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web, namespace: {ns}}}\nspec:\n  replicas: 0\n  \
             selector: {{matchLabels: {{app: web}}}}\n  template:\n    metadata: {{labels: {{app: web}}}}\n    \
             spec: {{containers: [{{name: main, image: x}}]}}\n"
        ),
    )?;
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "wait": true, "timeout": "10m" }))
        .await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    // The Deployment changes, and nothing of it happens after the read that fails.
    api.answer(Fault::Status(500), 6, about("GET", "deployments", "web"));
    bench.repository.write(
        "deploy/web.yaml",
        std::fs::read_to_string(bench.repository.work_tree().join("deploy/web.yaml"))?
            .replace("image: x", "image: z"),
    )?;
    bench.repository.remove("deploy/a.yaml")?;
    let second = bench.push().await?;
    answered(&api, 4).await.with_context(|| syncer.log())?;
    assert_eq!(
        bench.value("a").await?.as_deref(),
        Some("1"),
        "nothing goes before"
    );
    bench.applied(&second).await?;
    assert_eq!(bench.value("a").await?, None);
    Ok(())
}
