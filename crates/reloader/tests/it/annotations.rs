//! Every row of the annotation table, seen on the API server.

use serde_json::{Value, json};

use crate::harness::{AUTO, Bench, workload};

const NAMED: &str = "configmap.reloader.stakater.com/reload";

struct Row {
    name: &'static str,
    workload: &'static [(&'static str, &'static str)],
    template: &'static [(&'static str, &'static str)],
    rolls: bool,
}

const fn row(
    name: &'static str,
    workload: &'static [(&'static str, &'static str)],
    template: &'static [(&'static str, &'static str)],
    rolls: bool,
) -> Row {
    Row {
        name,
        workload,
        template,
        rolls,
    }
}

// `app` is referenced and carries the match annotation, `other` is not referenced. Both change.
const ROWS: &[Row] = &[
    row("plain", &[], &[], false),
    row("auto", &[AUTO], &[], true),
    row("auto-go-bool", &[("reloader.stakater.com/auto", "T")], &[], true),
    row("auto-junk", &[("reloader.stakater.com/auto", "yes")], &[], false),
    row("auto-in-template", &[], &[AUTO], true),
    row(
        "template-outvoted",
        &[("reloader.stakater.com/auto", "false")],
        &[AUTO],
        false,
    ),
    row(
        "typed-auto",
        &[("configmap.reloader.stakater.com/auto", "true")],
        &[],
        true,
    ),
    row(
        "other-typed-auto",
        &[("secret.reloader.stakater.com/auto", "true")],
        &[],
        false,
    ),
    row(
        "typed-auto-despite-auto",
        &[
            ("reloader.stakater.com/auto", "false"),
            ("configmap.reloader.stakater.com/auto", "true"),
        ],
        &[],
        true,
    ),
    row("named", &[(NAMED, "other")], &[], true),
    row("named-list", &[(NAMED, "x, other ,y")], &[], true),
    row("named-expression", &[(NAMED, "oth.*")], &[], true),
    row("named-part", &[(NAMED, "oth")], &[], false),
    row("named-suffix-quirk", &[(NAMED, "x|her")], &[], true),
    row(
        "named-despite-auto-off",
        &[("reloader.stakater.com/auto", "false"), (NAMED, "other")],
        &[],
        true,
    ),
    row("one-bad-expression", &[(NAMED, "(,other")], &[], true),
    row("search", &[("reloader.stakater.com/search", "true")], &[], true),
    row(
        "search-not-exactly",
        &[("reloader.stakater.com/search", "True")],
        &[],
        false,
    ),
    row(
        "excluded",
        &[AUTO, ("configmaps.exclude.reloader.stakater.com/reload", "app")],
        &[],
        false,
    ),
    row(
        "excluded-named",
        &[
            (NAMED, "other"),
            ("configmaps.exclude.reloader.stakater.com/reload", "other"),
        ],
        &[],
        false,
    ),
    row("ignored-source", &[(NAMED, "ignored")], &[], false),
];

#[tokio::test]
async fn every_row_of_the_annotations() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let marked = json!({"annotations": {"reloader.stakater.com/match": "true"}});
    let ignored = json!({"annotations": {"reloader.stakater.com/ignore": "true"}});
    for (name, meta) in [("app", marked), ("other", json!({})), ("ignored", ignored)] {
        bench.config_map(name, "v1").await?;
        bench
            .merge("ConfigMap", name, json!({ "metadata": meta }))
            .await?;
    }
    for row in ROWS {
        let mut object = workload("Deployment", row.name, row.workload);
        for (key, value) in row.template {
            object["spec"]["template"]["metadata"]["annotations"][*key] = json!(value);
        }
        bench.create(object).await?;
    }
    let _reloader = bench.start(&[]).await?;
    // The only row that is certain to be adopted with the others done before or beside it.
    bench.adopted("Deployment", "auto", &["cm/app"]).await?;
    bench
        .adopted("Deployment", "one-bad-expression", &["cm/other"])
        .await?;
    let told = bench.event("one-bad-expression", "InvalidAnnotation").await?;
    assert!(told.contains(NAMED) && told.contains("\"(\""), "{told}");
    tokio::time::sleep(crate::harness::QUIET).await;
    let mut before = Vec::new();
    for row in ROWS {
        before.push(bench.template("Deployment", row.name).await?);
    }
    for name in ["app", "other", "ignored"] {
        bench.set("ConfigMap", name, "v2").await?;
    }
    for (row, before) in ROWS.iter().zip(&before) {
        if row.rolls {
            bench.rolled("Deployment", row.name, before).await?;
        }
    }
    tokio::time::sleep(crate::harness::QUIET).await;
    for (row, before) in ROWS.iter().zip(&before) {
        let after = bench.template("Deployment", row.name).await?;
        assert_eq!(after != *before, row.rolls, "{}", row.name);
        assert_eq!(
            bench.count("Deployment", row.name).await?,
            u64::from(row.rolls),
            "{}",
            row.name
        );
    }
    Ok(())
}

#[tokio::test]
async fn auto_for_all_and_its_opt_out() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "plain", &[])).await?;
    bench
        .create(workload(
            "Deployment",
            "out",
            &[("reloader.stakater.com/auto", "false")],
        ))
        .await?;
    let _reloader = bench.start(&["--auto-reload-all"]).await?;
    bench.adopted("Deployment", "plain", &["cm/app"]).await?;
    let (plain, out) = (
        bench.template("Deployment", "plain").await?,
        bench.template("Deployment", "out").await?,
    );
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "plain", &plain).await?;
    bench.stays("Deployment", "out", &out).await
}

#[tokio::test]
async fn deletion_and_return() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    bench.stays("Deployment", "web", &before).await?;
    bench.config_map("app", "v1").await?;
    bench.stays("Deployment", "web", &before).await?;
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    bench.config_map("app", "v2").await?;
    bench.rolled("Deployment", "web", &before).await.map(drop)
}

#[tokio::test]
async fn reload_on_create_and_on_delete() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let arguments = [
        "--debounce=0s",
        "--reload-on-create=true",
        "--reload-on-delete=true",
        "--reload-strategy=env-vars",
    ];
    let _reloader = bench.start(&arguments).await?;
    bench.adopted("Deployment", "web", &["\"cm/app\":\"-\""]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.config_map("app", "v1").await?;
    let created = bench.rolled("Deployment", "web", &before).await?;
    let variable = |template: &Value| template["spec"]["containers"][0]["env"][0]["name"].clone();
    assert_eq!(variable(&created), "STAKATER_APP_CONFIGMAP");
    bench
        .api("ConfigMap")
        .delete("app", &kube::api::DeleteParams::default())
        .await?;
    let deleted = bench.rolled("Deployment", "web", &created).await?;
    assert!(variable(&deleted).is_null(), "{deleted}");
    Ok(())
}

#[tokio::test]
async fn explain_tells_what_a_workload_uses_and_what_would_happen() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    bench.secret("db", "v1").await?;
    let exclude = ("secrets.exclude.reloader.stakater.com/reload", "db");
    bench
        .create(workload("Deployment", "web", &[AUTO, exclude]))
        .await?;
    let mut reloader = bench.start(&[]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    reloader.kill();
    let told = bench.explain("deployment/web")?;
    assert!(
        told.contains("cm/app: referenced, with auto on; exists"),
        "{told}"
    );
    assert!(told.contains("sec/db: referenced, but never rolls it"), "{told}");
    assert!(told.contains("now: nothing to do"), "{told}");
    bench.set("ConfigMap", "app", "v2").await?;
    let told = bench.explain("deploy/web")?;
    assert!(told.contains("now: it is to be rolled for cm/app"), "{told}");
    // A dry run decides the same, and writes nothing.
    let before = bench.template("Deployment", "web").await?;
    let dry = bench.start(&["--dry-run", "--debounce=0s"]).await?;
    bench.stays("Deployment", "web", &before).await?;
    assert!(dry.log().contains("would be rolled"), "{}", dry.log());
    Ok(())
}
