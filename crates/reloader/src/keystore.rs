//! The key of the digests: a Secret in our own namespace, made at the first start.

use std::{collections::BTreeMap, time::Duration};

use aws_lc_rs::{digest, rand};
use k8s_openapi::{ByteString, api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, api::PostParams};

use crate::{
    digest::{KEY_LENGTH, Keyer},
    owned::MANAGER,
};

/// The Secret's name.
pub const SECRET: &str = "plumbline-reloader-digest-key";
const FIELD: &str = "key";
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_secs(3);

/// Why there is no key. Starting without the one that was used before would forget every baseline.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The Secret cannot be read, which may pass.
    #[error("cannot read the Secret {0}/{SECRET}: {1}; grant get on it")]
    Read(String, Box<kube::Error>),
    /// The Secret cannot be made.
    #[error("cannot create the Secret {0}/{SECRET}: {1}")]
    Create(String, Box<kube::Error>),
    /// The Secret holds something else.
    #[error(
        "the Secret {0}/{SECRET} has no field {FIELD} of {KEY_LENGTH} bytes: delete it and every workload is adopted anew"
    )]
    Malformed(String),
    /// The system has no randomness.
    #[error("no random numbers to be had")]
    Random,
}

/// Reads the key, or makes it. Where Secrets may not be created (Stakater's own chart), a fixed key is used: the digests
/// then tell no more than Stakater's hashes do, and no less.
pub async fn keyer(client: Client, namespace: &str) -> Result<Keyer, KeyError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    let mut attempt = 0;
    loop {
        match read_or_create(&api, namespace).await {
            Err(KeyError::Read(place, error)) if attempt < ATTEMPTS => {
                attempt += 1;
                tracing::warn!(namespace = place, %error, "the digest key cannot be read, is tried again");
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome,
        }
    }
}

/// The key that is in use, without making one.
pub async fn existing(client: Client, namespace: &str) -> Result<Keyer, KeyError> {
    let api: Api<Secret> = Api::namespaced(client, namespace);
    match api.get_opt(SECRET).await {
        Ok(Some(secret)) => parse(&secret, namespace),
        Ok(None) => Ok(Keyer::new(&public())),
        Err(error) => Err(KeyError::Read(namespace.into(), error.into())),
    }
}

async fn read_or_create(api: &Api<Secret>, namespace: &str) -> Result<Keyer, KeyError> {
    let read = async || {
        api.get_opt(SECRET)
            .await
            .map_err(|error| KeyError::Read(namespace.into(), error.into()))
    };
    if let Some(secret) = read().await? {
        return parse(&secret, namespace);
    }
    let mut key = [0; KEY_LENGTH];
    rand::fill(&mut key).map_err(|_| KeyError::Random)?;
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.into()),
            namespace: Some(namespace.into()),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".into()),
        data: Some(BTreeMap::from([(FIELD.into(), ByteString(key.to_vec()))])),
        ..Secret::default()
    };
    let parameters = PostParams {
        field_manager: Some(MANAGER.into()),
        ..PostParams::default()
    };
    match api.create(&parameters, &secret).await {
        Ok(_) => Ok(Keyer::new(&key)),
        // Another replica was faster.
        Err(kube::Error::Api(status)) if status.is_already_exists() => match read().await? {
            Some(secret) => parse(&secret, namespace),
            None => Err(KeyError::Malformed(namespace.into())),
        },
        Err(kube::Error::Api(status)) if status.is_forbidden() || status.is_not_found() => {
            tracing::warn!(
                namespace,
                "may not create the Secret {SECRET}: digests are made with a public key"
            );
            Ok(Keyer::new(&public()))
        }
        Err(error) => Err(KeyError::Create(namespace.into(), error.into())),
    }
}

fn parse(secret: &Secret, namespace: &str) -> Result<Keyer, KeyError> {
    let value = secret.data.as_ref().and_then(|data| data.get(FIELD));
    let key = value.and_then(|value| value.0.as_slice().try_into().ok());
    key.map(Keyer::new)
        .ok_or_else(|| KeyError::Malformed(namespace.into()))
}

fn public() -> [u8; KEY_LENGTH] {
    let mut key = [0; KEY_LENGTH];
    let digest = digest::digest(&digest::SHA256, b"plumbline-reloader: a key that is no secret");
    for (to, from) in key.iter_mut().zip(digest.as_ref()) {
        *to = *from;
    }
    key
}
