//! Pure: the tree that `status` prints.

use std::fmt::Write as _;

use super::{
    output::{Table, short},
    status::{Node, Source, State, brought_by},
};

/// Sources, Kustomizations and objects.
pub(super) fn text(sources: &[Source]) -> String {
    let mut out = String::new();
    for source in sources {
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "{} GitRepository {}/{}  {}  {}",
            mark(&source.state),
            source.namespace,
            source.name,
            short(&source.revision),
            source.url
        );
        trouble(&source.state, "    ", &mut out);
        for node in &source.kustomizations {
            kustomization(node, &mut out);
        }
    }
    out
}

fn kustomization(node: &Node, out: &mut String) {
    let objects = match node.managed {
        1 => "1 object".to_owned(),
        n => format!("{n} objects"),
    };
    let there = node.cluster.as_ref().map(|name| format!(" in {name}"));
    let there = there.unwrap_or_default();
    let _ = writeln!(
        out,
        "  {} Kustomization {}/{}  {}  {}  {objects}{there}",
        mark(&node.state),
        node.namespace,
        node.name,
        short(&node.revision),
        node.path
    );
    trouble(&node.state, "      ", out);
    let mut table = Table::default();
    for object in &node.objects {
        let mark = match object.health {
            "Current" => '✔',
            "InProgress" => '◌',
            _ => '✗',
        };
        let mut health = object.health.to_owned();
        if object.adopted {
            health.push_str(" (adopted)");
        }
        let message = object.message.clone().unwrap_or_default().replace('\n', " ");
        table.row([
            format!("{mark} {}", object.id),
            health,
            brought_by(object),
            object.at.clone().unwrap_or_default(),
            message,
        ]);
    }
    for line in table.to_string().lines() {
        let _ = writeln!(out, "    {line}");
    }
}

fn mark(state: &State) -> char {
    match state.ready.as_str() {
        "True" => '✔',
        "Suspended" => '‖',
        "Unknown" => '◌',
        _ => '✗',
    }
}

fn trouble(state: &State, indent: &str, out: &mut String) {
    if state.ready != "True" {
        let message = state.message.replace('\n', &format!("\n{indent}"));
        let _ = writeln!(out, "{indent}{}: {message}", state.reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::status::Object;

    #[test]
    fn a_tree_says_what_is_wrong_and_where_things_come_from() {
        let state = |ready: &str, reason: &str, message: &str| State {
            ready: ready.into(),
            reason: reason.into(),
            message: message.into(),
        };
        let source = Source {
            namespace: "a".into(),
            name: "repo".into(),
            url: "https://x/y".into(),
            revision: "main@sha1:0123456789".into(),
            state: state("True", "Succeeded", "stored"),
            kustomizations: vec![Node {
                namespace: "a".into(),
                name: "app".into(),
                path: "./deploy".into(),
                revision: "main@sha1:0123456789".into(),
                state: state("False", "BuildFailed", "x.yaml:1: bad\ny"),
                cluster: Some("the cluster at https://z".into()),
                managed: 1,
                objects: vec![Object {
                    id: "ConfigMap/a/c".into(),
                    health: "Current",
                    message: None,
                    revision: Some("main@sha1:aaaaaaaaaa".into()),
                    at: Some("c.yaml:1".into()),
                    adopted: true,
                }],
            }],
        };
        assert_eq!(
            text(&[source]),
            "✔ GitRepository a/repo  main@sha1:01234567  https://x/y\n  \
             ✗ Kustomization a/app  main@sha1:01234567  ./deploy  1 object in the cluster at https://z\n      \
             BuildFailed: x.yaml:1: bad\n      y\n    \
             ✔ ConfigMap/a/c  Current (adopted)  main@sha1:aaaaaaaa  c.yaml:1\n"
        );
    }
}
