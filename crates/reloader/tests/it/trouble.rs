//! One workload in trouble does not stop the others, and what could not be done is done later.

use kube::api::{Api, DeleteParams, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::json;

use crate::harness::{AUTO, Bench, workload};

#[tokio::test]
async fn admission_that_denies_one_workload_does_not_stop_the_others() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    for name in ["good", "denied"] {
        bench.create(workload("Deployment", name, &[AUTO])).await?;
    }
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    for name in ["good", "denied"] {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    let (good, denied) = (
        bench.template("Deployment", "good").await?,
        bench.template("Deployment", "denied").await?,
    );
    let policy = Policy::deny(&bench, "denied").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "good", &good).await?;
    let told = bench.event("denied", "ReloadFail").await?;
    assert!(
        told.contains("ConfigMap app") && told.contains("not today"),
        "{told}"
    );
    bench.stays("Deployment", "denied", &denied).await?;
    policy.lift().await?;
    bench.rolled("Deployment", "denied", &denied).await?;
    assert_eq!(bench.count("Deployment", "denied").await?, 1);
    Ok(())
}

struct Policy {
    policies: Api<DynamicObject>,
    bindings: Api<DynamicObject>,
    name: String,
}

impl Policy {
    // Denies every update of one Deployment of the test's namespace, and waits until it does.
    async fn deny(bench: &Bench, deployment: &str) -> anyhow::Result<Self> {
        let kind = |kind: &str| {
            ApiResource::from_gvk(&GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind))
        };
        let name = format!("deny-{}", bench.world.namespace());
        let policies = Api::all_with(bench.world.client(), &kind("ValidatingAdmissionPolicy"));
        let bindings = Api::all_with(bench.world.client(), &kind("ValidatingAdmissionPolicyBinding"));
        let policy = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": ["apps"], "apiVersions": ["v1"],
                    "operations": ["UPDATE"], "resources": ["deployments"], "resourceNames": [deployment]}]},
                "validations": [{"expression": "false", "message": "not today"}],
            },
        });
        let label = json!({"kubernetes.io/metadata.name": bench.world.namespace()});
        let binding = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": label}}},
        });
        policies
            .create(&PostParams::default(), &serde_json::from_value(policy)?)
            .await?;
        bindings
            .create(&PostParams::default(), &serde_json::from_value(binding)?)
            .await?;
        plumbline_testkit::wait_for("the policy to deny", crate::harness::LIMIT, async || {
            let label = json!({"metadata": {"labels": {"probe": "1"}}});
            match bench.merge("Deployment", deployment, label).await {
                Ok(_) => Err("still allowed"),
                Err(_) => Ok(()),
            }
        })
        .await?;
        Ok(Self {
            policies,
            bindings,
            name,
        })
    }

    async fn lift(self) -> anyhow::Result<()> {
        self.bindings.delete(&self.name, &DeleteParams::default()).await?;
        self.policies.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

#[tokio::test]
async fn an_invalid_pause_period_blocks_its_deployment_until_it_is_right() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let key = "deployment.reloader.stakater.com/pause-period";
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "wrong", &[AUTO, (key, "5 minutes")]))
        .await?;
    bench.create(workload("Deployment", "other", &[AUTO])).await?;
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "wrong", &["cm/app"]).await?;
    bench.adopted("Deployment", "other", &["cm/app"]).await?;
    let (wrong, other) = (
        bench.template("Deployment", "wrong").await?,
        bench.template("Deployment", "other").await?,
    );
    bench.set("ConfigMap", "app", "v2").await?;
    bench.rolled("Deployment", "other", &other).await?;
    let told = bench.event("wrong", "InvalidAnnotation").await?;
    assert!(told.contains(key) && told.contains("5 minutes"), "{told}");
    bench.stays("Deployment", "wrong", &wrong).await?;
    bench
        .merge(
            "Deployment",
            "wrong",
            json!({"metadata": {"annotations": { key: null }}}),
        )
        .await?;
    bench.rolled("Deployment", "wrong", &wrong).await.map(drop)
}

#[tokio::test]
async fn a_pause_survives_a_kill_and_ends() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    let key = "deployment.reloader.stakater.com/pause-period";
    bench.config_map("app", "v1").await?;
    bench
        .create(workload("Deployment", "web", &[AUTO, (key, "8s")]))
        .await?;
    let mut reloader = bench.start(&["--debounce=0s"]).await?;
    bench.adopted("Deployment", "web", &["cm/app"]).await?;
    let before = bench.template("Deployment", "web").await?;
    bench.set("ConfigMap", "app", "v2").await?;
    let first = bench.rolled("Deployment", "web", &before).await?;
    let object = bench.get("Deployment", "web").await?;
    assert_eq!(object["spec"]["paused"], true);
    assert!(object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"].is_string());
    // A second change while it is paused: the template moves on, the pause stays.
    bench.set("ConfigMap", "app", "v3").await?;
    bench.rolled("Deployment", "web", &first).await?;
    assert_eq!(bench.get("Deployment", "web").await?["spec"]["paused"], true);
    reloader.kill();
    let _reloader = bench.start(&["--debounce=0s"]).await?;
    plumbline_testkit::wait_for("the pause to end", crate::harness::LIMIT, async || {
        let object = bench
            .get("Deployment", "web")
            .await
            .map_err(|error| error.to_string())?;
        let marker = &object["metadata"]["annotations"]["deployment.reloader.stakater.com/paused-at"];
        if object["spec"]["paused"].is_null() && marker.is_null() {
            Ok(())
        } else {
            Err(object.to_string())
        }
    })
    .await
}

#[tokio::test]
async fn a_flapping_secret_is_held_and_told() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.secret("db", "v0").await?;
    bench.create(workload("Deployment", "web", &[AUTO])).await?;
    let _reloader = bench
        .start(&["--debounce=0s", "--flap-limit=3", "--flap-window=8s"])
        .await?;
    bench.adopted("Deployment", "web", &["sec/db"]).await?;
    let mut template = bench.template("Deployment", "web").await?;
    for round in 1..=3 {
        bench.set("Secret", "db", &format!("v{round}")).await?;
        template = bench.rolled("Deployment", "web", &template).await?;
    }
    bench.set("Secret", "db", "v4").await?;
    let told = bench.event("web", "Flapping").await?;
    assert!(told.contains("sec/db"), "{told}");
    assert_eq!(bench.count("Deployment", "web").await?, 3);
    // The latest content is applied when the window is over.
    bench.rolled("Deployment", "web", &template).await?;
    assert_eq!(bench.count("Deployment", "web").await?, 4);
    Ok(())
}

#[tokio::test]
async fn no_more_rollouts_are_in_progress_than_allowed() -> anyhow::Result<()> {
    let bench = Bench::new().await?;
    bench.config_map("app", "v1").await?;
    let names = ["a", "b", "c"];
    for name in names {
        bench.create(workload("Deployment", name, &[AUTO])).await?;
    }
    let _reloader = bench.start(&["--debounce=0s", "--max-rollouts=1"]).await?;
    for name in names {
        bench.adopted("Deployment", name, &["cm/app"]).await?;
    }
    bench.set("ConfigMap", "app", "v2").await?;
    // There is no node: a rollout goes on until its Deployment wants no pods.
    for done in 1..=names.len() {
        let rolled = rolled_of(&bench, &names, done).await?;
        tokio::time::sleep(crate::harness::QUIET).await;
        assert_eq!(rolled_of(&bench, &names, done).await?, rolled, "one at a time");
        for name in rolled {
            bench
                .merge("Deployment", &name, json!({"spec": {"replicas": 0}}))
                .await?;
        }
    }
    Ok(())
}

// Waits until so many were rolled, and fails if more were.
async fn rolled_of(bench: &Bench, names: &[&str], wanted: usize) -> anyhow::Result<Vec<String>> {
    let rolled = plumbline_testkit::wait_for("rollouts", crate::harness::LIMIT, async || {
        let mut rolled = Vec::new();
        for name in names {
            if bench
                .count("Deployment", name)
                .await
                .map_err(|error| error.to_string())?
                == 1
            {
                rolled.push((*name).to_owned());
            }
        }
        if rolled.len() < wanted {
            Err(format!("{rolled:?}"))
        } else {
            Ok(rolled)
        }
    })
    .await?;
    anyhow::ensure!(rolled.len() == wanted, "{rolled:?} instead of {wanted}");
    Ok(rolled)
}
