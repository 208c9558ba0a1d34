//! The ConfigMaps that hold what of an inventory has no room in the status.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, Patch, PatchParams},
    core::Resource as _,
};
use serde_json::json;

use crate::{
    api::{Kustomization, KustomizationStatus},
    cluster::{fields::MANAGER, requests},
    context::{Error, Memory, bounded},
    inventory::{Home, Recorded},
    reconcile::Step,
    report,
};

/// The key of a shard's ConfigMap.
const KEY: &str = "entries";

/// Reads the inventory of a status with all its shards. As long as one cannot be read, nothing is known for sure: the error
/// says which.
pub(crate) async fn read(
    client: &Client,
    status: &KustomizationStatus,
    known: Option<Recorded>,
    home: &Home,
) -> Result<Recorded, String> {
    let mut recorded = Recorded::read(status.inventory.as_ref(), known, home);
    for number in recorded.unread.clone() {
        let id = home.shard(number);
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), &id.namespace);
        let found = requests::bounded(api.get_opt(&id.name)).await;
        let failed = |why: &str| {
            format!(
                "the ConfigMap {}/{}, which holds a part of the inventory, {why}; nothing is applied or deleted meanwhile",
                id.namespace, id.name
            )
        };
        let map = found
            .map_err(|error| failed(&format!("cannot be read: {error}")))?
            .ok_or_else(|| {
                failed(
                    "does not exist: restore it, or take its entry out of status.inventory and delete by hand what only \
                     it listed",
                )
            })?;
        let data = map.data.unwrap_or_default();
        recorded.add_shard(number, data.get(KEY).map(String::as_str).unwrap_or_default());
    }
    Ok(recorded)
}

impl Step<'_> {
    /// Whose inventory it is.
    pub(crate) fn home(&self) -> Home {
        Home {
            namespace: self.owner.namespace.clone(),
            uid: self.object.metadata.uid.clone().unwrap_or_default(),
            limit: self.context.settings.inventory_limit,
        }
    }

    /// Writes a status and the shards of its inventory: shards first, so that what the status names is there; what it
    /// names no longer goes after it.
    pub(crate) async fn write_recorded(
        &self,
        memory: &mut Memory,
        (before, after): (&Recorded, &Recorded),
        old: &KustomizationStatus,
        new: KustomizationStatus,
    ) -> Result<(), Error> {
        let changed = after.changed_shards(before);
        if let Err(error) = self.put_shards(&changed).await {
            // Nothing goes on without it, so the condition has to say why.
            let message =
                format!("a part of the inventory cannot be written: {error}; nothing is applied meanwhile");
            let failed = report::not_ready(old, "ReconciliationFailed", &message, self.about);
            self.tell_failure(old, &failed, "");
            self.context.write_status(self.owner, memory, old, failed).await?;
            return Err(error);
        }
        self.context.write_status(self.owner, memory, old, new).await?;
        let home = self.home();
        for number in changed
            .iter()
            .filter(|(_, text)| text.is_none())
            .map(|(number, _)| *number)
        {
            let id = home.shard(number);
            let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &id.namespace);
            bounded(self.owner, async {
                api.delete(&id.name, &DeleteParams::default()).await
            })
            .await?;
        }
        Ok(())
    }

    async fn put_shards(&self, changed: &BTreeMap<u16, Option<String>>) -> Result<(), Error> {
        let home = self.home();
        for (number, text) in changed {
            let Some(text) = text else { continue };
            let id = home.shard(*number);
            let map = json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": id.name,
                    "labels": { "app.kubernetes.io/managed-by": MANAGER },
                    "annotations": { "plumbline.dev/inventory-of": self.owner.name },
                    "ownerReferences": [{
                        "apiVersion": Kustomization::api_version(&()),
                        "kind": Kustomization::kind(&()),
                        "name": self.owner.name,
                        "uid": home.uid,
                    }],
                },
                "data": { KEY: text },
            });
            let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &id.namespace);
            let params = PatchParams::apply(MANAGER).force();
            bounded(self.owner, async {
                api.patch_metadata(&id.name, &params, &Patch::Apply(&map)).await
            })
            .await?;
        }
        Ok(())
    }
}
