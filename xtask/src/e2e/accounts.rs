//! Rights that the story does not use, and why the charts have them all the same.

use super::rights::Grant;

/// Rights of a chart that are accounted for. What is empty stands for any.
struct Account {
    chart: &'static str,
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    why: &'static str,
}

const ACCOUNTS: &[Account] = &[
    Account {
        chart: "",
        group: "",
        resources: &["events"],
        verbs: &["patch"],
        why: "an Event that is told again within ten minutes counts up",
    },
    Account {
        chart: "reloader",
        group: "apps",
        resources: &["daemonsets", "statefulsets"],
        verbs: &["patch"],
        why: "the story has Deployments only; tested on the control plane",
    },
    Account {
        chart: "reloader",
        group: "batch",
        resources: &["cronjobs", "jobs"],
        verbs: &[],
        why: "the story has Deployments only; tested on the control plane",
    },
    Account {
        chart: "reloader",
        group: "",
        resources: &["secrets"],
        verbs: &["delete"],
        why: "the copy of a Job that is made anew",
    },
    Account {
        chart: "sync",
        group: "",
        resources: &["configmaps", "secrets"],
        verbs: &["get"],
        why: "credentials of repositories and variables that the story does not have",
    },
];

/// Why the chart has it, if there is a reason.
pub(super) fn reason(chart: &str, grant: &Grant) -> Option<&'static str> {
    let has = |list: &[&str], one: &str| list.is_empty() || list.contains(&one);
    let account = ACCOUNTS.iter().find(|account| {
        (account.chart.is_empty() || account.chart == chart)
            && account.group == grant.group
            && has(account.resources, &grant.resource)
            && has(account.verbs, &grant.verb)
    });
    account.map(|account| account.why)
}
