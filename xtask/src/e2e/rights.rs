//! What each controller may, beside what it did: the audit log against the Roles of its ServiceAccount.

use std::collections::BTreeSet;

use anyhow::{Context as _, bail};
use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kube::{Api, api::ListParams};
use plumbline_testkit::Request;

use super::{
    accounts,
    charts::{CHARTS, Chart},
    stage::Stage,
};
use crate::demo::timeline::Timeline;

/// One verb on one resource, everywhere or in a namespace, on all objects or on some.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Grant {
    /// Empty: everywhere.
    pub(super) namespace: String,
    pub(super) group: String,
    pub(super) resource: String,
    pub(super) verb: String,
    /// Empty: all.
    pub(super) names: Vec<String>,
    /// Which kinds a syncer applies is its user's choice: of those, every verb has to be used for some kind.
    applied: bool,
}

/// What a kind needs that is applied and pruned. A rule with exactly these verbs is about applied kinds.
const APPLIED: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

/// Fails when a controller was refused something, or may do what it did not do and need not.
pub(super) async fn judge(stage: &Stage, timeline: &mut Timeline) -> anyhow::Result<()> {
    timeline.action("comparing what the controllers may with what they did");
    let requests = stage.node.plane().audit_log().requests("")?;
    let mut faults = vec![];
    for chart in CHARTS {
        let user = format!("system:serviceaccount:{}:{}", chart.namespace, chart.object);
        let own: Vec<_> = requests.0.iter().filter(|request| request.user == user).collect();
        if own.is_empty() {
            bail!("{user} made no request: the chart's ServiceAccount has another name");
        }
        let refused: BTreeSet<_> = own
            .iter()
            .filter(|request| request.code == 403)
            .map(|it| said(it))
            .collect();
        faults.extend(
            refused
                .iter()
                .map(|what| format!("{} may not {what}, but tried", chart.name)),
        );
        let grants = grants(stage, chart).await?;
        let unused = unused(&grants, &own);
        let surplus = unused.iter().filter(|grant| {
            let chosen = grant.applied
                && grants
                    .iter()
                    .any(|one| one.is_like(grant) && !unused.contains(&one));
            !chosen && accounts::reason(chart.name, grant).is_none()
        });
        faults.extend(surplus.map(|grant| format!("{} may {}, but never did", chart.name, grant.say())));
        timeline.note(&format!(
            "   {}: {} requests, {} refused; {} of {} rights used",
            chart.name,
            own.len(),
            refused.len(),
            grants.len() - unused.len(),
            grants.len(),
        ));
    }
    if faults.is_empty() {
        return Ok(());
    }
    bail!(
        "the charts' Roles do not fit (xtask/src/e2e/accounts.rs lists what the story does not need):\n  {}",
        faults.join("\n  ")
    )
}

/// Those that no request used.
fn unused<'a>(grants: &'a BTreeSet<Grant>, requests: &[&Request]) -> Vec<&'a Grant> {
    let is_used = |grant: &&Grant| requests.iter().any(|request| grant.is_used_by(request));
    grants.iter().filter(|grant| !is_used(grant)).collect()
}

fn said(request: &Request) -> String {
    format!("{} {} in {:?}", request.verb, request.resource, request.namespace)
}

/// Everything that Roles grant to the chart's ServiceAccount.
async fn grants(stage: &Stage, chart: Chart) -> anyhow::Result<BTreeSet<Grant>> {
    let all = ListParams::default();
    let client = || stage.client.clone();
    let is_ours = |subjects: &Option<Vec<Subject>>| {
        subjects.iter().flatten().any(|subject| {
            subject.kind == "ServiceAccount"
                && subject.name == chart.object
                && subject.namespace.as_deref() == Some(chart.namespace)
        })
    };
    let mut found = BTreeSet::new();
    for binding in Api::<ClusterRoleBinding>::all(client()).list(&all).await?.items {
        if is_ours(&binding.subjects) {
            found.extend(expand("", &rules(stage, "", &binding.role_ref).await?));
        }
    }
    for binding in Api::<RoleBinding>::all(client()).list(&all).await?.items {
        if is_ours(&binding.subjects) {
            let namespace = binding.metadata.namespace.unwrap_or_default();
            found.extend(expand(
                &namespace,
                &rules(stage, &namespace, &binding.role_ref).await?,
            ));
        }
    }
    Ok(found)
}

async fn rules(stage: &Stage, namespace: &str, role: &RoleRef) -> anyhow::Result<Vec<PolicyRule>> {
    let client = stage.client.clone();
    let rules = if role.kind == "ClusterRole" {
        Api::<ClusterRole>::all(client)
            .get(&role.name)
            .await
            .map(|role| role.rules)
    } else {
        Api::<Role>::namespaced(client, namespace)
            .get(&role.name)
            .await
            .map(|role| role.rules)
    };
    Ok(rules
        .with_context(|| format!("the {} {}", role.kind, role.name))?
        .unwrap_or_default())
}

fn expand(namespace: &str, rules: &[PolicyRule]) -> Vec<Grant> {
    let mut grants = vec![];
    for rule in rules {
        let applied = rule.verbs.len() == APPLIED.len()
            && APPLIED.iter().all(|verb| rule.verbs.iter().any(|it| it == verb));
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                grants.extend(rule.verbs.iter().map(|verb| Grant {
                    namespace: namespace.to_owned(),
                    group: group.clone(),
                    resource: resource.clone(),
                    verb: verb.clone(),
                    names: rule.resource_names.clone().unwrap_or_default(),
                    applied,
                }));
            }
        }
    }
    grants
}

impl Grant {
    /// A patch that makes an object (server-side apply) takes the right to create it too.
    fn is_used_by(&self, request: &Request) -> bool {
        let fits = |allowed: &str, asked: &str| allowed == "*" || allowed == asked;
        let creates = request.verb == "patch" && request.code == 201;
        fits(&self.group, &request.group)
            && fits(&self.resource, &request.resource)
            && (fits(&self.verb, &request.verb) || creates && fits(&self.verb, "create"))
            && request.code != 403
            && (self.namespace.is_empty() || self.namespace == request.namespace)
            && (self.names.is_empty() || self.names.contains(&request.name))
    }

    fn is_like(&self, other: &Self) -> bool {
        self.applied == other.applied && self.verb == other.verb
    }

    fn say(&self) -> String {
        let place = if self.namespace.is_empty() {
            "everywhere"
        } else {
            &self.namespace
        };
        let names = if self.names.is_empty() {
            String::new()
        } else {
            format!(" named {}", self.names.join(", "))
        };
        format!(
            "{} {:?} {}{names} ({place})",
            self.verb, self.group, self.resource
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(verb: &str, group: &str, resource: &str, namespace: &str, name: &str) -> Request {
        let [verb, group, resource, namespace, name] =
            [verb, group, resource, namespace, name].map(String::from);
        Request {
            verb,
            group,
            resource,
            namespace,
            name,
            user_agent: String::new(),
            user: String::new(),
            code: 200,
            received: String::new(),
        }
    }

    #[test]
    fn a_grant_is_used_by_what_the_api_server_would_allow_for_it() {
        let rule = PolicyRule {
            api_groups: Some(vec![String::new(), "apps".into()]),
            resources: Some(vec!["secrets".into()]),
            resource_names: Some(vec!["key".into()]),
            verbs: vec!["get".into(), "list".into()],
            ..PolicyRule::default()
        };
        let grants = expand("here", &[rule]);
        assert_eq!(grants.len(), 4);
        let allowed = |asked: &Request| grants.iter().filter(|grant| grant.is_used_by(asked)).count();
        assert_eq!(allowed(&request("get", "", "secrets", "here", "key")), 1);
        for refused in [
            request("get", "", "secrets", "here", "other"),
            request("get", "", "secrets", "there", "key"),
            request("watch", "", "secrets", "here", "key"),
            request("get", "batch", "secrets", "here", "key"),
            request("get", "", "configmaps", "here", "key"),
        ] {
            assert_eq!(allowed(&refused), 0, "{refused:?}");
        }
        assert!(
            grants[0].say().contains("named key (here)"),
            "{}",
            grants[0].say()
        );
    }
}
