//! What stands in the template, letter for letter as Stakater's tools read it.

use serde_json::{Value, json};

use crate::harness::{AUTO, Bench, HASH, workload};

/// SHA-1 of `key=updated`.
const UPDATED: &str = "6b3093988321555757cc9b88a5f2d59101a0261c";
/// What stands for a deleted source.
const DELETED: &str = "aae45badef99284e4dae01d6046154ea9d99532f";
const LAST_RELOADED_FROM: &str = "reloader.stakater.com/last-reloaded-from";

fn variables(template: &Value, container: usize) -> Vec<(String, String)> {
    let env = template["spec"]["containers"][container]["env"].as_array();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let variables = env
        .into_iter()
        .flatten()
        .map(|variable| (text(&variable["name"]), text(&variable["value"])));
    variables.collect()
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

// `a` uses `app` by a variable and `b` mounts it, only the init container uses `db`, nobody `my--app`.
fn two_containers() -> Value {
    let named = ("configmap.reloader.stakater.com/reload", "my--app");
    let mut object = workload("Deployment", "web", &[AUTO, named]);
    object["spec"]["template"]["spec"] = json!({
        "initContainers": [{"name": "i", "image": "example.com/nothing:1",
            "envFrom": [{"secretRef": {"name": "db"}}]}],
        "containers": [
            {"name": "a", "image": "example.com/nothing:1", "env": [{"name": "MINE", "value": "1"}],
             "envFrom": [{"configMapRef": {"name": "app"}}]},
            {"name": "b", "image": "example.com/nothing:1",
             "volumeMounts": [{"name": "app", "mountPath": "/app"}]}],
        "volumes": [{"name": "app", "configMap": {"name": "app"}}, {"name": "unused", "secret": {"secretName": "never"}}],
    });
    object
}

#[tokio::test]
async fn each_source_has_stakaters_variable_in_stakaters_container() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    for name in ["app", "my--app"] {
        bench.config_map(name, "v1").await?;
    }
    for name in ["db", "never"] {
        bench.secret(name, "v1").await?;
    }
    bench.create(two_containers()).await?;
    let arguments = [
        "--reload-strategy=env-vars",
        "--reload-on-delete=true",
        "--debounce=2s",
    ];
    let _reloader = bench.start(&arguments).await?;
    let sources = ["cm/app", "cm/my--app", "sec/db"];
    bench.adopted("Deployment", "web", &sources).await?;
    let before = bench.template("Deployment", "web").await?;
    // What is not mounted is not used.
    bench.set("Secret", "never", "updated").await?;
    bench.stays("Deployment", "web", &before).await?;

    for (kind, name) in [("ConfigMap", "app"), ("ConfigMap", "my--app"), ("Secret", "db")] {
        bench.set(kind, name, "updated").await?;
    }
    let rolled = bench.rolled("Deployment", "web", &before).await?;
    let mut first = variables(&rolled, 0);
    first.sort();
    let expected = [
        pair("MINE", "1"),
        pair("STAKATER_DB_SECRET", UPDATED),
        pair("STAKATER_MY_APP_CONFIGMAP", UPDATED),
    ];
    assert_eq!(first, expected);
    assert_eq!(variables(&rolled, 1), [pair("STAKATER_APP_CONFIGMAP", UPDATED)]);
    assert!(rolled["metadata"]["annotations"].is_null(), "{rolled}");

    // Stakater's removes a variable by its place in the list: here the owner's own is never hit.
    let own = json!({"name": "a", "env": [{"name": "NEW", "value": "1"}]});
    let own = json!({"spec": {"template": {"spec": {"containers": [own]}}}});
    bench.merge_lists("Deployment", "web", own).await?;
    let moved = bench.template("Deployment", "web").await?;
    bench.delete("Secret", "db").await?;
    let after = bench.rolled("Deployment", "web", &moved).await?;
    let mut first = variables(&after, 0);
    first.sort();
    let expected = [
        pair("MINE", "1"),
        pair("NEW", "1"),
        pair("STAKATER_MY_APP_CONFIGMAP", UPDATED),
    ];
    assert_eq!(first, expected);
    Ok(())
}

#[tokio::test]
async fn the_record_of_the_last_source_is_stakaters() -> anyhow::Result<()> {
    let (bench, _reloader, before) = Bench::web(&["--debounce=0s", "--reload-on-delete=true"]).await?;
    bench.set("ConfigMap", "app", "updated").await?;
    let updated = bench.rolled("Deployment", "web", &before).await?;
    assert_record(&bench, &updated, UPDATED);
    assert!(variables(&updated, 0).is_empty());
    let object = bench.get("Deployment", "web").await?;
    let managers = object["metadata"]["managedFields"].as_array();
    let ours = managers
        .into_iter()
        .flatten()
        .find(|entry| entry["manager"] == "plumbline-reloader");
    assert_eq!(ours.map(|entry| &entry["operation"]), Some(&json!("Apply")));

    bench.delete("ConfigMap", "app").await?;
    let deleted = bench.rolled("Deployment", "web", &updated).await?;
    assert_record(&bench, &deleted, DELETED);
    let told = bench.events("web", "Reloaded").await?;
    assert!(
        told.iter().any(|text| text.contains("ConfigMap app (deleted)")),
        "{told:?}"
    );
    Ok(())
}

fn assert_record(bench: &Bench, template: &Value, hash: &str) {
    let annotations = &template["metadata"]["annotations"];
    assert!(annotations[HASH].is_string(), "{template}");
    let record = annotations[LAST_RELOADED_FROM].as_str().unwrap_or_default();
    let namespace = bench.world.namespace();
    let expected = format!(
        r#"{{"type":"CONFIGMAP","name":"app","namespace":"{namespace}","hash":"{hash}","containerRefs":["a"],"observedAt":"#
    );
    assert!(record.starts_with(&expected), "{record} is not {expected}");
}
