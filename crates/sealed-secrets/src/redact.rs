//! The API server's words about a Secret that it refused, without the values. Pure.
//!
//! It quotes what it cannot use: of a `.dockerconfigjson` that is not JSON, the first character that is wrong. Who may write a
//! template but not read Secrets could have a value spelt out into the condition, a character a time.

use std::collections::BTreeMap;

use crate::crypto::{Plaintext, encode};

/// Shorter values are words of any message, and are not looked for.
const MIN_VALUE: usize = 4;

/// What `error` says, safe for a condition; `data` is what was to be written.
pub fn words(error: &kube::Error, data: &BTreeMap<String, Plaintext>) -> String {
    let text = match error {
        kube::Error::Api(status) if status.is_invalid() => {
            let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
            let fields: Vec<String> = causes
                .iter()
                .map(|cause| field(&cause.field, &cause.message))
                .collect();
            if fields.is_empty() {
                status.message.clone()
            } else {
                format!("the API server refuses the Secret: {}", fields.join("; "))
            }
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    without(text, data)
}

/// One field and what is wrong with it.
fn field(field: &str, message: &str) -> String {
    if field.is_empty() {
        message.to_owned()
    } else if field.starts_with("data") || field.starts_with("stringData") {
        format!("{field}: missing, or not in the form that this type of Secret requires")
    } else {
        format!("{field}: {message}")
    }
}

/// Policies and webhooks may quote whole values.
fn without(mut text: String, data: &BTreeMap<String, Plaintext>) -> String {
    for value in data.values().filter(|value| value.len() >= MIN_VALUE) {
        let forms = [
            std::str::from_utf8(value).ok().map(str::to_owned),
            Some(encode(value)),
        ];
        for form in forms.into_iter().flatten() {
            if text.contains(&form) {
                text = text.replace(&form, "<redacted>");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::json;

    use super::*;

    fn error(message: &str, reason: &str, causes: &serde_json::Value) -> kube::Error {
        let status = json!({"code": 422, "status": "Failure", "message": message, "reason": reason,
            "details": {"causes": causes}});
        let status: Status = serde_json::from_value(status).unwrap();
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn values_are_left_out() {
        let data = BTreeMap::from([("k".to_owned(), Plaintext::new(b"hunter2".to_vec()))]);
        let causes = json!([
            {"field": "data[k]", "message": "Invalid value: \"<secret contents redacted>\": invalid character 'h'"},
            {"field": "metadata.labels", "message": "Invalid value: \"a b\""},
            {"message": "the policy says: hunter2 (aHVudGVyMg==) is weak"},
        ]);
        assert_eq!(
            words(&error("whole", "Invalid", &causes), &data),
            "the API server refuses the Secret: data[k]: missing, or not in the form that this type of Secret requires; \
             metadata.labels: Invalid value: \"a b\"; the policy says: <redacted> (<redacted>) is weak"
        );
        assert_eq!(
            words(&error("no hunter2", "Forbidden", &json!([])), &data),
            "no <redacted>"
        );
    }
}
