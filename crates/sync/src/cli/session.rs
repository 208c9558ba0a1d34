//! A connection with the rights of whoever types the command.

use anyhow::Context as _;
use http::{HeaderValue, header};
use kube::{Api, Client, Config, ResourceExt, api::ListParams};
use plumbline_common::client::{self, ClientOptions};

use super::ClusterArgs;
use crate::api::{GitRepository, Kustomization};

/// Told apart from the controller in the audit log.
const USER_AGENT: &str = concat!("plumbline-sync-cli/", env!("CARGO_PKG_VERSION"));

/// A connection, and the namespace that is meant.
pub(super) struct Session {
    pub(super) client: Client,
    pub(super) config: Config,
    pub(super) namespace: String,
}

impl Session {
    pub(super) async fn connect(args: &ClusterArgs) -> anyhow::Result<Self> {
        let options = ClientOptions {
            kubeconfig: args.kubeconfig.clone(),
            context: args.context.clone(),
        };
        let mut config = client::config(&options).await?;
        config
            .headers
            .push((header::USER_AGENT, HeaderValue::from_static(USER_AGENT)));
        let namespace = args
            .namespace
            .clone()
            .unwrap_or_else(|| config.default_namespace.clone());
        Ok(Self {
            client: Client::try_from(config.clone())?,
            config,
            namespace,
        })
    }

    pub(super) fn kustomizations(&self) -> Api<Kustomization> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub(super) async fn kustomization(&self, name: &str) -> anyhow::Result<Kustomization> {
        let found = self.kustomizations().get_opt(name).await?;
        found.with_context(|| {
            format!(
                "there is no Kustomization {}/{name}: name another with -n NAMESPACE",
                self.namespace
            )
        })
    }

    pub(super) async fn all(&self) -> anyhow::Result<Vec<Kustomization>> {
        let list = self.kustomizations().list(&ListParams::default()).await?;
        let mut all = list.items;
        all.sort_by_key(ResourceExt::name_any);
        Ok(all)
    }

    /// The source of a Kustomization; `None` when it does not exist.
    pub(super) async fn source(&self, namespace: &str, name: &str) -> anyhow::Result<Option<GitRepository>> {
        let api: Api<GitRepository> = Api::namespaced(self.client.clone(), namespace);
        Ok(api.get_opt(name).await?)
    }
}
