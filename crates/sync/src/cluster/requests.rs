//! The requests that change or read one object. Answers are metadata only, but for the objects whose health is asked for:
//! bodies are never kept.

use std::time::Duration;

use http::{HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Status};
use kube::{
    Client,
    api::{
        DeleteParams, DynamicObject, GetParams, Patch, PatchParams, Preconditions, PropagationPolicy,
        Request, Resource as _,
    },
    client::Body,
};
use serde::Deserialize;
use serde_json::Value;

use super::{fields::MANAGER, kinds::Kind};
use crate::object::ObjectId;

/// Asks the API server for metadata instead of the object.
pub(crate) const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
/// Bound on one request; the client's own retries of 429, 503 and 504 fall under it.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Bound on reading one object that a look cannot go on without: a Secret, variables, a part of an inventory.
const READ: Duration = Duration::from_secs(10);

/// Why such an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The API server answers with an error.
    #[error("{0}")]
    Refused(#[from] kube::Error),
    /// It does not answer.
    #[error("the API server did not answer within {} s", READ.as_secs())]
    Timeout,
}

/// Waits no longer for it than is good for the others that the same worker has to look at.
pub async fn bounded<T>(read: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ReadError> {
    let read = tokio::time::timeout(READ, read).await;
    Ok(read.map_err(|_| ReadError::Timeout)??)
}

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The API server understood and refuses: the object, or who we are, has to change.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// The server's words.
        message: String,
    },
    /// The namespace does not exist (yet).
    #[error("{0}")]
    NamespaceMissing(String),
    /// The object does not exist, by the API server's own word.
    #[error("{0}")]
    NotFound(String),
    /// Nobody answers for the kind at this path. That says nothing about the object.
    #[error("{0}")]
    NotServed(String),
    /// Someone changed the object in between.
    #[error("{0}")]
    Conflict(String),
    /// The API server has failed over this very object: an admission webhook that does not answer, as a rule.
    #[error("{0}")]
    Broken(String),
    /// The API server could not answer: worth trying again soon.
    #[error("{0}")]
    Unavailable(String),
}

impl RequestError {
    /// As it may be told of this object.
    fn about(self, id: &ObjectId) -> Self {
        if id.kind == "Secret" && id.group.is_empty() {
            self.without_values()
        } else {
            self
        }
    }

    /// The API server quotes what it refuses. Of a Secret that must not reach a condition, an event or a log.
    fn without_values(self) -> Self {
        self.reworded(without_values)
    }

    /// The same in other words.
    pub(crate) fn reworded(self, words: impl FnOnce(&str) -> String) -> Self {
        match self {
            Self::Refused { code, message } => Self::Refused {
                code,
                message: words(&message),
            },
            Self::NamespaceMissing(message) => Self::NamespaceMissing(words(&message)),
            Self::NotFound(message) => Self::NotFound(words(&message)),
            Self::NotServed(message) => Self::NotServed(words(&message)),
            Self::Conflict(message) => Self::Conflict(words(&message)),
            Self::Broken(message) => Self::Broken(words(&message)),
            Self::Unavailable(message) => Self::Unavailable(words(&message)),
        }
    }
}

fn without_values(message: &str) -> String {
    const QUOTED: [&str; 4] = [
        "Invalid value: ",
        ", got ",
        "unable to parse ",
        "illegal base64 data",
    ];
    let cut = QUOTED
        .iter()
        .filter_map(|mark| message.find(mark).map(|at| at + mark.len()))
        .min();
    // That it is about an immutable field is no secret, and matters.
    let immutable = if message.contains("immutable") {
        ": a field is immutable"
    } else {
        ""
    };
    match cut.and_then(|at| message.get(..at)) {
        Some(kept) => format!("{kept}[the rest may quote the Secret and is left out{immutable}]"),
        None => message.to_owned(),
    }
}

/// What a write answered.
#[derive(Debug)]
pub struct Written {
    /// The object's metadata after it.
    pub metadata: ObjectMeta,
    /// Whether it was made by this very write.
    pub created: bool,
}

/// Server-side apply of `body`; conflicts are taken over, unknown fields are refused.
pub async fn apply(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    body: &Value,
) -> Result<Written, RequestError> {
    let applied = patch(client, kind, id, &applying(), &Patch::Apply(body)).await;
    applied.map_err(|error| error.about(id))
}

/// What a server-side apply of `body` would make of the object: the API server admits and validates it and stores
/// nothing.
pub async fn dry_run(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    body: &Value,
) -> Result<Value, RequestError> {
    let (_, object) = apply_whole(client, kind, id, &applying().dry_run(), body).await?;
    Ok(object)
}

/// Whether [`apply`] would be taken, by the API server's own word; nothing is changed.
pub async fn rehearse(client: &Client, kind: &Kind, id: &ObjectId, body: &Value) -> Result<(), RequestError> {
    let rehearsed = patch(client, kind, id, &applying().dry_run(), &Patch::Apply(body)).await;
    rehearsed.map(drop).map_err(|error| error.about(id))
}

/// JSON merge patch, as field manager `manager`.
pub async fn merge(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    manager: &str,
    body: &Value,
) -> Result<Written, RequestError> {
    let params = PatchParams {
        field_manager: Some(manager.to_owned()),
        ..PatchParams::default()
    };
    patch(client, kind, id, &params, &Patch::Merge(body)).await
}

/// As [`apply`], with the whole object as it is then: for one whose health is asked for.
pub async fn apply_and_read(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    body: &Value,
) -> Result<(Written, Value), RequestError> {
    let (status, object) = apply_whole(client, kind, id, &applying(), body).await?;
    let metadata = ObjectMeta::deserialize(&object["metadata"]).map_err(|error| unreadable(&error))?;
    let created = status == StatusCode::CREATED;
    Ok((Written { metadata, created }, object))
}

/// Conflicts are taken over, unknown fields are refused.
fn applying() -> PatchParams {
    PatchParams::apply(MANAGER).force().validation_strict()
}

/// A server-side apply that answers with the whole object.
async fn apply_whole(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    params: &PatchParams,
    body: &Value,
) -> Result<(StatusCode, Value), RequestError> {
    let request = address(kind, id)
        .patch(&id.name, params, &Patch::Apply(body))
        .map_err(|error| refused(&error))?;
    let sent = send(client, request).await;
    let (status, body) = sent.map_err(|error| error.about(id))?;
    Ok((status, parse(&body)?))
}

async fn patch(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    params: &PatchParams,
    patch: &Patch<&Value>,
) -> Result<Written, RequestError> {
    let request = address(kind, id)
        .patch(&id.name, params, patch)
        .map_err(|error| refused(&error))?;
    let (status, metadata) = metadata(client, request).await?;
    Ok(Written {
        metadata,
        created: status == StatusCode::CREATED,
    })
}

/// Metadata of an object; `None` when it does not exist.
pub async fn read(client: &Client, kind: &Kind, id: &ObjectId) -> Result<Option<ObjectMeta>, RequestError> {
    let request = address(kind, id)
        .get(&id.name, &GetParams::default())
        .map_err(|error| refused(&error))?;
    match metadata(client, request).await {
        Ok((_, metadata)) => Ok(Some(metadata)),
        Err(RequestError::NotFound(_) | RequestError::NamespaceMissing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A whole object; `None` when it does not exist.
pub async fn read_object(client: &Client, kind: &Kind, id: &ObjectId) -> Result<Option<Value>, RequestError> {
    let request = address(kind, id)
        .get(&id.name, &GetParams::default())
        .map_err(|error| refused(&error))?;
    match send(client, request).await {
        Ok((_, body)) => parse(&body).map(Some),
        Err(RequestError::NotFound(_) | RequestError::NamespaceMissing(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Deletes exactly the object that was read as `metadata`, its dependents in the background.
/// An object that is gone already, or was replaced by another, counts as deleted.
pub async fn delete(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    metadata: &ObjectMeta,
) -> Result<(), RequestError> {
    remove(client, kind, id, metadata, DeleteParams::default()).await
}

/// Whether [`delete`] would be admitted. Nothing is deleted.
pub async fn dry_delete(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    metadata: &ObjectMeta,
) -> Result<(), RequestError> {
    let params = DeleteParams {
        dry_run: true,
        ..DeleteParams::default()
    };
    remove(client, kind, id, metadata, params).await
}

async fn remove(
    client: &Client,
    kind: &Kind,
    id: &ObjectId,
    metadata: &ObjectMeta,
    params: DeleteParams,
) -> Result<(), RequestError> {
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Background),
        preconditions: Some(Preconditions {
            uid: metadata.uid.clone(),
            resource_version: metadata.resource_version.clone(),
        }),
        ..params
    };
    let request = address(kind, id)
        .delete(&id.name, &params)
        .map_err(|error| refused(&error))?;
    match send(client, request).await {
        Ok(_) | Err(RequestError::NotFound(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn address(kind: &Kind, id: &ObjectId) -> Request {
    let namespace = kind.namespaced.then_some(id.namespace.as_str());
    Request::new(DynamicObject::url_path(&kind.resource, namespace))
}

fn refused(error: &kube::core::request::Error) -> RequestError {
    RequestError::Refused {
        code: 0,
        message: error.to_string(),
    }
}

async fn metadata(
    client: &Client,
    mut request: http::Request<Vec<u8>>,
) -> Result<(StatusCode, ObjectMeta), RequestError> {
    #[derive(Deserialize)]
    struct Partial {
        metadata: ObjectMeta,
    }
    request
        .headers_mut()
        .insert(header::ACCEPT, HeaderValue::from_static(METADATA));
    let (status, body) = send(client, request).await?;
    let partial: Partial = parse(&body)?;
    Ok((status, partial.metadata))
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, RequestError> {
    serde_json::from_slice(body).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> RequestError {
    RequestError::Unavailable(format!("the API server's answer is not understood: {error}"))
}

async fn send(
    client: &Client,
    request: http::Request<Vec<u8>>,
) -> Result<(StatusCode, bytes::Bytes), RequestError> {
    let exchange = async {
        let response = client
            .send(request.map(Body::from))
            .await
            .map_err(|error| unavailable(&error))?;
        let status = response.status();
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(|error| unavailable(&error))?
            .to_bytes();
        Ok::<_, RequestError>((status, body))
    };
    let (status, body) = tokio::time::timeout(TIMEOUT, exchange).await.map_err(|_| {
        RequestError::Unavailable(format!(
            "the API server did not answer within {} s",
            TIMEOUT.as_secs()
        ))
    })??;
    if status.is_success() {
        Ok((status, body))
    } else {
        Err(failure(status, &body))
    }
}

fn unavailable(error: &dyn std::error::Error) -> RequestError {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        source = cause.source();
    }
    RequestError::Unavailable(format!("the API server cannot be reached: {message}"))
}

fn failure(status: StatusCode, body: &[u8]) -> RequestError {
    let answer: Option<Status> = serde_json::from_slice(body).ok();
    let about_namespace = answer
        .as_ref()
        .and_then(|answer| answer.details.as_ref())
        .is_some_and(|details| details.kind.as_deref() == Some("namespaces"));
    // Of an object that does not exist its name is said. Any other 404 comes from somewhere else: a kind that is no longer
    // served, a proxy.
    let about_an_object = answer
        .as_ref()
        .and_then(|answer| answer.details.as_ref())
        .is_some_and(|details| details.name.as_deref().is_some_and(|name| !name.is_empty()));
    let message = answer
        .and_then(|answer| answer.message)
        .filter(|message| !message.is_empty())
        .unwrap_or_else(|| format!("the API server answered {status}"));
    match status.as_u16() {
        404 if about_namespace => RequestError::NamespaceMissing(message),
        404 if about_an_object => RequestError::NotFound(message),
        404 => RequestError::NotServed(message),
        409 => RequestError::Conflict(message),
        500 => RequestError::Broken(message),
        429 | 501..=599 | 401 => RequestError::Unavailable(message),
        code => RequestError::Refused { code, message },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_quoted_of_a_secret_is_left_out() {
        let message = r#"Secret "a" is invalid: type: Invalid value: "hunter2": field is immutable"#;
        let RequestError::Refused { message, .. } = (RequestError::Refused {
            code: 422,
            message: message.into(),
        })
        .without_values() else {
            panic!("the class changed");
        };
        assert!(
            message.starts_with(r#"Secret "a" is invalid: type: Invalid value: ["#)
                && !message.contains("hunter2")
        );
        assert_eq!(without_values("secrets is forbidden"), "secrets is forbidden");
    }

    #[test]
    fn only_the_api_server_itself_says_that_an_object_does_not_exist() {
        let of = |body: &str| failure(StatusCode::NOT_FOUND, body.as_bytes());
        let named = r#"{"kind":"Status","message":"no","reason":"NotFound","details":{"name":"a","kind":"configmaps"}}"#;
        assert!(matches!(of(named), RequestError::NotFound(_)));
        let namespace = named.replace("configmaps", "namespaces");
        assert!(matches!(of(&namespace), RequestError::NamespaceMissing(_)));
        for other in [
            "404 page not found\n",
            "<html>not here</html>",
            r#"{"kind":"Status","message":"the server could not find the requested resource","reason":"NotFound","details":{}}"#,
        ] {
            assert!(matches!(of(other), RequestError::NotServed(_)), "{other}");
        }
    }
}
