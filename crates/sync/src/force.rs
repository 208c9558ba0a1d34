//! Replacing an object whose immutable fields changed (`spec.force`, or `force: enabled` on the object): what is live goes
//! only after the API server has proved that it would take what comes.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::Value;
use tokio::time::Instant;

use crate::{
    act::Tools,
    cluster::{
        kinds::Kind,
        requests::{self, RequestError, Written},
    },
    manifest::{POLICY_PREFIX, Wanted},
    object::{Identity, ObjectId},
    prune,
};

/// How long the old object is waited for; with finalizers it goes on at a later look.
const GOING: Duration = Duration::from_secs(5);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(100);

/// Kinds whose objects hold what is lost with them: `spec.force` is not enough.
const PRECIOUS: [(&str, &str); 5] = [
    ("", "Namespace"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("apps", "StatefulSet"),
];

/// What the API server says when a field may not change. A message with none of this proves nothing.
const IMMUTABLE: [&str; 6] = [
    "immutable",
    "may not change",
    "may not be changed",
    "cannot be changed",
    "cannot change",
    "Forbidden: updates to",
];

/// Whether a refusal says that a field may not change.
pub(crate) fn is_immutable(error: &RequestError) -> bool {
    matches!(error, RequestError::Refused { code: 422, message }
        if IMMUTABLE.iter().any(|words| message.contains(words)))
}

fn is_precious(id: &ObjectId) -> bool {
    PRECIOUS.contains(&(id.group.as_str(), id.kind.as_str()))
}

/// Deletes the live object and makes it anew, if `refused` is about an immutable field, that is asked for, and it is proved
/// that the new object would be taken. Otherwise the error, with the way out.
pub(crate) async fn replace(
    tools: &Tools<'_>,
    kind: &Kind,
    id: &ObjectId,
    wanted: &Wanted,
    body: &Value,
    refused: RequestError,
) -> Result<Written, RequestError> {
    let live = prove(tools, kind, id, wanted, body, refused).await?;
    requests::delete(tools.client, kind, id, &live).await?;
    let begin = Instant::now();
    loop {
        match requests::read(tools.client, kind, id).await? {
            Some(metadata) if metadata.uid == live.uid => {
                if begin.elapsed() > GOING {
                    return Err(going(&metadata));
                }
                tokio::time::sleep(LOOK).await;
            }
            _ => break,
        }
    }
    requests::apply(tools.client, kind, id, body).await
}

/// Proves that replacing the object is asked for, allowed and would work. Changes nothing; returns what is live.
pub(crate) async fn prove(
    tools: &Tools<'_>,
    kind: &Kind,
    id: &ObjectId,
    wanted: &Wanted,
    body: &Value,
    refused: RequestError,
) -> Result<ObjectMeta, RequestError> {
    if !is_immutable(&refused) {
        return Err(refused);
    }
    let no = |why: &str| {
        let (code, message) = (422, format!("{refused}; it is not replaced: {why}"));
        Err(RequestError::Refused { code, message })
    };
    if !wanted.force && !tools.force {
        return no(&format!(
            "to have it deleted and made anew, annotate it in Git with {POLICY_PREFIX}force: enabled"
        ));
    }
    if !wanted.force && is_precious(id) {
        return no(&format!(
            "what a {} holds is lost with it, so spec.force is not enough: annotate it in Git with {POLICY_PREFIX}force: enabled",
            id.kind
        ));
    }
    let Some(live) = requests::read(tools.client, kind, id).await? else {
        return Err(RequestError::Unavailable(
            "it has just been deleted, and is made at the next try".into(),
        ));
    };
    if live.deletion_timestamp.is_some() {
        return Err(going(&live));
    }
    if let Some(why) = prune::reason_to_keep(&live, tools.owner) {
        return no(why);
    }
    let (proof, body) = throw_away(id, body);
    match requests::rehearse(tools.client, kind, &proof, &body).await {
        Ok(()) => Ok(live),
        Err(error @ (RequestError::Unavailable(_) | RequestError::Broken(_))) => Err(error),
        Err(error) => no(&format!(
            "the API server would not take the new one either: {error}"
        )),
    }
}

fn going(live: &ObjectMeta) -> RequestError {
    let finalizers = live.finalizers.clone().unwrap_or_default();
    let waits = if finalizers.is_empty() {
        String::new()
    } else {
        format!(", which waits for the finalizers {}", finalizers.join(", "))
    };
    RequestError::Unavailable(format!(
        "it is being deleted{waits}; it is made anew as soon as it is gone"
    ))
}

/// The same object under a name that nobody has, without what only one object can have.
fn throw_away(id: &ObjectId, body: &Value) -> (ObjectId, Value) {
    let name = format!("plumbline-proof-{:08x}", rand::random::<u32>());
    let mut body = body.clone();
    body["metadata"]["name"] = Value::from(name.as_str());
    if id.group.is_empty()
        && id.kind == "Service"
        && let Some(spec) = body["spec"].as_object_mut()
    {
        for field in ["clusterIP", "clusterIPs", "healthCheckNodePort"] {
            // A headless Service has this value, which is no address.
            if spec.get(field).is_some_and(|value| *value != "None") {
                spec.remove(field);
            }
        }
        for port in spec
            .get_mut("ports")
            .and_then(Value::as_array_mut)
            .into_iter()
            .flatten()
        {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
    }
    let identity = Identity {
        name,
        ..(**id).clone()
    };
    (identity.into(), body)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_says_so_is_about_an_immutable_field() {
        let refused = |code, message: &str| RequestError::Refused {
            code,
            message: message.into(),
        };
        for message in [
            r#"Deployment.apps "a" is invalid: spec.selector: Invalid value: {}: field is immutable"#,
            r#"Service "a" is invalid: spec.clusterIPs[0]: Invalid value: ["10.0.0.1"]: may not change once set"#,
            r#"StatefulSet.apps "a" is invalid: spec: Forbidden: updates to statefulset spec for fields other than"#,
            r#"RoleBinding "a" is invalid: roleRef: Invalid value: {}: cannot change roleRef"#,
            r#"X.y "a" is invalid: spec.z: Invalid value: "b": Value is immutable"#,
        ] {
            assert!(is_immutable(&refused(422, message)), "{message}");
        }
        // D.3: each of these made Flux delete what was live.
        for error in [
            refused(422, r#"Service "a" is invalid: spec.ports: Required value"#),
            refused(400, r#"strict decoding error: unknown field "spec.immutable""#),
            RequestError::Conflict("immutable".into()),
        ] {
            assert!(!is_immutable(&error), "{error}");
        }
    }

    #[test]
    fn the_proof_has_nothing_that_only_one_object_can_have() {
        let identity = Identity {
            namespace: "n".into(),
            group: String::new(),
            kind: "Service".into(),
            name: "a".into(),
        };
        let body = json!({ "metadata": { "name": "a", "labels": {} }, "spec": {
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"], "ports": [{ "port": 1, "nodePort": 30000 }],
        } });
        let (id, proof) = throw_away(&identity.into(), &body);
        assert_ne!(id.name, "a");
        assert_eq!(proof["metadata"]["name"], *id.name);
        assert_eq!(proof["spec"], json!({ "ports": [{ "port": 1 }] }));
        let headless = json!({ "metadata": {}, "spec": { "clusterIP": "None" } });
        assert_eq!(throw_away(&id, &headless).1["spec"], headless["spec"]);
    }
}
