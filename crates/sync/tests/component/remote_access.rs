//! What gives access to another cluster, what is refused of it, and whose rights count there.

use anyhow::Context as _;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use plumbline_testkit::git::HttpProxy;
use serde_json::{Value, json};

use crate::{
    bench::{APP, Bench, ready},
    far::{Far, SECRET, give, give_as, there},
};

/// Waits until the Kustomization is not ready for this reason and says all of this.
async fn refused(bench: &Bench, reason: &str, parts: &[&str]) -> anyhow::Result<()> {
    let object = bench
        .until(APP, &format!("{reason} with {parts:?}"), |object| {
            let (value, why, message) = ready(object);
            value == "False" && why == reason && parts.iter().all(|part| message.contains(part))
        })
        .await?;
    let text = serde_json::to_string(&object.status)?;
    anyhow::ensure!(!text.contains("hunter2"), "{text}");
    Ok(())
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table of refusals")]
async fn what_a_kubeconfig_may_not_do_is_refused_by_name_and_others_go_on() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    bench.write_config_map("a", "1")?;
    bench.repository.write("home/h.yaml", bench.manifest("h", "1"))?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    bench
        .kustomization(APP, json!({ "kubeConfig": there(), "retryInterval": "1s" }))
        .await?;
    bench.kustomization("home", json!({ "path": "./home" })).await?;
    let mut syncer = bench.start(&[])?;
    let secret = format!("Secret {}/{SECRET}", bench.namespace());
    refused(
        &bench,
        "ReconciliationFailed",
        &[&secret, "does not exist", "\"value\""],
    )
    .await?;
    bench.applied_by("home", &revision).await?;

    give_as(&bench, "kubeconfig", "hunter2").await?;
    refused(
        &bench,
        "ReconciliationFailed",
        &[&secret, "no key \"value\" or \"value.yaml\""],
    )
    .await?;
    give_as(&bench, "value", "a: [hunter2").await?;
    refused(
        &bench,
        "ReconciliationFailed",
        &[&secret, "it is not YAML: line 1"],
    )
    .await?;

    let good = far.kubeconfig()?;
    let mark = bench.world.dir().join("was-run");
    let with = |at: &str, value: Value| {
        let mut config = good.clone();
        let (parent, name) = at.rsplit_once('/').unwrap_or_default();
        if let Some(parent) = config.pointer_mut(parent) {
            parent[name] = value;
        }
        config
    };
    let run = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "command": "touch", "args": [mark], "interactiveMode": "Never",
    });
    let (user, cluster) = ("/users/0/user", "/clusters/0/cluster");
    let cases = [
        ("AccessDenied", format!("{user}/exec"), run, "user.exec"),
        (
            "AccessDenied",
            format!("{user}/auth-provider"),
            json!({ "name": "gcp" }),
            "user.auth-provider",
        ),
        (
            "AccessDenied",
            format!("{user}/tokenFile"),
            "/etc/hunter2".into(),
            "user.tokenFile",
        ),
        (
            "AccessDenied",
            format!("{user}/client-key"),
            "/etc/hunter2".into(),
            "user.client-key",
        ),
        (
            "AccessDenied",
            format!("{user}/client-certificate"),
            "/etc/hunter2".into(),
            "user.client-certificate",
        ),
        (
            "AccessDenied",
            format!("{cluster}/certificate-authority"),
            "/etc/hunter2".into(),
            "cluster.certificate-authority",
        ),
        (
            "AccessDenied",
            format!("{cluster}/insecure-skip-tls-verify"),
            true.into(),
            "--insecure-kubeconfig-tls",
        ),
        (
            "AccessDenied",
            format!("{cluster}/server"),
            "https://169.254.169.254".into(),
            "169.254.169.254",
        ),
        (
            "AccessDenied",
            format!("{cluster}/proxy-url"),
            "socks5://proxy:1080".into(),
            "cluster.proxy-url",
        ),
        (
            "ReconciliationFailed",
            "/current-context".to_owned(),
            "other".into(),
            "contexts[\"other\"]",
        ),
        (
            "ReconciliationFailed",
            format!("{user}/client-key-data"),
            "hunter2".into(),
            "cannot be used",
        ),
        (
            "ReconciliationFailed",
            format!("{cluster}/certificate-authority-data"),
            Value::Null,
            "certificate",
        ),
        (
            "ReconciliationFailed",
            format!("{cluster}/server"),
            "https://127.0.0.1:1".into(),
            "cannot be reached",
        ),
    ];
    for (reason, at, value, part) in cases {
        give(&bench, &with(&at, value)).await?;
        refused(&bench, reason, &[part]).await?;
    }
    give(&bench, &far.kubeconfig_of("hunter2")?).await?;
    refused(
        &bench,
        "ReconciliationFailed",
        &["does not accept the credentials", "401"],
    )
    .await?;
    assert!(!mark.exists(), "a program that a Secret names was run");
    assert!(!syncer.log().contains("hunter2"));

    // The flag of Flux that turns verification off.
    drop(syncer);
    let mut unverified = with(&format!("{cluster}/insecure-skip-tls-verify"), true.into());
    unverified["clusters"][0]["cluster"]["certificate-authority-data"] = Value::Null;
    give(&bench, &unverified).await?;
    syncer = bench.start(&["--insecure-kubeconfig-tls", "--insecure-kubeconfig-exec"])?;
    bench.applied(&revision).await?;
    assert!(syncer.runs());

    // Hosts that are not among those that are allowed.
    drop(syncer);
    give(&bench, &good).await?;
    let _syncer = bench.start(&["--allowed-cluster-hosts=*.example.com"])?;
    refused(&bench, "AccessDenied", &["127.0.0.1", "--allowed-cluster-hosts"]).await?;
    assert_eq!(
        far.value("a").await?.as_deref(),
        Some("1"),
        "what was applied stays"
    );
    Ok(())
}

#[tokio::test]
async fn a_proxy_of_the_kubeconfig_is_used_and_its_password_told_to_nobody_else() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    let proxy = HttpProxy::start("me", "hunter2@home")?;
    let address = proxy.url();
    let address = address.strip_prefix("http://").context("no address")?;
    let through = |credentials: &str| {
        let mut config = far.kubeconfig()?;
        config["clusters"][0]["cluster"]["proxy-url"] = format!("http://{credentials}@{address}").into();
        anyhow::Ok(config)
    };
    give(&bench, &through("me:hunter2")?).await?;
    bench
        .kustomization(APP, json!({ "kubeConfig": there(), "retryInterval": "1s" }))
        .await?;
    let syncer = bench.start(&[])?;
    refused(&bench, "ReconciliationFailed", &["cannot be reached", "proxy"]).await?;
    give(&bench, &through("me:hunter2%40home")?).await?;
    bench.applied(&revision).await?;
    let server = far.kubeconfig()?["clusters"][0]["cluster"]["server"].clone();
    let targets = proxy.targets();
    assert!(
        !targets.is_empty()
            && targets
                .iter()
                .all(|target| json!(format!("https://{target}")) == server),
        "{targets:?} {server}"
    );
    assert!(!syncer.log().contains("hunter2"));
    Ok(())
}

/// On the far cluster: an account that may act as another one, and that other one, which may do everything with ConfigMaps of
/// its namespace.
fn accounts(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: ServiceAccount
metadata: {{name: courier, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: courier, namespace: {namespace}}}
rules:
- {{apiGroups: [''], resources: [serviceaccounts], verbs: [impersonate], resourceNames: [tenant]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: courier, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: courier}}
subjects:
- {{kind: ServiceAccount, name: courier}}
---
apiVersion: v1
kind: ServiceAccount
metadata: {{name: tenant, namespace: {namespace}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: tenant, namespace: {namespace}}}
rules:
- {{apiGroups: [''], resources: [configmaps], verbs: ['*']}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: tenant, namespace: {namespace}}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}}
subjects:
- {{kind: ServiceAccount, name: tenant}}
"
    )
}

#[tokio::test]
async fn the_account_of_the_spec_is_one_of_the_other_cluster_and_needs_no_more_rights_than_its_own()
-> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let far = Far::shared(&bench).await?;
    let ns = bench.namespace();
    far.apply(&accounts(ns))?;
    let couriers: Api<ServiceAccount> = Api::namespaced(far.client.clone(), ns);
    let request = serde_json::from_value(json!({ "spec": { "audiences": [], "expirationSeconds": 3600 } }))?;
    let token = couriers
        .create_token_request("courier", &PostParams::default(), &request)
        .await?;
    let token = token.status.context("no token")?.token;
    give(&bench, &far.kubeconfig_of(&token)?).await?;

    let log = far.audit_log().since_now()?;
    for name in ["a", "b"] {
        bench.write_config_map(name, "1")?;
    }
    bench.repository.write(
        "deploy/s.yaml",
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\n"),
    )?;
    let first = bench.commit()?;
    bench.source(json!({})).await?;
    let spec = json!({ "kubeConfig": there(), "serviceAccountName": "tenant" });
    bench.kustomization(APP, spec).await?;
    let mut syncer = bench.start(&[])?;
    let account = format!("system:serviceaccount:{ns}:tenant");
    let message = bench.fails(&first, "ReconciliationFailed").await?;
    assert!(
        message.contains("deploy/s.yaml:1") && message.contains("is forbidden") && message.contains(&account),
        "{message}"
    );
    assert_eq!(far.value("a").await?.as_deref(), Some("1"));
    far.edit("a", json!({ "key": "edited" })).await?;
    far.until_value("a", Some("1")).await?;

    syncer.kill();
    let _syncer = bench.start(&[])?;
    for file in ["b", "s"] {
        bench.repository.remove(&format!("deploy/{file}.yaml"))?;
    }
    let second = bench.push().await?;
    bench.applied(&second).await?;
    far.until_value("b", None).await?;
    let mut writes = log.requests("plumbline-sync/")?;
    writes
        .0
        .retain(|it| it.namespace == ns && ["patch", "delete", "create"].contains(&it.verb.as_str()));
    assert!(
        writes.count() >= 3 && writes.0.iter().all(|it| it.user == account),
        "{writes:?}"
    );

    // The account is gone: nothing is deleted in its name, and the Kustomization says so.
    let tenants: Api<ServiceAccount> = Api::namespaced(far.client.clone(), ns);
    tenants.delete("tenant", &DeleteParams::default()).await?;
    let bindings = far.delete("rolebinding", "tenant")?;
    assert!(bindings.contains("deleted"), "{bindings}");
    bench
        .kustomizations()
        .delete(APP, &DeleteParams::default())
        .await?;
    bench
        .until(APP, "the deletion to be refused", |object| {
            let (_, reason, message) = ready(object);
            reason == "PruneFailed" && message.contains(&account)
        })
        .await?;
    assert_eq!(far.value("a").await?.as_deref(), Some("1"));
    Ok(())
}

#[tokio::test]
async fn an_account_of_ours_is_enough_where_its_tokens_are_trusted() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    // Our own cluster trusts its tokens; an account that may not ask who it is does not know that it is at home.
    let tenant = accounts(ns).replace("courier", "bystander");
    bench
        .world
        .kubectl_with(&["apply", "--server-side", "-f", "-"], &tenant)?;
    bench.write_config_map("a", "1")?;
    let revision = bench.commit()?;
    bench.source(json!({})).await?;
    let text = std::fs::read_to_string(bench.world.kubeconfig())?;
    let admin: Value = serde_yaml::from_str(&text)?;
    let cluster = &admin["clusters"][0]["cluster"];
    let authority = cluster["certificate-authority-data"].as_str().context("no CA")?;
    let authority = STANDARD.decode(authority)?;
    let mut map: ConfigMap = serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": { "name": "cluster", "labels": { "reconcile.fluxcd.io/watch": "Enabled" } },
        "data": {
            "provider": "aws", "address": cluster["server"], "ca.crt": String::from_utf8(authority)?,
            "audiences": "https://kubernetes.default.svc.cluster.local",
        },
    }))?;
    let log = bench.world.audit_log().since_now()?;
    bench.config_maps().create(&PostParams::default(), &map).await?;
    let spec = json!({ "kubeConfig": { "configMapRef": { "name": "cluster" } }, "retryInterval": "1s" });
    bench.kustomization(APP, spec).await?;
    let _syncer = bench.start(&[])?;
    refused(&bench, "ReconciliationFailed", &["\"aws\" is not supported"]).await?;
    let mut set = async |key: &str, value: &str| {
        map.data.get_or_insert_default().insert(key.into(), value.into());
        bench
            .config_maps()
            .replace("cluster", &PostParams::default(), &map)
            .await
    };
    set("provider", "generic").await?;
    refused(&bench, "AccessDenied", &["serviceAccountName: it is missing"]).await?;
    set("serviceAccountName", "nobody").await?;
    refused(&bench, "ReconciliationFailed", &["no token", "nobody"]).await?;
    set("serviceAccountName", "tenant").await?;
    bench.applied(&revision).await?;
    assert_eq!(bench.value("a").await?.as_deref(), Some("1"));
    let account = format!("system:serviceaccount:{ns}:tenant");
    let mut writes = log.requests("plumbline-sync/")?;
    writes
        .0
        .retain(|it| it.namespace == ns && it.name == "a" && it.verb == "patch");
    assert!(
        writes.count() == 1 && writes.0.iter().all(|it| it.user == account),
        "{writes:?}"
    );
    Ok(())
}
