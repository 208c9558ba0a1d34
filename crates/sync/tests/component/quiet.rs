//! A commit costs those that it is about; the others say that they have seen it, and nothing else.

use k8s_openapi::api::core::v1::Event;
use kube::{
    Api,
    api::{ListParams, Patch, PatchParams},
};
use plumbline_testkit::wait_for;
use serde_json::json;

use crate::bench::{Bench, LIMIT, last_applied, ready};

const ALL: usize = 12;

async fn all_at(bench: &Bench, revision: &str) -> anyhow::Result<()> {
    let what = format!("all to be at {revision}");
    wait_for(&what, LIMIT, async || {
        let list = bench.kustomizations().list(&ListParams::default()).await;
        let list = list.map_err(|error| error.to_string())?.items;
        let done = list
            .iter()
            .filter(|object| last_applied(object) == revision && ready(object).0 == "True")
            .count();
        if done == ALL {
            Ok(())
        } else {
            Err(format!("{done}"))
        }
    })
    .await
}

/// Reasons of the events about Kustomizations, each with the name.
async fn told(bench: &Bench) -> anyhow::Result<Vec<(String, String)>> {
    let api: Api<Event> = Api::namespaced(bench.world.client(), bench.namespace());
    let events = api.list(&ListParams::default()).await?.items;
    let about = events
        .into_iter()
        .filter(|event| event.involved_object.kind.as_deref() == Some("Kustomization"));
    let mut told: Vec<_> = about
        .map(|event| {
            let name = event.involved_object.name.unwrap_or_default();
            (name, event.reason.unwrap_or_default())
        })
        .collect();
    told.sort();
    Ok(told)
}

#[tokio::test]
async fn a_commit_is_told_by_those_that_it_changes_and_costs_the_others_one_status() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let path = |n: usize| format!("k{n:02}");
    for n in 0..ALL {
        bench
            .repository
            .write(&format!("{}/it.yaml", path(n)), bench.manifest(&path(n), "1"))?;
    }
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    for n in 0..ALL {
        let on = if n > 1 {
            json!([{ "name": path(1) }])
        } else {
            json!([])
        };
        bench
            .kustomization(
                &path(n),
                json!({ "path": path(n), "dependsOn": on, "wait": n % 2 == 0 }),
            )
            .await?;
    }
    let _syncer = bench.start(&[])?;
    all_at(&bench, &first).await?;
    let before = wait_for("everybody to have told it", LIMIT, async || {
        let told = told(&bench).await.map_err(|error| error.to_string())?;
        let done = told
            .iter()
            .filter(|(_, reason)| reason == "ReconciliationSucceeded")
            .count();
        if done == ALL {
            Ok(told)
        } else {
            Err(format!("{told:?}"))
        }
    })
    .await?;

    let log = bench.world.audit_log().since_now()?;
    bench
        .repository
        .write(&format!("{}/it.yaml", path(0)), bench.manifest(&path(0), "2"))?;
    let second = bench.push().await?;
    all_at(&bench, &second).await?;
    // Events are sent in the background: another one comes after all of them.
    let edit = json!({ "data": { "key": "edited" } });
    bench
        .config_maps()
        .patch(&path(3), &PatchParams::default(), &Patch::Merge(&edit))
        .await?;
    bench.event("Kustomization", "DriftCorrected", &path(3)).await?;
    let mut news = told(&bench).await?;
    for known in before {
        let at = news.iter().position(|it| *it == known);
        news.remove(at.unwrap_or_else(|| panic!("{known:?} is gone")));
    }
    let one = |n: usize, reason: &str| (path(n), reason.to_owned());
    assert_eq!(
        news,
        [
            one(0, "Progressing"),
            one(0, "ReconciliationSucceeded"),
            one(3, "DriftCorrected")
        ]
    );
    // What those read who tell Git hosts of it: Flux's keys.
    let api: Api<Event> = Api::namespaced(bench.world.client(), bench.namespace());
    let events = api.list(&ListParams::default()).await?.items;
    let keys = |reason: &str| {
        let mut of = events.iter().filter(|event| {
            event.involved_object.name.as_deref() == Some(&path(0)) && event.reason.as_deref() == Some(reason)
        });
        let newest = of
            .next_back()
            .and_then(|event| event.metadata.annotations.clone());
        newest.unwrap_or_default()
    };
    let key = |name: &str, value: &str| (format!("kustomize.toolkit.fluxcd.io/{name}"), value.to_owned());
    let revision = key("revision", &second);
    assert_eq!(keys("Progressing"), [revision.clone()].into());
    assert_eq!(
        keys("ReconciliationSucceeded"),
        [revision, key("commit_status", "update")].into()
    );
    let requests = bench.requests(&log)?;
    let mut asked: Vec<(String, String, usize)> = requests
        .by_verb_and_resource()
        .into_iter()
        .map(|((verb, resource), count)| (verb, resource, count))
        .collect();
    asked.retain(|(_, resource, _)| resource != "events");
    println!("{asked:?}");
    assert_eq!(
        asked,
        [
            ("patch", "configmaps", 2),
            ("patch", "gitrepositories/status", 1),
            ("patch", "kustomizations/status", ALL),
        ]
        .map(|(verb, resource, count)| (verb.to_owned(), resource.to_owned(), count))
    );
    Ok(())
}
