//! The commands for people, beside the controller.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::Context as _;
use kube::api::{Patch, PatchParams};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::bench::{APP, Bench, LIMIT, last_applied, ready};

/// Runs a command as the administrator. Returns its exit code, standard output and standard error.
fn run(bench: &Bench, at: &Path, arguments: &[&str]) -> anyhow::Result<(i32, String, String)> {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_plumbline-sync"))
        .args(arguments)
        .arg(format!("--namespace={}", bench.namespace()))
        .arg(format!("--kubeconfig={}", bench.world.kubeconfig().display()))
        .current_dir(at)
        .stdin(Stdio::null())
        .output()?;
    let code = output.status.code().context("no exit code")?;
    Ok((
        code,
        String::from_utf8(output.stdout)?,
        String::from_utf8(output.stderr)?,
    ))
}

pub(crate) fn command(bench: &Bench, arguments: &[&str]) -> anyhow::Result<(i32, String, String)> {
    let at = bench.repository.work_tree();
    tokio::task::block_in_place(|| run(bench, at, arguments))
}

/// The changes of a plan in JSON, as `action object`.
pub(crate) fn changes(plan: &Value) -> Vec<String> {
    let all = plan[0]["changes"].as_array().cloned().unwrap_or_default();
    all.iter()
        .map(|change| {
            format!(
                "{} {}",
                change["action"].as_str().unwrap_or_default(),
                change["object"].as_str().unwrap_or_default()
            )
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn a_plan_says_what_an_apply_does_also_of_files_that_are_not_pushed() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    for name in ["same", "changed", "gone"] {
        bench.write_config_map(name, "1")?;
    }
    bench.repository.write(
        "deploy/secret.yaml",
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\nstringData: {{p: hunter2}}\n"),
    )?;
    let first = bench.commit()?;
    bench.app().await?;

    // Before anything was applied everything is made, and nothing is written by asking.
    let (code, text, _) = command(&bench, &["plan", APP])?;
    assert_eq!(code, 2, "{text}");
    assert!(
        text.contains(&format!("+ ConfigMap/{ns}/same  (deploy/same.yaml:1)")),
        "{text}"
    );
    assert!(text.contains("4 to create, 0 unchanged."), "{text}");
    assert_eq!(bench.value("same").await?, None);

    let syncer = bench.start(&[])?;
    bench.applied(&first).await?;
    drop(syncer);
    let (code, text, errors) = command(&bench, &["plan", APP])?;
    assert_eq!((code, text.contains("4 unchanged.")), (0, true), "{text}{errors}");

    // A working tree that is not committed: one of each.
    let init = Command::new("git")
        .arg("init")
        .arg("--quiet")
        .arg(bench.repository.work_tree())
        .status()?;
    assert!(init.success());
    let before = bench
        .config_maps()
        .get("changed")
        .await?
        .metadata
        .resource_version;
    bench.write_config_map("changed", "2")?;
    bench.write_config_map("new", "1")?;
    bench.repository.write(
        "deploy/secret.yaml",
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: s, namespace: {ns}}}\nstringData: {{p: topsecret}}\n"),
    )?;
    bench.repository.write(
        "deploy/bad.yaml",
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad, namespace: {ns}}}\ndatum: {{}}\n"),
    )?;
    bench.repository.write(".gitignore", "deploy/ignored.yaml\n")?;
    bench.repository.write("deploy/ignored.yaml", "kind: [")?;
    std::fs::remove_file(bench.repository.work_tree().join("deploy/gone.yaml"))?;
    let (code, text, errors) = command(&bench, &["plan", "-k", APP, "-o", "json"])?;
    assert_eq!(code, 1, "something is refused: {text}{errors}");
    let plan: Value = serde_json::from_str(&text)?;
    let mut seen = changes(&plan);
    seen.sort();
    let expected = [
        format!("change ConfigMap/{ns}/changed"),
        format!("change Secret/{ns}/s"),
        format!("create ConfigMap/{ns}/new"),
        format!("delete ConfigMap/{ns}/gone"),
        format!("refuse ConfigMap/{ns}/bad"),
    ];
    assert_eq!(seen, expected, "{text}");
    assert!(
        text.contains(".datum: field not declared in schema") && text.contains("deploy/bad.yaml:1"),
        "{text}"
    );
    let fields = plan[0]["changes"].as_array().context("no changes")?;
    let changed = fields
        .iter()
        .find(|it| it["object"] == format!("ConfigMap/{ns}/changed"));
    let changed = &changed.context("not there")?["fields"];
    assert_eq!(
        *changed,
        json!([{ "path": ".data.key", "before": "1", "after": "2" }])
    );
    assert!(
        !text.contains("topsecret") && !text.contains("dG9wc2VjcmV0") && !text.contains("hunter2"),
        "{text}"
    );
    let after = bench
        .config_maps()
        .get("changed")
        .await?
        .metadata
        .resource_version;
    assert_eq!(before, after, "a plan wrote something");

    // A directory, and what a build prints of it.
    std::fs::remove_file(bench.repository.work_tree().join("deploy/bad.yaml"))?;
    let (code, text, _) = command(&bench, &["plan", "./deploy", "-k", APP])?;
    assert_eq!(
        (
            code,
            text.contains("1 to create, 2 to change, 1 to delete, 1 unchanged.")
        ),
        (2, true),
        "{text}"
    );
    // Outside of a working tree a directory stands for spec.path.
    let copy = bench.world.dir().join("copy");
    std::fs::create_dir(&copy)?;
    std::fs::write(copy.join("same.yaml"), bench.manifest("same", "1"))?;
    let (code, text, _) = command(&bench, &["plan", &copy.display().to_string(), "-k", APP])?;
    assert_eq!(
        (code, text.contains("3 to delete, 1 unchanged.")),
        (2, true),
        "{text}"
    );
    let (code, text, errors) = command(&bench, &["build", "./deploy", "-k", APP])?;
    assert_eq!(code, 0, "{errors}");
    assert!(
        text.contains("# deploy/new.yaml:1\n") && text.contains("kustomize.toolkit.fluxcd.io/name: app"),
        "{text}"
    );
    assert!(
        text.contains("p: (redacted)") && !text.contains("dG9wc2VjcmV0"),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_knows_adoption_foreign_owners_held_deletions_and_unknown_kinds() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    let flux = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "data": { "key": "1", "old": "1" },
        "metadata": { "name": "flux", "namespace": ns, "labels": {
            "kustomize.toolkit.fluxcd.io/name": APP, "kustomize.toolkit.fluxcd.io/namespace": ns } },
    });
    let mut entries = vec![json!({ "id": format!("{ns}_flux__ConfigMap"), "v": "v1" })];
    let params = PatchParams::apply("kustomize-controller").force();
    bench
        .api("", "v1", "ConfigMap")
        .patch("flux", &params, &Patch::Apply(&flux))
        .await?;
    bench
        .world
        .kubectl_with(&["create", "-f", "-"], &bench.manifest("hand", "1"))?;
    for i in 0..12 {
        let name = format!("m{i}");
        let mut object = flux.clone();
        object["metadata"]["name"] = json!(name);
        bench
            .api("", "v1", "ConfigMap")
            .patch(&name, &params, &Patch::Apply(&object))
            .await?;
        entries.push(json!({ "id": format!("{ns}_{name}__ConfigMap"), "v": "v1" }));
    }
    bench.write_config_map("flux", "1")?;
    bench.write_config_map("hand", "1")?;
    bench.repository.write(
        "deploy/unknown.yaml",
        format!("apiVersion: example.org/v1\nkind: Thing\nmetadata: {{name: t, namespace: {ns}}}\n"),
    )?;
    bench.commit()?;
    bench.app().await?;
    let status = json!({ "status": { "inventory": { "entries": entries } } });
    bench
        .kustomizations()
        .patch_status(APP, &PatchParams::default(), &Patch::Merge(&status))
        .await?;
    let (code, text, errors) = command(&bench, &["plan", APP])?;
    assert_eq!(code, 2, "{text}{errors}");
    assert!(
        text.contains(&format!("~ ConfigMap/{ns}/flux")) && text.contains(".data.old: - "),
        "{text}"
    );
    assert!(
        text.contains(&format!("~ ConfigMap/{ns}/hand")) && text.contains("is adopted"),
        "{text}"
    );
    assert!(text.contains(&format!("? Thing/{ns}/t")), "{text}");
    assert!(
        text.contains("12 held back") && text.contains("plumbline.dev/confirm-deletion=main@sha1:"),
        "{text}"
    );

    // Another Kustomization that wants the same is told whose it is.
    bench.kustomization("second", json!({})).await?;
    let (code, text, _) = command(&bench, &["plan", "second"])?;
    assert_eq!(code, 1, "{text}");
    assert!(
        text.contains(&format!("belongs to the Kustomization {ns}/app")),
        "{text}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
#[expect(clippy::too_many_lines, reason = "one story, told in order")]
async fn reconcile_suspend_status_and_events() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let ns = bench.namespace();
    bench.write_config_map("a", "1")?;
    let first = bench.commit()?;
    bench.app().await?;
    let _syncer = bench.start(&[])?;
    bench.applied(&first).await?;

    bench.write_config_map("b", "1")?;
    let second = bench.commit()?;
    let (code, text, errors) = command(&bench, &["reconcile", APP, "--with-source"])?;
    assert_eq!(code, 0, "{text}{errors}");
    assert_eq!(
        text,
        format!("✔ fetched revision {second}\n✔ applied revision {second}\n")
    );
    assert_eq!(bench.value("b").await?.as_deref(), Some("1"));

    let (code, text, errors) = command(&bench, &["status", APP])?;
    assert_eq!(code, 0, "{text}{errors}");
    assert!(
        text.contains(&format!("✔ Kustomization {ns}/app")) && text.contains("2 objects"),
        "{text}"
    );
    assert!(
        text.contains(&format!("✔ ConfigMap/{ns}/b")) && text.contains("deploy/b.yaml:1"),
        "{text}{errors}"
    );

    let (code, text, errors) = command(
        &bench,
        &[
            "suspend",
            APP,
            "--reason=maintenance",
            "--until=2031-01-01T00:00:00Z",
        ],
    )?;
    assert_eq!(code, 0, "{text}{errors}");
    let object = bench.kustomizations().get(APP).await?;
    let annotations = object.metadata.annotations.clone().unwrap_or_default();
    assert_eq!(object.spec.suspend, Some(true));
    assert_eq!(annotations["plumbline.dev/suspend-reason"], "maintenance");
    assert_eq!(annotations["plumbline.dev/suspend-until"], "2031-01-01T00:00:00Z");
    assert!(!annotations["plumbline.dev/suspend-by"].is_empty());
    let (code, text, _) = command(&bench, &["status"])?;
    assert_eq!(code, 0);
    assert!(
        text.contains("Suspended: maintenance, by ") && text.contains("until 2031"),
        "{text}"
    );
    let (code, _, errors) = command(&bench, &["reconcile", APP])?;
    assert_eq!((code, errors.contains("is suspended")), (1, true), "{errors}");

    bench.write_config_map("b", "2")?;
    bench.repository.write("deploy/bad.yaml", "kind: ConfigMap\n")?;
    let third = bench.push().await?;
    wait_for("the source to be fetched", LIMIT, async || {
        let source = bench
            .sources()
            .get(APP)
            .await
            .map_err(|error| error.to_string())?;
        let revision = source.status.and_then(|s| s.artifact).map(|a| a.revision);
        (revision.as_ref() == Some(&third))
            .then_some(())
            .ok_or(format!("{revision:?}"))
    })
    .await?;
    let (code, text, errors) = command(&bench, &["resume", APP, "--wait"])?;
    assert_eq!(code, 1, "{text}{errors}");
    assert!(text.contains("BuildFailed: deploy/bad.yaml:1"), "{text}");
    let object = bench.kustomizations().get(APP).await?;
    assert_eq!(object.spec.suspend, Some(false));
    assert_eq!(
        (ready(&object).0.as_str(), last_applied(&object)),
        ("False", second.as_str())
    );
    assert!(
        !object
            .metadata
            .annotations
            .unwrap_or_default()
            .contains_key("plumbline.dev/suspend-by")
    );

    let (code, text, _) = command(&bench, &["status", "-o", "json"])?;
    let status: Value = serde_json::from_str(&text)?;
    assert_eq!(
        (code, &status[0]["kustomizations"][0]["reason"]),
        (1, &json!("BuildFailed"))
    );

    bench.event("Kustomization", "BuildFailed", "bad.yaml").await?;
    let (code, text, _) = command(&bench, &["events", APP])?;
    assert_eq!(code, 0);
    assert!(
        text.contains("BuildFailed") && text.contains("NewArtifact"),
        "{text}"
    );
    let (code, _, errors) = command(&bench, &["plan", "nothing"])?;
    assert_eq!(
        (code, errors.contains("there is no Kustomization")),
        (1, true),
        "{errors}"
    );
    Ok(())
}
