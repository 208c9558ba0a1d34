//! The API server's audit log: the honest measure of what a client asked for.

use std::{
    collections::{BTreeMap, HashSet},
    fs::File,
    io::{BufRead as _, BufReader, Seek as _, SeekFrom},
    path::PathBuf,
};

use anyhow::Context as _;
use serde::Deserialize;

/// The log of one API server, from some point on.
#[derive(Clone, Debug)]
pub struct AuditLog {
    path: PathBuf,
    from: u64,
}

/// One request, without bodies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// API group; empty for the core group and for requests that are not for a resource.
    pub group: String,
    /// Plural kind and subresource: `kustomizations/status`. The path, for requests that are not for a resource.
    pub resource: String,
    /// Empty for cluster-scoped objects.
    pub namespace: String,
    /// Empty for collections.
    pub name: String,
    /// As the client sent it.
    pub user_agent: String,
    /// User that the request was authorised as; the impersonated one, if any.
    pub user: String,
    /// HTTP status; 0 if it was never answered.
    pub code: u16,
    /// When it was received, RFC 3339 in microseconds.
    pub received: String,
}

/// Requests in the order in which they were answered.
#[derive(Clone, Debug, Default)]
pub struct Requests(pub Vec<Request>);

impl AuditLog {
    /// The log at `path`, from its beginning.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let path = path.into();
        Self { path, from: 0 }
    }

    /// The same log without what is in it by now.
    pub fn since_now(&self) -> anyhow::Result<Self> {
        let from = std::fs::metadata(&self.path)
            .with_context(|| format!("cannot read {}", self.path.display()))?
            .len();
        let path = self.path.clone();
        Ok(Self { path, from })
    }

    /// The requests of clients whose user agent begins with `user_agent` (empty: of all clients). A request is
    /// logged a moment after its answer: to count exactly, wait until the count is what it should be, or stays.
    pub fn requests(&self, user_agent: &str) -> anyhow::Result<Requests> {
        let failed = || format!("cannot read {}", self.path.display());
        let mut file = File::open(&self.path).with_context(failed)?;
        let mut seen = HashSet::new();
        let mut requests = vec![];
        // The log may have been cut off in the middle of a line that was just being written: it is of before.
        file.seek(SeekFrom::Start(self.from.saturating_sub(1)))
            .with_context(failed)?;
        let (mut reader, mut line) = (BufReader::new(file), String::new());
        if self.from > 0 {
            reader.skip_until(b'\n').with_context(failed)?;
        }
        while reader.read_line(&mut line).with_context(failed)? > 0 {
            // A line without its end is still being written.
            if line.ends_with('\n') {
                let event: Event = serde_json::from_str(&line)
                    .with_context(|| format!("{} has a line that is no audit event", self.path.display()))?;
                // A watch has two events, one when it starts and one when it ends.
                if event.user_agent.starts_with(user_agent) && seen.insert(event.audit_id.clone()) {
                    requests.push(event.into());
                }
            }
            line.clear();
        }
        Ok(Requests(requests))
    }
}

impl Requests {
    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Without watches and leases, which an idle controller needs too.
    #[must_use]
    pub fn without_watches_and_leases(mut self) -> Self {
        self.0
            .retain(|request| request.verb != "watch" && request.resource != "leases");
        self
    }

    /// Only those for objects of `namespace`.
    #[must_use]
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.0.retain(|request| request.namespace == namespace);
        self
    }

    /// How many of each verb and resource.
    pub fn by_verb_and_resource(&self) -> BTreeMap<(String, String), usize> {
        let mut counts = BTreeMap::new();
        for request in &self.0 {
            *counts
                .entry((request.verb.clone(), request.resource.clone()))
                .or_default() += 1;
        }
        counts
    }
}

/// `audit.k8s.io/v1` Event, as far as it is used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    #[serde(rename = "auditID")]
    audit_id: String,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    #[serde(default)]
    user_agent: String,
    user: User,
    impersonated_user: Option<User>,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    #[serde(default)]
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ObjectRef {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

impl From<Event> for Request {
    fn from(event: Event) -> Self {
        let path = event.request_uri.split('?').next().unwrap_or_default();
        let object = event.object_ref.unwrap_or_else(|| ObjectRef {
            resource: path.to_owned(),
            ..ObjectRef::default()
        });
        let resource = if object.subresource.is_empty() {
            object.resource
        } else {
            format!("{}/{}", object.resource, object.subresource)
        };
        Self {
            verb: event.verb,
            group: object.api_group,
            resource,
            namespace: object.namespace,
            name: object.name,
            user_agent: event.user_agent,
            user: event.impersonated_user.unwrap_or(event.user).username,
            code: event.response_status.map_or(0, |status| status.code),
            received: event.request_received_timestamp,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_log_cut_off_in_the_middle_of_a_line_goes_on_at_the_next() {
        let line = |id: &str| {
            format!(
                r#"{{"auditID":"{id}","stage":"ResponseComplete","requestURI":"/api","verb":"get","user":{{}},"userAgent":"me","requestReceivedTimestamp":"t"}}"#
            )
        };
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (first, second) = (line("1"), line("2"));
        write!(file, "{}", &first[..20]).unwrap();
        let log = AuditLog::new(file.path()).since_now().unwrap();
        writeln!(file, "{}", &first[20..]).unwrap();
        let whole = AuditLog::new(file.path()).since_now().unwrap();
        writeln!(file, "{second}").unwrap();
        assert_eq!(log.requests("me").unwrap().count(), 1);
        assert_eq!(whole.requests("me").unwrap().count(), 1);
        assert_eq!(AuditLog::new(file.path()).requests("me").unwrap().count(), 2);
    }
}
