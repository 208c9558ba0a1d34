//! `spec.template.data`: Go templates over the opened items.

use std::collections::BTreeMap;

use crate::crypto::Plaintext;

/// Why a template did not render. Never quotes a value: whoever may write SealedSecrets reads this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// The items of the Secret: the opened ones, and the rendered ones where no opened one has the same name.
pub fn render(
    templates: Option<&BTreeMap<String, String>>,
    items: BTreeMap<String, Plaintext>,
) -> Result<BTreeMap<String, Plaintext>, TemplateError> {
    let Some(templates) = templates.filter(|templates| !templates.is_empty()) else {
        return Ok(items);
    };
    let names: Vec<&str> = templates.keys().map(String::as_str).collect();
    Err(TemplateError(format!(
        "spec.template.data is not supported yet ({})",
        names.join(", ")
    )))
}
