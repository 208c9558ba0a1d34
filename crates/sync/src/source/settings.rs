//! What a look at a repository needs from the API server: the settings that can be used, and the Secrets.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use plumbline_common::duration;

use super::{
    credentials,
    error::FetchError,
    verify::{Mode, Span, Verification},
};
use crate::{
    api::GitRepositorySpec,
    cluster::requests,
    git::{FileUrls, Remote, RemoteUrl, UrlPolicy},
    signature::Keys,
};

/// Refuses fields that are not built yet, and durations that the CRD lets pass.
pub(super) fn refuse(spec: &GitRepositorySpec) -> Result<(), FetchError> {
    let set = [
        (
            "spec.provider",
            spec.provider.as_deref().is_some_and(|p| p != "generic"),
            " and use a Secret",
        ),
        ("spec.serviceAccountName", spec.service_account_name.is_some(), ""),
    ];
    if let Some((field, _, hint)) = set.into_iter().find(|(_, is_set, _)| *is_set) {
        return Err(FetchError::Unsupported { field, hint });
    }
    match duration::parse(&spec.interval) {
        Ok(_) => Ok(()),
        Err(error) => Err(FetchError::Field(format!("spec.interval: {error}"))),
    }
}

/// What the Secrets of a spec hold.
#[derive(Clone)]
pub(super) struct Settings {
    /// The repository, with credentials.
    pub(super) remote: Remote,
    /// What has to be signed, and by whom.
    pub(super) verification: Option<Verification>,
}

/// Where repositories may be.
#[derive(Clone, Copy)]
pub(super) struct Reach<'a> {
    pub(super) file_urls: FileUrls,
    pub(super) policy: &'a Arc<UrlPolicy>,
}

/// Reads the Secrets of a spec.
pub(super) async fn read(
    client: &Client,
    namespace: &str,
    spec: &GitRepositorySpec,
    span: Span,
    reach: Reach<'_>,
) -> Result<Settings, FetchError> {
    let mut remote = Remote::new(RemoteUrl::parse(&spec.url, reach.file_urls)?);
    remote.policy = Arc::clone(reach.policy);
    // Before anything of a Secret is read.
    remote.policy.admit(&remote.url)?;
    if let Some(timeout) = &spec.timeout {
        remote.timeout =
            duration::parse(timeout).map_err(|error| FetchError::Field(format!("spec.timeout: {error}")))?;
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let read = async |name: &str, field| match requests::bounded(secrets.get_opt(name)).await {
        Ok(Some(secret)) => Ok(secret),
        Ok(None) => Err(FetchError::SecretMissing(name.to_owned(), field)),
        Err(error) => Err(FetchError::SecretUnreadable(name.to_owned(), error)),
    };
    if let Some(reference) = &spec.secret_ref {
        remote = credentials::authenticate(remote, &read(&reference.name, "spec.secretRef").await?)?;
    }
    if let Some(reference) = &spec.proxy_secret_ref {
        remote.proxy = Some(credentials::proxy(
            &read(&reference.name, "spec.proxySecretRef").await?,
        )?);
    }
    let verification = match &spec.verify {
        None => None,
        Some(verify) => {
            let name = &verify.secret_ref.name;
            let secret = read(name, "spec.verify.secretRef").await?;
            let keys = Keys::parse(&secret.data.unwrap_or_default())
                .map_err(|error| FetchError::Keys(name.clone(), error))?;
            let mode = Mode::parse(verify.mode.as_deref().unwrap_or_default())?;
            Some(Verification { mode, span, keys })
        }
    };
    Ok(Settings { remote, verification })
}
