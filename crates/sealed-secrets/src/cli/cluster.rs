//! Which API server, by kubectl's rules: flags over `--kubeconfig` over `$KUBECONFIG` over `~/.kube/config` over the Pod.

use std::path::Path;
use std::time::Duration;

use kube::client::AuthError;
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext,
};
use kube::{Client, Config};

use super::{ClusterArguments, Error};

/// Where a Pod finds its own namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// A client for what `arguments` say.
pub(super) async fn client(arguments: &ClusterArguments) -> Result<Client, Error> {
    let unusable = |error: &dyn std::fmt::Display| Error::Kubeconfig(error.to_string());
    let mut config = match kubeconfig(arguments)? {
        Some(kubeconfig) => {
            let options = KubeConfigOptions {
                context: arguments.context.clone(),
                cluster: arguments.cluster.clone(),
                user: arguments.user.clone(),
            };
            Config::from_custom_kubeconfig(overridden(kubeconfig, arguments), &options)
                .await
                .map_err(|error| unusable(&error))?
        }
        None => Config::incluster().map_err(|_| {
            Error::Kubeconfig(
                "no configuration has been provided, try setting KUBERNETES_MASTER environment variable"
                    .to_owned(),
            )
        })?,
    };
    let timeout = match arguments.request_timeout.as_deref() {
        None | Some("" | "0") => None,
        // kubectl also takes bare seconds.
        Some(text) => Some(match text.parse::<u64>() {
            Ok(seconds) => Duration::from_secs(seconds),
            Err(_) => plumbline_common::duration::parse(text).map_err(|error| unusable(&error))?,
        }),
    };
    config.read_timeout = timeout;
    config.connect_timeout = Some(timeout.unwrap_or(Duration::from_secs(30)));
    config.default_retry = false;
    Client::try_from(config).map_err(|error| Error::Kubeconfig(explained(&error)))
}

/// Why there is no client. What a credential plugin prints on standard output is a credential, or part of one.
fn explained(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(AuthError::AuthExecRun { cmd, out }) => format!(
            "the credential plugin {cmd:?} failed with {}: {}",
            out.status,
            String::from_utf8_lossy(&out.stderr).trim()
        ),
        kube::Error::Auth(AuthError::AuthExecParse(_)) => {
            "the credential plugin printed something else than an ExecCredential (not shown: it may hold a credential)"
                .to_owned()
        }
        other => other.to_string(),
    }
}

/// The namespace that the flags or the kubeconfig state; `None` when neither does.
pub(super) fn explicit_namespace(arguments: &ClusterArguments) -> Result<Option<String>, Error> {
    if let Some(namespace) = arguments
        .namespace
        .as_ref()
        .filter(|namespace| !namespace.is_empty())
    {
        return Ok(Some(namespace.clone()));
    }
    if let Some(kubeconfig) = kubeconfig(arguments)? {
        let wanted = arguments.context.as_ref().or(kubeconfig.current_context.as_ref());
        let context = kubeconfig
            .contexts
            .iter()
            .find(|context| Some(&context.name) == wanted)
            .and_then(|context| context.context.as_ref());
        return Ok(context.map(|context| context.namespace.clone().unwrap_or_else(|| "default".to_owned())));
    }
    Ok(std::fs::read_to_string(POD_NAMESPACE)
        .ok()
        .map(|text| text.trim().to_owned()))
}

/// The namespace of Secrets that do not state one.
pub(super) fn default_namespace(arguments: &ClusterArguments) -> Result<String, Error> {
    Ok(explicit_namespace(arguments)?.unwrap_or_else(|| "default".to_owned()))
}

/// The kubeconfig, or one made from `--server`, or none.
fn kubeconfig(arguments: &ClusterArguments) -> Result<Option<Kubeconfig>, Error> {
    let unusable = |error: &dyn std::fmt::Display| Error::Kubeconfig(error.to_string());
    let found = if let Some(path) = &arguments.kubeconfig {
        Some(Kubeconfig::read_from(path).map_err(|error| unusable(&error))?)
    } else if let Some(kubeconfig) = Kubeconfig::from_env().map_err(|error| unusable(&error))? {
        Some(kubeconfig)
    } else {
        let path = std::env::home_dir()
            .map(|home| home.join(".kube").join("config"))
            .filter(|path| path.exists());
        path.map(Kubeconfig::read_from)
            .transpose()
            .map_err(|error| unusable(&error))?
    };
    Ok(match found {
        Some(kubeconfig) => Some(kubeconfig),
        None => arguments.server.as_ref().map(|_| Kubeconfig::default()),
    })
}

/// The flags written into the selected cluster and user.
fn overridden(mut kubeconfig: Kubeconfig, arguments: &ClusterArguments) -> Kubeconfig {
    if kubeconfig.contexts.is_empty() {
        const NAME: &str = "kubeseal";
        kubeconfig.clusters.push(NamedCluster {
            name: NAME.to_owned(),
            ..Default::default()
        });
        kubeconfig.auth_infos.push(NamedAuthInfo {
            name: NAME.to_owned(),
            ..Default::default()
        });
        kubeconfig.contexts.push(NamedContext {
            name: NAME.to_owned(),
            context: Some(Context {
                cluster: NAME.to_owned(),
                user: Some(NAME.to_owned()),
                ..Default::default()
            }),
            ..Default::default()
        });
        kubeconfig.current_context = Some(NAME.to_owned());
    }
    for named in &mut kubeconfig.clusters {
        override_cluster(named.cluster.get_or_insert_default(), arguments);
    }
    for named in &mut kubeconfig.auth_infos {
        override_user(named.auth_info.get_or_insert_default(), arguments);
    }
    kubeconfig
}

/// Only the selected cluster is used afterwards, so that all may carry the flags.
fn override_cluster(cluster: &mut Cluster, arguments: &ClusterArguments) {
    set(&mut cluster.server, arguments.server.as_ref());
    set(
        &mut cluster.insecure_skip_tls_verify,
        arguments.insecure_skip_tls_verify.as_ref(),
    );
    set(&mut cluster.tls_server_name, arguments.tls_server_name.as_ref());
    set(&mut cluster.proxy_url, arguments.proxy_url.as_ref());
    set(
        &mut cluster.disable_compression,
        arguments.disable_compression.as_ref(),
    );
    if let Some(path) = &arguments.certificate_authority {
        cluster.certificate_authority = Some(text(path));
        cluster.certificate_authority_data = None;
    }
}

fn override_user(user: &mut AuthInfo, arguments: &ClusterArguments) {
    set(&mut user.username, arguments.username.as_ref());
    set(&mut user.impersonate, arguments.impersonate.as_ref());
    set(&mut user.impersonate_uid, arguments.impersonate_uid.as_ref());
    if !arguments.impersonate_groups.is_empty() {
        user.impersonate_groups = Some(arguments.impersonate_groups.clone());
    }
    if let Some(password) = &arguments.password {
        user.password = Some(password.clone().into());
    }
    if let Some(token) = &arguments.token {
        user.token = Some(token.clone().into());
        user.token_file = None;
    }
    if let Some(path) = &arguments.client_certificate {
        user.client_certificate = Some(text(path));
        user.client_certificate_data = None;
    }
    if let Some(path) = &arguments.client_key {
        user.client_key = Some(text(path));
        user.client_key_data = None;
    }
}

fn set<T: Clone>(field: &mut Option<T>, flag: Option<&T>) {
    if let Some(value) = flag {
        *field = Some(value.clone());
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
