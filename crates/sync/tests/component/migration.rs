//! From Flux and back, on objects with Flux's managers, labels, finalizers and inventory.

use kube::api::{DynamicObject, Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, entries};

const FLUX: &str = "kustomize-controller";

fn objects(ns: &str) -> Vec<Value> {
    let labels =
        json!({ "kustomize.toolkit.fluxcd.io/name": APP, "kustomize.toolkit.fluxcd.io/namespace": ns });
    let mut all = vec![
        json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "web" }, "data": { "key": "1" } }),
        json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "web" }, "data": { "key": "YQ==" }, "type": "Opaque" }),
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": "web" } }),
        json!({ "apiVersion": "v1", "kind": "Service", "metadata": { "name": "web" },
                "spec": { "selector": { "app": "web" }, "ports": [ { "port": 80, "protocol": "TCP" } ] } }),
        json!({ "apiVersion": "apps/v1", "kind": "Deployment", "metadata": { "name": "web" },
                "spec": { "replicas": 1, "selector": { "matchLabels": { "app": "web" } },
                          "template": { "metadata": { "labels": { "app": "web" } },
                                        "spec": { "containers": [ { "name": "web", "image": "example.org/web:1" } ] } } } }),
    ];
    for object in &mut all {
        object["metadata"]["namespace"] = json!(ns);
        object["metadata"]["labels"] = labels.clone();
    }
    all
}

/// The object as Git has it.
fn manifest(mut object: Value) -> String {
    object["metadata"]
        .as_object_mut()
        .map(|metadata| metadata.remove("labels"));
    object.to_string()
}

fn parts(object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let api_version = text(&object["apiVersion"]);
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    (group.to_owned(), version.to_owned(), text(&object["kind"]))
}

/// What must not change: all but bookkeeping and status.
fn essence(object: &DynamicObject) -> Value {
    let mut value = json!(object);
    value.as_object_mut().map(|root| root.remove("status"));
    for field in ["managedFields", "resourceVersion", "generation"] {
        value["metadata"]
            .as_object_mut()
            .map(|metadata| metadata.remove(field));
    }
    if let Some(annotations) = value
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        annotations.retain(|name, _| {
            !name.starts_with("plumbline.dev/") && !name.starts_with("deployment.kubernetes.io/")
        });
        if annotations.is_empty() {
            value["metadata"]
                .as_object_mut()
                .map(|metadata| metadata.remove("annotations"));
        }
    }
    value
}

/// Applies as Flux's controller does; with `over` taking the fields of another manager with it, as its flag
/// `--override-manager` has it do.
async fn flux_applies(bench: &Bench, object: &Value, over: Option<&str>) -> anyhow::Result<()> {
    let (group, version, kind) = parts(object);
    let api = bench.api(&group, &version, &kind);
    let params = PatchParams::apply(FLUX).force();
    let applied = api.patch("web", &params, &Patch::Apply(object)).await?;
    let Some(over) = over else { return Ok(()) };
    let mut entries = json!(applied.metadata.managed_fields)
        .as_array()
        .cloned()
        .unwrap_or_default();
    let theirs = entries
        .iter()
        .position(|it| it["manager"] == over && it["operation"] == "Apply");
    if let Some(index) = theirs {
        let theirs = entries.remove(index);
        if let Some(own) = entries.iter_mut().find(|it| it["manager"] == FLUX) {
            union(&mut own["fieldsV1"], &theirs["fieldsV1"]);
        }
        let patch = json!({ "metadata": { "managedFields": entries, "resourceVersion": applied.metadata.resource_version } });
        api.patch("web", &PatchParams::default(), &Patch::Merge(&patch))
            .await?;
        api.patch("web", &params, &Patch::Apply(object)).await?;
    }
    Ok(())
}

fn union(into: &mut Value, from: &Value) {
    if let (Value::Object(into), Value::Object(from)) = (into, from) {
        for (key, value) in from {
            union(into.entry(key.as_str()).or_insert_with(|| json!({})), value);
        }
    }
}

/// Deployments count changes of their annotations, too; that rolls nothing, as their ReplicaSets and Pods show.
fn counted(object: &DynamicObject, kind: &str) -> Option<i64> {
    object.metadata.generation.filter(|_| kind != "Deployment")
}

/// Everything that has a UID, to see whether something was made anew: objects, ReplicaSets, pods.
async fn state(bench: &Bench, objects: &[Value]) -> anyhow::Result<Vec<(Value, Option<i64>)>> {
    let mut all = Vec::new();
    for object in objects {
        let (group, version, kind) = parts(object);
        let found = bench.api(&group, &version, &kind).get("web").await?;
        all.push((essence(&found), counted(&found, &kind)));
    }
    for kind in ["ReplicaSet", "Pod"] {
        let (group, version) = if kind == "Pod" { ("", "v1") } else { ("apps", "v1") };
        let list = bench
            .api(group, version, kind)
            .list(&kube::api::ListParams::default())
            .await?;
        all.extend(
            list.items
                .iter()
                .map(|it| (json!([kind, it.metadata.uid]), it.metadata.generation)),
        );
    }
    Ok(all)
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn nothing_is_made_anew_pruned_or_rolled_on_the_way_from_flux_and_back() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let objects = objects(ns);
    let mut inventory = Vec::new();
    for object in &objects {
        flux_applies(&bench, object, None).await?;
        let (group, version, kind) = parts(object);
        inventory.push(json!({ "id": format!("{ns}_web_{group}_{kind}"), "v": version }));
        bench
            .repository
            .write(&format!("deploy/{kind}.yaml"), manifest(object.clone()))?;
    }
    // Someone scales by hand what Git leaves open, and an operator adds a field.
    let operator = json!({ "metadata": { "annotations": { "operator": "1" } } });
    let params = PatchParams {
        field_manager: Some("operator".into()),
        ..PatchParams::default()
    };
    bench
        .api("", "v1", "Service")
        .patch("web", &params, &Patch::Merge(&operator))
        .await?;
    wait_for("the Deployment's Pod", LIMIT, async || {
        let pods = bench
            .api("", "v1", "Pod")
            .list(&kube::api::ListParams::default())
            .await
            .map_err(|e| e.to_string())?;
        if pods.items.len() == 1 {
            Ok(())
        } else {
            Err("no pod".to_owned())
        }
    })
    .await?;
    let revision = bench.commit()?;
    bench.app().await?;
    let finalizers = json!({ "metadata": { "finalizers": ["finalizers.fluxcd.io"] } });
    let merge = PatchParams::default();
    bench
        .kustomizations()
        .patch(APP, &merge, &Patch::Merge(&finalizers))
        .await?;
    bench
        .sources()
        .patch(APP, &merge, &Patch::Merge(&finalizers))
        .await?;
    let now = "2026-01-01T00:00:00Z";
    let ready = |reason: &str, message: &str| {
        json!([{ "type": "Ready", "status": "True", "reason": reason, "message": message,
                 "lastTransitionTime": now, "observedGeneration": 1 }])
    };
    let status = json!({ "status": {
        "observedGeneration": 1, "lastAppliedRevision": revision, "lastAttemptedRevision": revision,
        "conditions": ready("ReconciliationSucceeded", &format!("Applied revision: {revision}")),
        "inventory": { "entries": inventory },
    } });
    bench
        .kustomizations()
        .patch_status(APP, &merge, &Patch::Merge(&status))
        .await?;
    let status = json!({ "status": {
        "observedGeneration": 1, "conditions": ready("Succeeded", "stored artifact"),
        "artifact": { "path": "gitrepository/x/app/1.tar.gz", "url": "http://source-controller.flux-system.svc/1.tar.gz",
                      "revision": revision, "digest": "sha256:0", "lastUpdateTime": now, "size": 1 },
    } });
    bench
        .sources()
        .patch_status(APP, &merge, &Patch::Merge(&status))
        .await?;
    let before = state(&bench, &objects).await?;

    // There.
    let log = bench.world.audit_log().since_now()?;
    let syncer = bench.start(&[])?;
    let asked = bench.request(APP).await?;
    let object = bench
        .until(APP, "the request to be handled", |object| {
            let handled = object.status.as_ref();
            handled.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(&asked)
        })
        .await?;
    assert_eq!(
        state(&bench, &objects).await?,
        before,
        "something changed on the way there"
    );
    assert_eq!(entries(&object).len(), objects.len());
    let requests = bench.requests(&log)?;
    let writes = requests
        .0
        .iter()
        .filter(|request| !matches!(request.verb.as_str(), "get" | "list"));
    let other: Vec<_> = writes
        .filter(|it| it.verb != "patch" && it.resource != "events")
        .collect();
    assert!(other.is_empty(), "{other:?}");
    let per_object = requests
        .0
        .iter()
        .filter(|it| it.verb == "patch" && it.name == "web")
        .count();
    println!(
        "{per_object} patches on {} objects for their ownership",
        objects.len()
    );
    assert!(per_object <= 3 * objects.len(), "{per_object}");
    let managers = async |kind: &str| {
        let found = bench.api("", "v1", kind).get("web").await?;
        let entries = found.metadata.managed_fields.unwrap_or_default();
        let mut names: Vec<_> = entries.into_iter().filter_map(|entry| entry.manager).collect();
        names.sort();
        anyhow::Ok(names)
    };
    assert_eq!(managers("ConfigMap").await?, ["plumbline-sync"]);
    assert_eq!(managers("Service").await?, ["operator", "plumbline-sync"]);
    // It is ours to prune: Flux made it, and handed it over.
    assert!(
        !json!(bench.config_maps().get("web").await?)
            .to_string()
            .contains("plumbline.dev/adopted")
    );

    // And back.
    drop(syncer);
    for object in &objects {
        flux_applies(&bench, object, Some("plumbline-sync")).await?;
    }
    assert_eq!(
        state(&bench, &objects).await?,
        before,
        "something changed on the way back"
    );
    assert_eq!(managers("ConfigMap").await?, [FLUX]);
    let text = json!(bench.config_maps().get("web").await?).to_string();
    assert!(!text.contains("plumbline.dev"), "{text}");
    // What Flux then drops really goes: nobody holds on to it.
    let mut shorter = objects[0].clone();
    shorter["data"] = json!({});
    flux_applies(&bench, &shorter, Some("plumbline-sync")).await?;
    assert_eq!(bench.value("web").await?.as_deref(), Some(""));
    Ok(())
}
