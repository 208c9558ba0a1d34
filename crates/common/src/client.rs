//! The Kubernetes client every controller uses.

use std::time::Duration;

use anyhow::Context as _;
use kube::{Client, Config, config::KubeConfigOptions};

/// Which kubeconfig to read.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Path of a kubeconfig file; without it `KUBECONFIG`, `~/.kube/config`, then the Pod's ServiceAccount.
    pub kubeconfig: Option<std::path::PathBuf>,
    /// Context of the kubeconfig; without it the current one.
    pub context: Option<String>,
}

/// Chooses aws-lc-rs as the process's TLS provider. Call it first in `main`: rustls refuses to guess.
pub fn install_crypto_provider() {
    // `Err` carries the provider that is already installed, which is the same one.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

/// Reads the configuration of the cluster to talk to.
pub async fn config(options: &ClientOptions) -> anyhow::Result<Config> {
    let context = KubeConfigOptions {
        context: options.context.clone(),
        ..Default::default()
    };
    let mut config = if let Some(path) = &options.kubeconfig {
        let kubeconfig = kube::config::Kubeconfig::read_from(path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()))?;
        Config::from_custom_kubeconfig(kubeconfig, &context)
            .await
            .with_context(|| format!("the kubeconfig {} cannot be used", path.display()))?
    } else if options.context.is_some() {
        Config::from_kubeconfig(&context)
            .await
            .context("the kubeconfig's context cannot be used")?
    } else {
        Config::infer().await.context(
            "no cluster to talk to: set KUBECONFIG, create ~/.kube/config, or run in a Pod with a ServiceAccount",
        )?
    };
    // A dead API server must not hold a request for ever; watches send bookmarks every minute.
    config.read_timeout = Some(Duration::from_secs(295));
    config.reset_reader_on_write = true;
    Ok(config)
}

/// A client whose requests carry `user_agent` (`plumbline-sync/0.1.0`), by which the audit log tells them apart.
pub async fn connect(options: &ClientOptions, user_agent: &str) -> anyhow::Result<Client> {
    let mut config = config(options).await?;
    let value = user_agent
        .parse()
        .with_context(|| format!("{user_agent:?} is no user agent"))?;
    config.headers.push((axum::http::header::USER_AGENT, value));
    Ok(Client::try_from(config)?)
}
