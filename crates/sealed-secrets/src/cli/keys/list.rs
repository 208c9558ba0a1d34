//! `kubeseal keys list`.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

use super::super::output::Target;
use super::{Arguments, Error, ListArguments};
use crate::api::SealedSecret;
use crate::cli::remote;
use crate::crypto::cert::Certificate;
use crate::crypto::{Order, RegisteredKey};
use crate::keystore::{ACKNOWLEDGED, KEY_LABEL};

/// One line of the list.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    state: String,
    fingerprint: String,
    not_before: String,
    not_after: String,
    /// Items and objects that the controller last opened with this key.
    items: Option<usize>,
    objects: Option<usize>,
    safe_to_retire: bool,
    /// Why it is not, or what to know when it is.
    note: String,
}

/// What the SealedSecrets of the cluster say of the keys they are sealed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Uses {
    /// Items and objects by fingerprint.
    by_key: BTreeMap<String, (usize, usize)>,
    /// Objects that do not say it for everything they hold now.
    unknown: usize,
}

pub(super) async fn run(list: &ListArguments, arguments: &Arguments) -> Result<(), Error> {
    let client = super::client(arguments).await?;
    let secrets = super::key_secrets(&client, &arguments.controller_namespace).await?;
    // Without the controller at hand the newest key is taken for the one that seals.
    let served = remote::fetch_certificate(arguments)
        .await
        .ok()
        .and_then(|pem| Certificate::from_pem(&pem).ok())
        .map(|certificate| certificate.public_key.fingerprint().to_string());
    let sealed = Api::<SealedSecret>::all(client)
        .list(&ListParams::default())
        .await;
    let uses = match &sealed {
        Ok(list) => Ok(uses(&list.items)),
        Err(error) => Err(remote::message(error)),
    };
    let rows = rows(&secrets, served.as_deref(), uses.as_ref().ok());
    let text = if list.json {
        serde_json::to_string_pretty(&rows).map_err(|error| Error::Input(error.to_string()))? + "\n"
    } else {
        table(&rows, &uses)
    };
    Target::Stdout.write(&text)
}

/// Counts what the status of `sealed` records. Only a record of what is there now counts.
fn uses(sealed: &[SealedSecret]) -> Uses {
    let mut uses = Uses::default();
    for object in sealed {
        let spec = &object.spec;
        let status = object.status.as_ref();
        let is_current = status.is_some_and(|status| {
            status.observed_generation == object.metadata.generation
                && status
                    .conditions
                    .first()
                    .is_some_and(|condition| condition.status == "True")
        });
        let keys = status
            .and_then(|status| status.unsealed.as_ref())
            .map(|unsealed| &unsealed.keys);
        let items: Vec<&str> = match spec.data {
            Some(_) => vec!["data"],
            None => spec.encrypted_data.keys().map(String::as_str).collect(),
        };
        let found: Option<Vec<&String>> = items
            .iter()
            .map(|item| keys.filter(|_| is_current).and_then(|keys| keys.get(*item)))
            .collect();
        let Some(found) = found else {
            uses.unknown += 1;
            continue;
        };
        let mut seen: Vec<&String> = Vec::new();
        for fingerprint in found {
            let count = uses.by_key.entry(fingerprint.clone()).or_default();
            count.0 += 1;
            if !seen.contains(&fingerprint) {
                count.1 += 1;
                seen.push(fingerprint);
            }
        }
    }
    uses
}

/// The lines, newest key first. `served` is the fingerprint of the certificate that the controller hands out.
fn rows(secrets: &[Secret], served: Option<&str>, uses: Option<&Uses>) -> Vec<Row> {
    let mut keys: Vec<(String, Result<RegisteredKey, String>)> = secrets
        .iter()
        .map(|secret| {
            let label = secret
                .metadata
                .labels
                .as_ref()
                .and_then(|labels| labels.get(KEY_LABEL));
            (
                label.cloned().unwrap_or_else(|| "active".to_owned()),
                read(secret),
            )
        })
        .collect();
    keys.sort_by_key(|(_, key)| std::cmp::Reverse(key.as_ref().ok().map(|key| key.certificate.not_before)));
    let pending: Vec<String> = secrets
        .iter()
        .filter(|secret| {
            let annotations = secret.metadata.annotations.as_ref();
            annotations
                .and_then(|map| map.get(ACKNOWLEDGED))
                .is_some_and(|value| value == "false")
        })
        .filter_map(|secret| secret.metadata.name.clone())
        .collect();
    let is_active = |label: &str| label == "active";
    let newest = keys
        .iter()
        .filter(|(label, _)| is_active(label))
        .filter_map(|(_, key)| key.as_ref().ok())
        .find(|key| !pending.contains(&key.name))
        .map(|key| key.key.public().fingerprint().to_string());
    let seals = served.map(str::to_owned).or(newest);
    let names = secrets
        .iter()
        .map(|secret| secret.metadata.name.clone().unwrap_or_default());
    let mut broken: Vec<Row> = names
        .zip(secrets.iter().map(read))
        .filter_map(|(name, key)| Some((name, key.err()?)))
        .map(|(name, error)| Row {
            name,
            state: "unusable".to_owned(),
            fingerprint: String::new(),
            not_before: String::new(),
            not_after: String::new(),
            items: None,
            objects: None,
            safe_to_retire: false,
            note: error,
        })
        .collect();
    let mut rows: Vec<Row> = keys
        .into_iter()
        .filter_map(|(label, key)| Some((label, key.ok()?)))
        .map(|(label, key)| {
            let fingerprint = key.key.public().fingerprint().to_string();
            let is_sealing = seals.as_deref() == Some(&fingerprint);
            let is_pending = pending.contains(&key.name);
            let state = match label.as_str() {
                "active" if is_sealing => "sealing".to_owned(),
                "active" if is_pending => "pending".to_owned(),
                _ => label,
            };
            let count = uses.map(|uses| uses.by_key.get(&fingerprint).copied().unwrap_or_default());
            let note = match (uses, count) {
                _ if state == "sealing" => "new items are sealed with it".to_owned(),
                _ if state == "pending" => "waits for its backup to be acknowledged".to_owned(),
                (None, _) | (_, None) => "the SealedSecrets of the cluster cannot be listed".to_owned(),
                (_, Some((items, _))) if items > 0 => "in use: reseal what is sealed with it".to_owned(),
                (Some(uses), _) if uses.unknown > 0 => {
                    format!("{} SealedSecrets do not say which keys they use", uses.unknown)
                }
                _ => "nothing in the cluster is sealed with it".to_owned(),
            };
            Row {
                name: key.name,
                safe_to_retire: note.starts_with("nothing"),
                state,
                fingerprint,
                not_before: key.certificate.not_before.to_string(),
                not_after: key.certificate.not_after.to_string(),
                items: count.map(|(items, _)| items),
                objects: count.map(|(_, objects)| objects),
                note,
            }
        })
        .collect();
    rows.append(&mut broken);
    rows
}

fn read(secret: &Secret) -> Result<RegisteredKey, String> {
    let name = secret.metadata.name.clone().unwrap_or_default();
    let entry = |key: &str| {
        let data = secret.data.as_ref().and_then(|data| data.get(key));
        data.map_or(&[][..], |bytes| &bytes.0)
    };
    let (key, certificate) = (entry("tls.key"), entry("tls.crt"));
    RegisteredKey::read(&name, None, Order::CertNotBefore, key, certificate)
        .map_err(|error| error.to_string())
}

fn table(rows: &[Row], uses: &Result<Uses, String>) -> String {
    let count = |count: Option<usize>| count.map_or_else(|| "?".to_owned(), |count| count.to_string());
    let mut lines = vec![
        [
            "NAME",
            "STATE",
            "FINGERPRINT",
            "NOT BEFORE",
            "ITEMS",
            "OBJECTS",
            "SAFE TO RETIRE",
        ]
        .map(str::to_owned),
    ];
    lines.extend(rows.iter().map(|row| {
        [
            row.name.clone(),
            row.state.clone(),
            row.fingerprint.clone(),
            row.not_before.clone(),
            count(row.items),
            count(row.objects),
            format!("{}: {}", if row.safe_to_retire { "yes" } else { "no" }, row.note),
        ]
    }));
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut text: String = lines
        .iter()
        .map(|line| {
            let cells = line
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{cell:width$}"));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        })
        .collect();
    if let Err(error) = uses {
        text.extend([
            "\nThe SealedSecrets of the cluster cannot be listed: ",
            error,
            "\n",
        ]);
    }
    text += "\nOnly what is in the cluster is counted: files that are not applied there, and other clusters, are not.\n\
             To retire a key, back it up, then label its Secret with another value than active.\n";
    text
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn sealed(generation: i64, observed: i64, synced: &str, keys: &Value) -> SealedSecret {
        serde_json::from_value(json!({
            "metadata": {"name": "a", "generation": generation},
            "spec": {"encryptedData": {"x": "A", "y": "B"}},
            "status": {
                "observedGeneration": observed, "conditions": [{"type": "Synced", "status": synced}],
                "unsealed": {"keys": keys},
            },
        }))
        .unwrap()
    }

    #[test]
    fn only_complete_and_current_records_count() {
        let full = json!({"x": "SHA256:1", "y": "SHA256:2"});
        let same = json!({"x": "SHA256:1", "y": "SHA256:1"});
        let found = uses(&[sealed(1, 1, "True", &full), sealed(2, 2, "True", &same)]);
        let expected = BTreeMap::from([("SHA256:1".to_owned(), (3, 2)), ("SHA256:2".to_owned(), (1, 1))]);
        assert_eq!(
            found,
            Uses {
                by_key: expected,
                unknown: 0
            }
        );
        for object in [
            sealed(2, 1, "True", &full),
            sealed(1, 1, "False", &full),
            sealed(1, 1, "True", &json!({"x": "SHA256:1"})),
            SealedSecret {
                status: None,
                ..sealed(1, 1, "True", &full)
            },
        ] {
            assert_eq!(
                uses(&[object]),
                Uses {
                    by_key: BTreeMap::new(),
                    unknown: 1
                }
            );
        }
    }
}
