//! What is asked of the controller, through the API server's service proxy.

use http::{Method, Request};
use k8s_openapi::api::core::v1::Service;
use kube::{Api, Client, Config};
use serde_json::Value;

use super::output::{Format, Object, Rest};
use super::{Arguments, Error, cluster};
use crate::documents;

/// `--fetch-cert` and everything that seals without `--cert`.
pub(super) async fn fetch_certificate(arguments: &Arguments) -> Result<Vec<u8>, Error> {
    let client = cluster::client(&arguments.cluster).await?;
    let path = proxy_path(&client, arguments).await?;
    let text = call(&client, Method::GET, &format!("{path}/v1/cert.pem"), Vec::new())
        .await
        .map_err(|error| Error::Fetch(message(&error)))?;
    Ok(text.into_bytes())
}

/// `--cert`: a file, `file://`, or a URL that is fetched through the proxy that the environment names.
pub(super) async fn open_certificate(location: &str) -> Result<Vec<u8>, Error> {
    let scheme = location
        .split_once("://")
        .map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") => download(location).await,
        Some("file") => read_file(location.split_at_checked(7).map_or("", |(_, path)| path)),
        // A scheme of one letter is a drive.
        _ => read_file(location),
    }
}

fn read_file(path: &str) -> Result<Vec<u8>, Error> {
    let path = std::path::Path::new(path);
    std::fs::read(path).map_err(Error::open(path))
}

async fn download(location: &str) -> Result<Vec<u8>, Error> {
    let failed = |error: &dyn std::fmt::Display| Error::Input(format!("cannot fetch {location:?}: {error}"));
    let uri: http::Uri = location.parse().map_err(|error| failed(&error))?;
    let mut base = http::uri::Parts::default();
    base.scheme = uri.scheme().cloned();
    base.authority = uri.authority().cloned();
    base.path_and_query = Some(http::uri::PathAndQuery::from_static("/"));
    let mut config = Config::new(http::Uri::from_parts(base).map_err(|error| failed(&error))?);
    config.connect_timeout = Some(std::time::Duration::from_secs(30));
    config.read_timeout = Some(std::time::Duration::from_secs(30));
    config.default_retry = false;
    config.proxy_url = proxy(uri.scheme_str(), uri.host());
    let client = Client::try_from(config).map_err(|error| failed(&error))?;
    let path = uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    match call(&client, Method::GET, path, Vec::new()).await {
        Ok(text) => Ok(text.into_bytes()),
        Err(kube::Error::Api(status)) => {
            let code = http::StatusCode::from_u16(status.code).unwrap_or_default();
            Err(failed(&code))
        }
        Err(error) => Err(failed(&error)),
    }
}

/// The proxy for `scheme`, unless `NO_PROXY` excepts `host`.
fn proxy(scheme: Option<&str>, host: Option<&str>) -> Option<http::Uri> {
    let variable = |upper: &str| {
        std::env::var(upper)
            .or_else(|_| std::env::var(upper.to_lowercase()))
            .ok()
    };
    let host = host.unwrap_or_default();
    let excepted = variable("NO_PROXY")
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .any(|entry| {
            let suffix = entry.trim_start_matches('.');
            entry == "*" || (!suffix.is_empty() && (host == suffix || host.ends_with(&format!(".{suffix}"))))
        });
    let loopback = host == "localhost" || host.starts_with("127.") || host == "[::1]";
    if excepted || loopback {
        return None;
    }
    variable(if scheme == Some("https") {
        "HTTPS_PROXY"
    } else {
        "HTTP_PROXY"
    })?
    .parse()
    .ok()
}

/// `--validate`: every document is asked about, whatever becomes of the others.
pub(super) async fn validate(arguments: &Arguments, input: &[u8]) -> Result<(), Error> {
    let documents = documents::parse(input)?;
    let client = cluster::client(&arguments.cluster).await?;
    let path = proxy_path(&client, arguments).await?;
    let mut errors = Vec::new();
    for document in documents {
        let name = document
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        match call(
            &client,
            Method::POST,
            &format!("{path}/v1/verify"),
            body(&document)?,
        )
        .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(status)) if status.code == 409 => errors.push(Error::Undecryptable(name)),
            Err(error) => errors.push(Error::Validate(message(&error))),
        }
    }
    match errors.len() {
        0 => Ok(()),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several(errors)),
    }
}

/// `--re-encrypt`: every document sealed anew, or none.
pub(super) async fn re_encrypt(arguments: &Arguments, input: &[u8], format: Format) -> Result<String, Error> {
    let documents = documents::parse(input)?;
    let client = cluster::client(&arguments.cluster).await?;
    let path = proxy_path(&client, arguments).await?;
    let mut text = String::new();
    for document in documents {
        let answer = match call(
            &client,
            Method::POST,
            &format!("{path}/v1/rotate"),
            body(&document)?,
        )
        .await
        {
            Ok(answer) => answer,
            Err(kube::Error::Api(status)) if status.code == 409 => {
                return Err(Error::Usage("unable to rotate secret"));
            }
            Err(error) => return Err(Error::Reencrypt(message(&error))),
        };
        let sealed: Value =
            serde_json::from_str(&answer).map_err(|error| Error::Reencrypt(error.to_string()))?;
        text += &format.render(&Object {
            kind: "SealedSecret",
            api_version: "bitnami.com/v1alpha1",
            metadata: sealed.get("metadata").unwrap_or(&Value::Null),
            rest: Rest::Sealed {
                spec: sealed.get("spec").unwrap_or(&Value::Null),
            },
        })?;
    }
    Ok(text)
}

fn body(document: &Value) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(document).map_err(|error| Error::Input(error.to_string()))
}

/// The path under which the API server passes requests on to the controller's Service.
async fn proxy_path(client: &Client, arguments: &Arguments) -> Result<String, Error> {
    let (namespace, name) = (&arguments.controller_namespace, &arguments.controller_name);
    let service = Api::<Service>::namespaced(client.clone(), namespace)
        .get(name)
        .await
        .map_err(|error| Error::Service(message(&error)))?;
    let port = service
        .spec
        .and_then(|spec| spec.ports)
        .and_then(|ports| ports.into_iter().next())
        .and_then(|port| port.name)
        .unwrap_or_default();
    Ok(format!(
        "/api/v1/namespaces/{namespace}/services/http:{name}:{port}/proxy"
    ))
}

/// The API server's own words, as kubectl prints them.
pub(super) fn message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => {
            format!("the controller answered {}", status.code)
        }
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

async fn call(client: &Client, method: Method, path: &str, body: Vec<u8>) -> Result<String, kube::Error> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::ACCEPT, "application/x-pem-file, */*")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(kube::Error::HttpError)?;
    client.request_text(request).await
}
