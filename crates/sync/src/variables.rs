//! Reads what `spec.postBuild.substituteFrom` names.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use zeroize::Zeroizing;

use crate::{
    cluster::requests::{ReadError, bounded},
    manifest::Variables,
    reconcile::Step,
};

type Values = BTreeMap<String, Zeroizing<String>>;

impl Step<'_> {
    /// The variables to substitute; `None` when nothing is substituted. The error is for the condition.
    pub(crate) async fn variables(&self) -> Result<Option<Arc<Variables>>, String> {
        let Some(build) = &self.object.spec.post_build else {
            return Ok(None);
        };
        let (mut values, mut secret) = (Values::new(), BTreeSet::new());
        for from in &build.substitute_from {
            let field = format!(
                "spec.postBuild.substituteFrom: {} {}/{}",
                from.kind, self.owner.namespace, from.name
            );
            let found = self.values(&from.kind, &from.name).await;
            let found = found.map_err(|error| format!("{field} cannot be read: {error}"))?;
            let Some(found) = found else {
                if from.optional {
                    continue;
                }
                return Err(format!(
                    "{field} does not exist: create it, or set optional: true"
                ));
            };
            for (name, value) in found {
                let text = String::from_utf8(value.to_vec())
                    .map_err(|_| format!("{field}: the value of {name:?} is not text (UTF-8)"))?;
                if from.kind == "Secret" {
                    secret.insert(name.clone());
                } else {
                    secret.remove(&name);
                }
                insert(&mut values, &field, name, text)?;
            }
        }
        for (name, value) in &build.substitute {
            secret.remove(name);
            insert(
                &mut values,
                "spec.postBuild.substitute",
                name.clone(),
                value.clone(),
            )?;
        }
        let always = build.substitute_strategy.as_deref() == Some("Always");
        Ok((always || !values.is_empty()).then(|| Arc::new(Variables::new(values).with_secrets(secret))))
    }

    /// The values that come from Secrets, so that they can be kept out of what is printed.
    pub(crate) async fn secret_values(&self) -> Vec<Zeroizing<String>> {
        let build = self.object.spec.post_build.iter();
        let from = build
            .flat_map(|build| &build.substitute_from)
            .filter(|from| from.kind == "Secret");
        let mut all = Vec::new();
        for from in from {
            // What cannot be read is not in the objects either.
            let found = self.values(&from.kind, &from.name).await.ok().flatten();
            let values = found.into_iter().flatten().map(|(_, value)| value);
            all.extend(values.filter_map(|value| {
                let text = std::str::from_utf8(&value).ok()?;
                Some(Zeroizing::new(text.trim_end_matches('\n').to_owned()))
            }));
        }
        all
    }

    async fn values(
        &self,
        kind: &str,
        name: &str,
    ) -> Result<Option<Vec<(String, Zeroizing<Vec<u8>>)>>, ReadError> {
        let (client, namespace) = (self.context.client.clone(), &self.owner.namespace);
        let bytes = |(name, value): (String, Vec<u8>)| (name, Zeroizing::new(value));
        if kind == "Secret" {
            let secrets = Api::<Secret>::namespaced(client, namespace);
            let found = bounded(secrets.get_opt(name)).await?;
            let data = found.map(|secret| secret.data.unwrap_or_default());
            return Ok(data.map(|data| data.into_iter().map(|(n, v)| bytes((n, v.0))).collect()));
        }
        let maps = Api::<ConfigMap>::namespaced(client, namespace);
        let found = bounded(maps.get_opt(name)).await?;
        let data = found.map(|map| map.data.unwrap_or_default());
        Ok(data.map(|data| {
            data.into_iter()
                .map(|(n, v)| bytes((n, v.into_bytes())))
                .collect()
        }))
    }
}

/// A file's last line ends with a newline, which no value means. Flux removes all newlines; those within stay here.
fn insert(values: &mut Values, field: &str, name: String, value: String) -> Result<(), String> {
    let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(format!(
            "{field}: {name:?} is not the name of a variable: letters, digits and _, and no digit first"
        ));
    }
    let value = Zeroizing::new(value);
    values.insert(name, Zeroizing::new(value.trim_end_matches('\n').to_owned()));
    Ok(())
}
