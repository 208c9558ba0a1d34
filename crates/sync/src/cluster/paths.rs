//! Pure: which fields differ, in words. Never what they hold.

use serde_json::Value;

/// Fields that are written out; more are counted.
const WRITTEN_OUT: usize = 10;

/// The fields of `full` that are not in `left`, both as `managedFields` has them.
pub fn lost(full: &Value, left: &Value) -> Vec<String> {
    let mut found = Vec::new();
    collect(full, Some(left), &mut String::new(), &mut found);
    shortened(found)
}

fn collect(full: &Value, left: Option<&Value>, path: &mut String, found: &mut Vec<String>) {
    let Some(fields) = full.as_object() else { return };
    let mut is_leaf = true;
    for (name, below) in fields {
        // The field itself, as opposed to what is in it.
        if name == "." {
            continue;
        }
        is_leaf = false;
        let length = path.len();
        push(path, name);
        collect(below, left.and_then(|left| left.get(name)), path, found);
        path.truncate(length);
    }
    if is_leaf && left.is_none() {
        found.push(path.clone());
    }
}

/// Adds a step in the form that `managedFields` has it: `f:name`, `k:{"name":"x"}`, `v:"x"`, `i:0`.
fn push(path: &mut String, step: &str) {
    match step.split_once(':') {
        Some(("f", name)) => push_name(path, name),
        Some(("k", keys)) => {
            let keys: Value = serde_json::from_str(keys).unwrap_or_default();
            let keys: Vec<String> = keys
                .as_object()
                .into_iter()
                .flatten()
                .map(|(key, value)| {
                    format!(
                        "{key}={}",
                        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
                    )
                })
                .collect();
            path.extend(["[", &keys.join(","), "]"]);
        }
        Some((_, at)) => path.extend(["[", at, "]"]),
        None => push_name(path, step),
    }
}

fn push_name(path: &mut String, name: &str) {
    if name.contains(['.', '/', '[', ' ']) {
        path.extend(["[", name, "]"]);
    } else {
        if !path.is_empty() {
            path.push('.');
        }
        path.push_str(name);
    }
}

/// The fields in which two objects differ, beside those that the API server keeps for itself.
pub fn different(one: &Value, other: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(one, other, &mut String::new(), &mut found);
    found.retain(|path| {
        !KEPT_BY_THE_SERVER
            .iter()
            .any(|kept| path == kept || path.starts_with(&format!("{kept}.")))
    });
    // A list entry below one of them.
    found.retain(|path| !path.starts_with("metadata.managedFields"));
    // Ours, about where the object came from.
    found.retain(|path| !path.starts_with("metadata.annotations[plumbline.dev/"));
    shortened(found)
}

const KEPT_BY_THE_SERVER: [&str; 6] = [
    "status",
    "metadata.managedFields",
    "metadata.resourceVersion",
    "metadata.generation",
    "metadata.creationTimestamp",
    "metadata.uid",
];

fn compare(one: &Value, other: &Value, path: &mut String, found: &mut Vec<String>) {
    let length = path.len();
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let added = other.keys().filter(|name| !one.contains_key(*name));
            for name in one.keys().chain(added) {
                push_name(path, name);
                match (one.get(name), other.get(name)) {
                    (Some(one), Some(other)) => compare(one, other, path, found),
                    _ => found.push(path.clone()),
                }
                path.truncate(length);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (at, (one, other)) in one.iter().zip(other).enumerate() {
                path.extend(["[", &at.to_string(), "]"]);
                compare(one, other, path, found);
                path.truncate(length);
            }
        }
        _ if one == other => {}
        _ => found.push(path.clone()),
    }
}

fn shortened(mut found: Vec<String>) -> Vec<String> {
    if found.len() > WRITTEN_OUT {
        let more = found.len() - WRITTEN_OUT;
        found.truncate(WRITTEN_OUT);
        found.push(format!("{more} more"));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lost_fields_are_named_as_people_write_them() {
        let full = json!({
            "f:data": { "f:a": {}, "f:b": {} },
            "f:metadata": { "f:labels": { ".": {}, "f:app.kubernetes.io/name": {} }, "f:finalizers": { "v:\"x\"": {} } },
            "f:spec": { "f:replicas": {}, "f:containers": { "k:{\"name\":\"web\"}": {
                ".": {}, "f:image": {}, "f:ports": { "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": { "f:hostPort": {} } },
            } } },
        });
        let left = json!({ "f:data": { "f:b": {} }, "f:metadata": {}, "f:spec": { "f:containers": {} } });
        let mut found = lost(&full, &left);
        found.sort();
        assert_eq!(
            found,
            [
                "data.a",
                "metadata.finalizers[\"x\"]",
                "metadata.labels[app.kubernetes.io/name]",
                "spec.containers[name=web].image",
                "spec.containers[name=web].ports[containerPort=80,protocol=TCP].hostPort",
                "spec.replicas",
            ]
        );
        assert_eq!(lost(&full, &full), Vec::<String>::new());
    }

    #[test]
    fn differences_are_places_and_not_values() {
        let one = json!({
            "metadata": { "resourceVersion": "1", "managedFields": [{ "time": 1 }], "labels": { "a/b": "x" } },
            "data": { "password": "s3cret", "same": "s" }, "spec": { "list": [1, 2], "longer": [1] }, "status": { "x": 1 },
        });
        let other = json!({
            "metadata": { "resourceVersion": "2", "managedFields": [{ "time": 2 }], "labels": { "a/b": "y" } },
            "data": { "password": "other", "same": "s", "new": "n" }, "spec": { "list": [1, 3], "longer": [1, 2] },
        });
        let mut found = different(&one, &other);
        found.sort();
        assert_eq!(
            found,
            [
                "data.new",
                "data.password",
                "metadata.labels[a/b]",
                "spec.list[1]",
                "spec.longer"
            ]
        );
    }

    #[test]
    fn many_are_counted() {
        let full: Value = (0..30)
            .map(|at| (format!("f:k{at}"), json!({})))
            .collect::<serde_json::Map<_, _>>()
            .into();
        let found = lost(&full, &json!({}));
        assert_eq!(found.len(), WRITTEN_OUT + 1);
        assert_eq!(found.last().unwrap(), "20 more");
    }
}
