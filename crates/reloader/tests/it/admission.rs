//! A policy that denies some writes, until it is lifted.

use kube::{
    Api,
    api::{DeleteParams, DynamicObject, PostParams},
    core::{ApiResource, GroupVersionKind},
};
use plumbline_testkit::wait_for;
use serde_json::{Value, json};

use crate::harness::{Bench, LIMIT};

pub(crate) struct Policy {
    policies: Api<DynamicObject>,
    bindings: Api<DynamicObject>,
    name: String,
}

impl Policy {
    /// Denies an operation on the objects of the test's namespace that `which` selects, and waits until `probe` is denied.
    pub(crate) async fn deny(
        bench: &Bench,
        resource: &str,
        operation: &str,
        which: &str,
        probe: impl AsyncFn() -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let api = |kind: &str| {
            let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
            Api::all_with(bench.world.client(), &ApiResource::from_gvk(&kind))
        };
        let name = format!("deny-{}", bench.world.namespace());
        let policy = Self {
            policies: api("ValidatingAdmissionPolicy"),
            bindings: api("ValidatingAdmissionPolicyBinding"),
            name: name.clone(),
        };
        let groups = if resource == "jobs" { "batch" } else { "apps" };
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
            "metadata": {"name": name},
            "spec": {
                "matchConstraints": {"resourceRules": [{"apiGroups": [groups], "apiVersions": ["v1"],
                    "operations": [operation], "resources": [resource]}]},
                "validations": [{"expression": format!("!({which})"), "message": "not today"}],
            },
        });
        create(&policy.policies, object).await?;
        let label = json!({"kubernetes.io/metadata.name": bench.world.namespace()});
        let object = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"],
                "matchResources": {"namespaceSelector": {"matchLabels": label}}},
        });
        create(&policy.bindings, object).await?;
        wait_for("the policy to deny", LIMIT, async || match probe().await {
            Ok(()) => Err("still allowed".to_owned()),
            Err(error) if format!("{error:#}").contains("not today") => Ok(()),
            Err(error) => Err(format!("{error:#}")),
        })
        .await?;
        Ok(policy)
    }

    pub(crate) async fn lift(self) -> anyhow::Result<()> {
        self.bindings.delete(&self.name, &DeleteParams::default()).await?;
        self.policies.delete(&self.name, &DeleteParams::default()).await?;
        Ok(())
    }
}

async fn create(api: &Api<DynamicObject>, object: Value) -> anyhow::Result<()> {
    api.create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?;
    Ok(())
}
