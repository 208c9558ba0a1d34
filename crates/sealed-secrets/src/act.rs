//! The only writes: the Secret, and the status of its SealedSecret.
//!
//! Creation is a POST and change a PUT guarded by the resource version that was read, because that is what the original's
//! RBAC allows; there is no second way for clusters that would allow more.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use crate::api::{SealedSecret, SealedSecretStatus};
use crate::decide::Plan;
use crate::observe::{Key, Mark};

/// Carries `plan` out; `None` when there was nothing to write.
pub async fn act(client: &Client, key: &Key, plan: &Plan) -> Result<Option<Mark>, kube::Error> {
    let secrets = Api::<Secret>::namespaced(client.clone(), &key.namespace);
    let parameters = PostParams::default();
    let written = match plan {
        Plan::Nothing | Plan::Refuse(_) => return Ok(None),
        Plan::Create(secret) => secrets.create(&parameters, secret).await?,
        Plan::Update(secret) => secrets.replace(&key.name, &parameters, secret).await?,
    };
    Ok(Some(Mark::of(&written.metadata)))
}

/// Reads the Secret of `key`, if there is one.
pub async fn existing(client: &Client, key: &Key) -> Result<Option<Secret>, kube::Error> {
    Api::<Secret>::namespaced(client.clone(), &key.namespace)
        .get_opt(&key.name)
        .await
}

/// Writes the status, guarded by the resource version of `sealed`; the object as it is afterwards.
pub async fn write_status(
    client: &Client,
    sealed: &SealedSecret,
    status: SealedSecretStatus,
) -> Result<SealedSecret, kube::Error> {
    let namespace = sealed.namespace().unwrap_or_default();
    let mut object = sealed.clone();
    object.status = Some(status);
    let mut written = Api::<SealedSecret>::namespaced(client.clone(), &namespace)
        .replace_status(&sealed.name_any(), &PostParams::default(), &object)
        .await?;
    written.metadata.managed_fields = None;
    Ok(written)
}

/// Deletes the Secret of a SealedSecret that is gone: exactly the one that it controls, never one that took its place, and
/// never one that was there before it or was to outlive it.
///
/// A SealedSecret that only left the label selector is not gone.
pub async fn delete_orphan(client: &Client, key: &Key) -> Result<(), kube::Error> {
    let sealed = Api::<SealedSecret>::namespaced(client.clone(), &key.namespace);
    if sealed.get_metadata_opt(&key.name).await?.is_some() {
        return Ok(());
    }
    let secrets = Api::<Secret>::namespaced(client.clone(), &key.namespace);
    let Some(secret) = secrets.get_metadata_opt(&key.name).await? else {
        return Ok(());
    };
    let controlled = secret.metadata.owner_references.iter().flatten().any(|owner| {
        owner.controller == Some(true) && owner.kind == "SealedSecret" && owner.name == key.name
    });
    if !controlled {
        return Ok(());
    }
    let exactly = Preconditions {
        uid: secret.metadata.uid,
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(exactly),
        ..DeleteParams::default()
    };
    match secrets.delete(&key.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
