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

/// Deletes exactly the Secret with `mark`, never one that took its place.
pub async fn delete(client: &Client, key: &Key, mark: &Mark) -> Result<(), kube::Error> {
    let exactly = Preconditions {
        uid: Some(mark.uid.clone()),
        resource_version: None,
    };
    let parameters = DeleteParams {
        preconditions: Some(exactly),
        ..DeleteParams::default()
    };
    let secrets = Api::<Secret>::namespaced(client.clone(), &key.namespace);
    match secrets.delete(&key.name, &parameters).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
