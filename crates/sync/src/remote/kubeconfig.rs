//! Pure: what is taken of a kubeconfig that a Secret holds. Whoever may write the Secret may not start programs here, read
//! files of this process, or reach what only this process reaches. Fields are read by name and all others left out, so that
//! what is not known cannot do anything.

use std::net::IpAddr;

use http::{HeaderValue, Uri};
use kube::config::{AuthInfo, Cluster, Context, Kubeconfig, NamedAuthInfo, NamedCluster, NamedContext};
use serde_json::{Map, Value};

use crate::{
    git::{HostPattern, admit_address},
    manifest::yaml,
};

/// A Secret has room for 1 MiB; a kubeconfig of one cluster needs some kilobytes.
const MAX: usize = 512 << 10;

/// What kubeconfigs may do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KubeconfigPolicy {
    /// Hosts that clusters and proxies may be on; all if empty.
    pub hosts: Vec<HostPattern>,
    /// Whether the certificate of a cluster need not be verified.
    pub unverified: Unverified,
}

/// Whether `insecure-skip-tls-verify` counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unverified {
    /// The default: whoever answers could read the credentials.
    #[default]
    Refused,
    /// As `--insecure-kubeconfig-tls` says.
    Allowed,
}

/// Why a kubeconfig is not used. The messages name the field, and repeat no value of it but hosts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is no kubeconfig that anybody could use.
    #[error("{0}")]
    Invalid(String),
    /// It would do what a Secret may not.
    #[error("{0}")]
    Denied(String),
}

impl Refusal {
    /// Reason of the condition.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Invalid(_) => "ReconciliationFailed",
            Self::Denied(_) => "AccessDenied",
        }
    }
}

/// What a kubeconfig gives access to.
#[derive(Clone)]
pub struct Access {
    /// The URL of the API server.
    pub server: Uri,
    /// An HTTP proxy in between.
    pub proxy: Option<Uri>,
    /// The namespace of its context, if it names one.
    pub namespace: Option<String>,
    /// What was taken of it: one context.
    pub kubeconfig: Kubeconfig,
}

/// Reads a kubeconfig.
pub fn read(bytes: &[u8], policy: &KubeconfigPolicy) -> Result<Access, Refusal> {
    let invalid = |message: String| Err(Refusal::Invalid(message));
    if bytes.len() > MAX {
        return invalid(format!("it has more than {} KiB", MAX >> 10));
    }
    let Ok(text) = str::from_utf8(bytes) else {
        return invalid("it is not text (UTF-8)".into());
    };
    let mut documents = yaml::documents(text);
    let (Some(document), true) = (documents.pop(), documents.is_empty()) else {
        return invalid("it has to be one YAML document".into());
    };
    let root = match document.content {
        Ok(root) => root,
        // What the parser says may quote what it reads.
        Err(error) => {
            return invalid(format!(
                "it is not YAML: line {}, column {}",
                error.line, error.column
            ));
        }
    };
    let root = Fields::of(&root, String::new())?;
    let name = root.text("current-context")?;
    let Some(name) = name else {
        return invalid("current-context: names no context, so nobody knows which cluster is meant".into());
    };
    let context = root.named("contexts", &name, "context")?;
    let cluster_name = context.needed("cluster")?;
    let user_name = context.needed("user")?;
    let namespace = context.text("namespace")?;
    let (cluster, server, proxy) = cluster(&root.named("clusters", &cluster_name, "cluster")?, policy)?;
    let auth_info = user(&root.named("users", &user_name, "user")?)?;
    Ok(Access {
        server,
        proxy,
        kubeconfig: Kubeconfig {
            current_context: Some(name.clone()),
            contexts: vec![NamedContext {
                name,
                context: Some(Context {
                    cluster: cluster_name.clone(),
                    user: Some(user_name.clone()),
                    namespace: namespace.clone(),
                    ..Context::default()
                }),
                ..NamedContext::default()
            }],
            clusters: vec![NamedCluster {
                name: cluster_name,
                cluster: Some(cluster),
                ..NamedCluster::default()
            }],
            auth_infos: vec![NamedAuthInfo {
                name: user_name,
                auth_info: Some(auth_info),
                ..NamedAuthInfo::default()
            }],
            ..Kubeconfig::default()
        },
        namespace,
    })
}

fn cluster(fields: &Fields<'_>, policy: &KubeconfigPolicy) -> Result<(Cluster, Uri, Option<Uri>), Refusal> {
    fields.no_file("certificate-authority")?;
    let text = fields.needed("server")?;
    let server = admit(&fields.at("server"), &text, &["https"], policy)?;
    let skip = fields.flag("insecure-skip-tls-verify")?;
    if skip && policy.unverified == Unverified::Refused {
        return Err(Refusal::Denied(format!(
            "{}: whoever answers at {text} could read the credentials: give its certificate-authority-data instead \
             (--insecure-kubeconfig-tls allows it)",
            fields.at("insecure-skip-tls-verify")
        )));
    }
    let proxy = fields.text("proxy-url")?;
    let proxy = proxy
        .map(|text| admit(&fields.at("proxy-url"), &text, &["http"], policy))
        .transpose()?;
    let cluster = Cluster {
        server: Some(text),
        insecure_skip_tls_verify: Some(skip),
        certificate_authority_data: fields.text("certificate-authority-data")?,
        tls_server_name: fields.text("tls-server-name")?,
        proxy_url: proxy.as_ref().map(ToString::to_string),
        ..Cluster::default()
    };
    Ok((cluster, server, proxy))
}

fn user(fields: &Fields<'_>) -> Result<AuthInfo, Refusal> {
    for file in ["client-certificate", "client-key", "tokenFile"] {
        fields.no_file(file)?;
    }
    for (plugin, what) in [
        ("exec", "programs that a Secret names are not run here"),
        (
            "auth-provider",
            "plug-ins that a Secret names are not run here, and Kubernetes has none of them any more",
        ),
    ] {
        if fields.has(plugin) {
            return Err(Refusal::Denied(format!(
                "{}: {what}: put a token, or client-certificate-data and client-key-data, of an account of that cluster there",
                fields.at(plugin)
            )));
        }
    }
    let impersonate = fields.text("as")?;
    for more in ["as-uid", "as-groups", "as-user-extra"] {
        if fields.has(more) && impersonate.is_none() {
            return Err(Refusal::Invalid(format!(
                "{}: says nothing without {}: name the user to act as, or leave it out",
                fields.at(more),
                fields.at("as")
            )));
        }
    }
    let extra = fields.get("as-user-extra").map(|value| {
        serde_json::from_value(value.clone()).map_err(|_| {
            Refusal::Invalid(format!(
                "{}: has to map names to lists of text",
                fields.at("as-user-extra")
            ))
        })
    });
    let groups = fields.get("as-groups").map(|value| {
        serde_json::from_value(value.clone())
            .map_err(|_| Refusal::Invalid(format!("{}: has to be a list of text", fields.at("as-groups"))))
    });
    let token = fields.text("token")?;
    // The client takes for granted that it fits, and panics.
    if token
        .as_deref()
        .is_some_and(|token| HeaderValue::from_str(token).is_err())
    {
        return Err(Refusal::Invalid(format!(
            "{}: it has characters that no HTTP header may have; a newline at its end, perhaps",
            fields.at("token")
        )));
    }
    Ok(AuthInfo {
        username: fields.text("username")?,
        password: fields.text("password")?.map(Into::into),
        token: token.map(Into::into),
        client_certificate_data: fields.text("client-certificate-data")?,
        client_key_data: fields.text("client-key-data")?.map(Into::into),
        impersonate,
        impersonate_uid: fields.text("as-uid")?,
        impersonate_groups: groups.transpose()?,
        impersonate_user_extra: extra.transpose()?,
        ..AuthInfo::default()
    })
}

/// Whether a URL may be connected to.
fn admit(field: &str, text: &str, schemes: &[&str], policy: &KubeconfigPolicy) -> Result<Uri, Refusal> {
    let invalid = |why: &str| Refusal::Invalid(format!("{field}: {why}"));
    let denied = |why: String| Refusal::Denied(format!("{field}: {why}"));
    let url: Uri = text.parse().map_err(|_| invalid("it is not a URL"))?;
    let scheme = url.scheme_str().unwrap_or_default();
    if !schemes.contains(&scheme) {
        return Err(denied(format!(
            "{scheme:?} is not among the schemes that are allowed: write {}://",
            schemes.join(":// or ")
        )));
    }
    let host = url.host().filter(|host| !host.is_empty());
    let host = host.ok_or_else(|| invalid("it has no host"))?;
    if scheme == "https"
        && url
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
    {
        return Err(invalid("it has a user name: credentials belong to users"));
    }
    let port = url.port_u16().unwrap_or(if scheme == "https" { 443 } else { 80 });
    if !policy.hosts.is_empty() && !policy.hosts.iter().any(|pattern| pattern.matches(host, port)) {
        return Err(denied(format!(
            "the host '{host}' is not among those that are allowed here (--allowed-cluster-hosts)"
        )));
    }
    if let Ok(address) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
        admit_address(address).map_err(denied)?;
    }
    Ok(url)
}

/// The fields of a mapping, and where it stands.
struct Fields<'v> {
    map: &'v Map<String, Value>,
    path: String,
}

impl<'v> Fields<'v> {
    fn of(value: &'v Value, path: String) -> Result<Self, Refusal> {
        let what = if path.is_empty() { "it" } else { path.as_str() };
        let map = value
            .as_object()
            .ok_or_else(|| Refusal::Invalid(format!("{what} has to be a mapping")))?;
        Ok(Self { map, path })
    }

    /// How messages name a field.
    fn at(&self, field: &str) -> String {
        if self.path.is_empty() {
            field.to_owned()
        } else {
            format!("{}.{field}", self.path)
        }
    }

    fn get(&self, field: &str) -> Option<&'v Value> {
        self.map.get(field).filter(|value| !value.is_null())
    }

    fn has(&self, field: &str) -> bool {
        self.get(field).is_some()
    }

    /// Text; nothing where it is empty, as in Go.
    fn text(&self, field: &str) -> Result<Option<String>, Refusal> {
        match self.get(field) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            // Not which: it may be a password.
            Some(_) => Err(Refusal::Invalid(format!(
                "{}: it is not text: put it in quotes",
                self.at(field)
            ))),
        }
    }

    fn needed(&self, field: &str) -> Result<String, Refusal> {
        self.text(field)?
            .ok_or_else(|| Refusal::Invalid(format!("{}: it is missing", self.at(field))))
    }

    fn flag(&self, field: &str) -> Result<bool, Refusal> {
        match self.get(field) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refusal::Invalid(format!(
                "{}: it is neither true nor false",
                self.at(field)
            ))),
        }
    }

    fn no_file(&self, field: &str) -> Result<(), Refusal> {
        if self.text(field)?.is_none() {
            return Ok(());
        }
        let instead = match field {
            "tokenFile" => "token".to_owned(),
            file => format!("{file}-data"),
        };
        Err(Refusal::Denied(format!(
            "{}: files are not read, because they would be this controller's: put the content into {instead}",
            self.at(field)
        )))
    }

    /// The entry of this name in a list.
    fn named(&self, list: &str, name: &str, content: &str) -> Result<Self, Refusal> {
        let at = format!("{list}[{name:?}]");
        let items = self.get(list).and_then(Value::as_array);
        let found = items.into_iter().flatten().find(|item| item["name"] == name);
        let found = found.ok_or_else(|| Refusal::Invalid(format!("{at}: there is none of this name")))?;
        Self::of(&found[content], format!("{at}.{content}"))
    }
}

#[cfg(test)]
#[path = "kubeconfig_tests.rs"]
mod tests;
