//! A new process finds on the objects themselves what the old one applied.

use plumbline_testkit::{Requests, wait_for};
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT};

/// Objects of several shapes: lists with keys, sets, lists that are owned whole, defaults, empty fields.
fn manifests(ns: &str) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: {ns}, labels: {{app: web}}}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      containers:
      - name: web
        image: example.org/web:1
        args: [a, b]
        ports: [{{containerPort: 80}}, {{name: metrics, containerPort: 81, protocol: TCP}}]
        resources: {{requests: {{cpu: 1000m, memory: 64Mi}}}}
        env: [{{name: A, value: "1"}}, {{name: B, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
      volumes: [{{name: tmp, emptyDir: {{}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: {ns}, creationTimestamp: null}}
spec: {{selector: {{app: web}}, ports: [{{name: http, port: 80}}, {{name: other, port: 81, targetPort: metrics}}]}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: web, namespace: {ns}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: web, namespace: {ns}}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [get, list]}}]
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: {ns}, annotations: {{x: "y"}}}}
spec:
  rules:
  - host: a.example.org
    http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 80}}}}}}}}]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: web, namespace: {ns}}}
stringData: {{a: b}}
"#
    )
}

/// Everything that was written, but for events.
fn writes(requests: &Requests) -> Vec<String> {
    let all = requests.0.iter().filter(|request| {
        !matches!(request.verb.as_str(), "get" | "list" | "watch") && request.resource != "events"
    });
    all.map(|request| format!("{} {} {}", request.verb, request.resource, request.name))
        .collect()
}

async fn handled(bench: &Bench, asked: &str) -> anyhow::Result<()> {
    bench
        .until(APP, "the request to be handled", |object| {
            let handled = object.status.as_ref();
            handled.and_then(|it| it.last_handled_reconcile_at.as_deref()) == Some(asked)
        })
        .await?;
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn after_a_restart_only_what_changed_meanwhile_is_applied() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.repository.write("deploy/all.yaml", manifests(ns))?;
    for name in ["quiet", "edited", "deleted", "newer"] {
        bench.write_config_map(name, "1")?;
    }
    let first = bench.commit()?;
    bench.app().await?;
    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    let object = bench.config_maps().get("quiet").await?;
    let annotations = object.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations["plumbline.dev/revision"], first);
    assert_eq!(annotations["plumbline.dev/digest"].len(), 32);
    let secret = bench
        .api("", "v1", "Secret")
        .get("web")
        .await?
        .metadata
        .annotations
        .unwrap_or_default();
    assert!(!secret.contains_key("plumbline.dev/digest"), "{secret:?}");

    // Nothing happened: one look at each kind, and the Secret, whose digest is not written down.
    drop(syncer);
    let log = bench.world.audit_log().since_now()?;
    let syncer = bench.start(&[])?;
    let asked = bench.request(APP).await?;
    handled(&bench, &asked).await?;
    let requests = bench.requests(&log)?;
    let written = writes(&requests);
    let expected = [
        "patch secrets web".to_owned(),
        format!("patch kustomizations/status {APP}"),
    ];
    assert!(
        written
            .iter()
            .all(|it| expected.contains(it) || it.starts_with("patch gitrepositories")),
        "{written:?}"
    );
    let reads = requests
        .0
        .iter()
        .filter(|request| request.verb == "get" && request.name != APP);
    let reads: Vec<_> = reads
        .map(|it| format!("{} {}", it.resource, it.name))
        .filter(|it| it.contains(' ') && !it.ends_with(' '))
        .collect();
    assert_eq!(reads, Vec::<String>::new());

    // While nobody looks: an edit, a deletion, a commit; an edit that is undone in its value but not in who owns it.
    drop(syncer);
    let edit = |value: &str| json!({ "data": { "key": value } });
    let params = kube::api::PatchParams::default();
    let patch = async |name: &str, value: Value| {
        bench
            .config_maps()
            .patch(name, &params, &kube::api::Patch::Merge(&value))
            .await
    };
    patch("edited", edit("by hand")).await?;
    bench
        .config_maps()
        .delete("deleted", &kube::api::DeleteParams::default())
        .await?;
    bench.write_config_map("newer", "2")?;
    let second = bench.commit()?;
    let log = bench.world.audit_log().since_now()?;
    let syncer = bench.start(&[])?;
    bench.request_source().await?;
    bench.applied(&second).await?;
    bench.until_value("edited", Some("1")).await?;
    bench.until_value("deleted", Some("1")).await?;
    assert_eq!(bench.value("newer").await?.as_deref(), Some("2"));
    let mut written = writes(&bench.requests(&log)?);
    written.retain(|it| it.contains("configmaps"));
    written.sort();
    written.dedup();
    assert_eq!(
        written,
        ["deleted", "edited", "newer"].map(|name| format!("patch configmaps {name}"))
    );
    // What was only corrected still says which revision brought it.
    let brought = async |name: &str| {
        let found = bench.config_maps().get(name).await?;
        anyhow::Ok(found.metadata.annotations.unwrap_or_default()["plumbline.dev/revision"].clone())
    };
    assert_eq!(brought("quiet").await?, first);
    assert_eq!(brought("edited").await?, first);
    assert_eq!(brought("newer").await?, second);

    // Drift is still noticed on objects that this process never applied.
    patch("quiet", edit("by hand")).await?;
    bench.until_value("quiet", Some("1")).await?;

    // Git goes back to what an object had before: its digest is the old one, and it is applied again.
    drop(syncer);
    bench.write_config_map("newer", "1")?;
    let third = bench.commit()?;
    let _syncer = bench.start(&[])?;
    bench.request_source().await?;
    bench.applied(&third).await?;
    wait_for("the value of before", LIMIT, async || {
        match bench.value("newer").await {
            Ok(Some(value)) if value == "1" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}
