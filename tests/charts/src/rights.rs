//! What a ServiceAccount may do by a release's manifest, beside what it did by the audit log.

use std::collections::BTreeSet;

use plumbline_testkit::Requests;
use serde_json::Value;

/// A verb on a resource (`secrets`, `pods/eviction`), with whatever names.
pub type Rule = (String, String);

fn texts(value: &Value) -> impl Iterator<Item = String> {
    let items = value.as_array().into_iter().flatten();
    items.filter_map(|item| item.as_str().map(str::to_owned))
}

/// What the Roles of `manifest` that are bound to the ServiceAccount `account` allow.
pub fn granted(manifest: &[Value], account: &str) -> BTreeSet<Rule> {
    let is_bound = |binding: &&Value| {
        let mut subjects = binding["subjects"].as_array().into_iter().flatten();
        subjects.any(|subject| subject["kind"] == "ServiceAccount" && subject["name"] == account)
    };
    let bindings = manifest.iter().filter(|object| object["roleRef"].is_object());
    let mut rules = BTreeSet::new();
    for binding in bindings.filter(is_bound) {
        let role = manifest.iter().find(|object| {
            object["kind"] == binding["roleRef"]["kind"]
                && object["metadata"]["name"] == binding["roleRef"]["name"]
                && (object["kind"] == "ClusterRole"
                    || object["metadata"]["namespace"] == binding["metadata"]["namespace"])
        });
        for rule in role
            .and_then(|role| role["rules"].as_array())
            .into_iter()
            .flatten()
        {
            for resource in texts(&rule["resources"]) {
                rules.extend(texts(&rule["verbs"]).map(|verb| (verb, resource.clone())));
            }
        }
    }
    rules
}

/// What `user` asked for and was refused.
pub fn too_little(requests: &Requests, user: &str) -> BTreeSet<String> {
    let refused = requests
        .0
        .iter()
        .filter(|one| one.user == user && one.code == 403);
    refused
        .map(|one| format!("{} {} {}/{}", one.verb, one.resource, one.namespace, one.name))
        .collect()
}

/// What `user` may do and has not done, but for what `seldom` explains.
pub fn too_much(
    requests: &Requests,
    user: &str,
    granted: &BTreeSet<Rule>,
    seldom: &[(&str, &str, &str)],
) -> BTreeSet<Rule> {
    let done: BTreeSet<Rule> = requests
        .0
        .iter()
        .filter(|one| one.user == user)
        .map(|one| (one.verb.clone(), one.resource.clone()))
        .collect();
    let explained = |rule: &&Rule| {
        seldom
            .iter()
            .any(|(verb, resource, _)| (*verb == "*" || *verb == rule.0) && *resource == rule.1)
    };
    granted
        .difference(&done)
        .filter(|rule| !explained(rule))
        .cloned()
        .collect()
}
