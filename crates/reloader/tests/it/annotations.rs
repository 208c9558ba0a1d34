//! Every row of the annotation table, seen on the API server.

use serde_json::json;

use crate::harness::{AUTO, Bench, workload};

const NAMED: &str = "configmap.reloader.stakater.com/reload";

type Annotations = &'static [(&'static str, &'static str)];

struct Row {
    name: &'static str,
    workload: Annotations,
    template: Annotations,
    // The sources for which it is rolled when all change.
    rolled_for: &'static [&'static str],
}

const fn row(
    name: &'static str,
    workload: Annotations,
    template: Annotations,
    rolled_for: &'static [&'static str],
) -> Row {
    Row {
        name,
        workload,
        template,
        rolled_for,
    }
}

const AUTO_OFF: (&str, &str) = ("reloader.stakater.com/auto", "false");
const CM_AUTO: (&str, &str) = ("configmap.reloader.stakater.com/auto", "true");
const SECRET_NAMED: &str = "secret.reloader.stakater.com/reload";
const SEARCH: &str = "reloader.stakater.com/search";
const CM_EXCLUDE: &str = "configmaps.exclude.reloader.stakater.com/reload";
const SECRET_EXCLUDE: &str = "secrets.exclude.reloader.stakater.com/reload";
const BOTH: &[&str] = &["cm/app", "sec/db"];

// ConfigMap `app` and Secret `db` are referenced, `other`, `loose`, `ignored` and `key` are not.
// `app` and `loose` carry the match annotation, `ignored` the ignore annotation.
const ROWS: &[Row] = &[
    row("plain", &[], &[], &[]),
    row("auto", &[AUTO], &[], BOTH),
    row("auto-go-bool", &[("reloader.stakater.com/auto", "T")], &[], BOTH),
    row("auto-junk", &[("reloader.stakater.com/auto", "yes")], &[], &[]),
    row("auto-in-template", &[], &[AUTO], BOTH),
    row("template-outvoted", &[AUTO_OFF], &[AUTO], &[]),
    row("template-outvoted-by-presence", &[(SEARCH, "")], &[AUTO], &[]),
    row("typed-auto", &[CM_AUTO], &[], &["cm/app"]),
    row(
        "other-typed-auto",
        &[("secret.reloader.stakater.com/auto", "true")],
        &[],
        &["sec/db"],
    ),
    row("typed-auto-despite-auto", &[AUTO_OFF, CM_AUTO], &[], &["cm/app"]),
    row(
        "auto-despite-typed-auto",
        &[AUTO, ("configmap.reloader.stakater.com/auto", "false")],
        &[],
        BOTH,
    ),
    row("named", &[(NAMED, "other")], &[], &["cm/other"]),
    row("named-list", &[(NAMED, "x, other ,y")], &[], &["cm/other"]),
    row("named-expression", &[(NAMED, "oth.*")], &[], &["cm/other"]),
    row("named-part", &[(NAMED, "oth")], &[], &[]),
    row("named-nothing", &[(NAMED, "")], &[], &[]),
    row("named-suffix-quirk", &[(NAMED, "x|her")], &[], &["cm/other"]),
    row("named-secret", &[(SECRET_NAMED, "key")], &[], &["sec/key"]),
    row("named-in-template", &[], &[(NAMED, "other")], &["cm/other"]),
    row(
        "named-despite-auto-off",
        &[AUTO_OFF, (NAMED, "other")],
        &[],
        &["cm/other"],
    ),
    row(
        "named-beside-auto",
        &[AUTO, (NAMED, "other")],
        &[],
        &["cm/app", "cm/other", "sec/db"],
    ),
    // Evaluated for each type: a Secret's key on the workload leaves ConfigMaps to the template.
    row(
        "named-secret-leaves-config-maps-to-the-template",
        &[(SECRET_NAMED, "key")],
        &[AUTO],
        &["cm/app", "sec/key"],
    ),
    row("one-bad-expression", &[(NAMED, "(,other")], &[], &["cm/other"]),
    row("search", &[(SEARCH, "true")], &[], &["cm/app"]),
    row("search-not-exactly", &[(SEARCH, "True")], &[], &[]),
    row("search-in-template", &[], &[(SEARCH, "true")], &["cm/app"]),
    row("excluded", &[AUTO, (CM_EXCLUDE, "app")], &[], &["sec/db"]),
    row(
        "excluded-secret",
        &[AUTO, (SECRET_EXCLUDE, "x, db")],
        &[],
        &["cm/app"],
    ),
    row(
        "excluded-is-no-expression",
        &[AUTO, (CM_EXCLUDE, "ap.")],
        &[],
        BOTH,
    ),
    row(
        "excluded-named",
        &[(NAMED, "other"), (CM_EXCLUDE, "other")],
        &[],
        &[],
    ),
    row(
        "excluded-search",
        &[(SEARCH, "true"), (CM_EXCLUDE, "app")],
        &[],
        &[],
    ),
    row(
        "excluded-in-template",
        &[AUTO],
        &[(CM_EXCLUDE, "app")],
        &["sec/db"],
    ),
    row("ignored-source", &[(NAMED, "ignored")], &[], &[]),
];

#[tokio::test]
async fn every_row_of_the_annotations() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let matched = json!({"annotations": {"reloader.stakater.com/match": "true"}});
    let ignored = json!({"annotations": {"reloader.stakater.com/ignore": "true"}});
    let maps = [
        ("app", matched.clone()),
        ("loose", matched),
        ("other", json!({})),
        ("ignored", ignored),
    ];
    for (name, meta) in &maps {
        bench.config_map(name, "v1").await?;
        bench
            .merge("ConfigMap", name, json!({ "metadata": meta }))
            .await?;
    }
    let secrets = ["db", "key"];
    for name in secrets {
        bench.secret(name, "v1").await?;
    }
    for row in ROWS {
        let mut object = workload("Deployment", row.name, row.workload);
        for (key, value) in row.template {
            object["spec"]["template"]["metadata"]["annotations"][*key] = json!(value);
        }
        bench.create(object).await?;
    }
    // Long enough for all changes to be made within it.
    let _reloader = bench.start(&["--debounce=4s"]).await?;
    for row in ROWS.iter().filter(|row| !row.rolled_for.is_empty()) {
        bench.adopted("Deployment", row.name, row.rolled_for).await?;
    }
    let told = bench.event("one-bad-expression", "InvalidAnnotation").await?;
    assert!(told.contains(NAMED) && told.contains("\"(\""), "{told}");
    let mut before = Vec::new();
    for row in ROWS {
        before.push(bench.template("Deployment", row.name).await?);
    }
    for (name, _) in &maps {
        bench.set("ConfigMap", name, "v2").await?;
    }
    for name in secrets {
        bench.set("Secret", name, "v2").await?;
    }
    for (row, before) in ROWS.iter().zip(&before) {
        if !row.rolled_for.is_empty() {
            bench.rolled("Deployment", row.name, before).await?;
        }
    }
    tokio::time::sleep(crate::harness::QUIET).await;
    for (row, before) in ROWS.iter().zip(&before) {
        let rolls = !row.rolled_for.is_empty();
        let after = bench.template("Deployment", row.name).await?;
        assert_eq!(after != *before, rolls, "{}", row.name);
        assert_eq!(
            bench.rolled_for("Deployment", row.name).await?,
            row.rolled_for,
            "{}",
            row.name
        );
        let count = bench.count("Deployment", row.name).await?;
        assert_eq!(count, u64::from(rolls), "{}", row.name);
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
