//! What the Rust types cannot say about the CRDs' schemas.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps,
};
use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::json;

/// Go durations, as Flux's fields take them.
pub(super) const DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$";
/// Durations without hours.
pub(super) const SHORT_DURATION: &str = r"^([0-9]+(\.[0-9]+)?(ms|s|m))+$";

/// `metav1.Condition` with the bounds that Kubernetes puts on it.
pub(super) fn conditions(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "items": {
            "description": "Condition contains details for one aspect of the current state of this API resource.",
            "type": "object",
            "required": ["lastTransitionTime", "message", "reason", "status", "type"],
            "properties": {
                "lastTransitionTime": {
                    "description": "Last time the condition went from one status to another.",
                    "type": "string", "format": "date-time"
                },
                "message": { "description": "What, where and what to do.", "type": "string", "maxLength": 32768 },
                "observedGeneration": {
                    "description": "The metadata.generation that the condition is about.",
                    "type": "integer", "format": "int64", "minimum": 0
                },
                "reason": {
                    "description": "One CamelCase word for the cause.",
                    "type": "string", "minLength": 1, "maxLength": 1024,
                    "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$"
                },
                "status": {
                    "description": "True, False or Unknown.",
                    "type": "string", "enum": ["True", "False", "Unknown"]
                },
                "type": {
                    "description": "Type of the condition in CamelCase.",
                    "type": "string", "maxLength": 316,
                    "pattern": r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$"
                }
            }
        }
    })
}

/// `status.observedGeneration` is −1 until the controller has seen the object.
pub(super) fn complete(crd: &mut CustomResourceDefinition) {
    each_schema(crd, |schema| {
        if let Some(status) = property(schema, "status") {
            status.default = Some(JSON(json!({ "observedGeneration": -1 })));
            status.nullable = None;
        }
    });
}

/// Lets `spec.url` be a `file://` URL.
pub(super) fn admit_file_urls(crd: &mut CustomResourceDefinition) {
    each_schema(crd, |schema| {
        if let Some(url) = property(schema, "spec").and_then(|spec| property(spec, "url")) {
            url.pattern = Some("^(http|https|ssh|file)://.*$".into());
        }
    });
}

fn each_schema(crd: &mut CustomResourceDefinition, mut change: impl FnMut(&mut JSONSchemaProps)) {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|s| s.open_api_v3_schema.as_mut())
        {
            change(schema);
        }
    }
}

fn property<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}
