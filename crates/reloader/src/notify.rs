//! Notifications for machines: one JSON document for each thing that was done or could not be done, plain or as a CloudEvent.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::{decide::Change, post::Poster, workload::Workload};

/// `--notification-format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// The document itself.
    #[default]
    Json,
    /// In a CloudEvents 1.0 envelope (structured mode).
    Cloudevents,
}

/// Tells machines. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Notifier {
    /// How it is told.
    pub format: Format,
    /// To whom.
    pub poster: Poster,
}

/// What happened to a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// It was rolled.
    Rolled,
    /// It could not be rolled, which is tried again.
    Failed,
    /// It waits for somebody: it flaps, is halted, or an annotation is wrong.
    Held,
}

impl What {
    const fn word(self) -> &'static str {
        match self {
            Self::Rolled => "rolled",
            Self::Failed => "failed",
            Self::Held => "held",
        }
    }
}

impl Notifier {
    /// Tells one thing.
    pub fn tell(&self, what: What, workload: &Workload, changes: &[Change], message: &str) {
        let (content_type, body) = body(self.format, what, workload, changes, message, Timestamp::now());
        self.poster.post(content_type, body.to_string());
    }
}

/// The content type and the document. Names and kinds only: never what a source holds.
fn body(
    format: Format,
    what: What,
    workload: &Workload,
    changes: &[Change],
    message: &str,
    now: Timestamp,
) -> (&'static str, Value) {
    let key = &workload.key;
    let sources: Vec<_> = changes
        .iter()
        .map(|change| {
            let (namespace, name) = change.source.home(&key.namespace);
            json!({"kind": change.source.kind.kind(), "namespace": namespace, "name": name})
        })
        .collect();
    let time = now.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    let data = json!({
        "event": what.word(),
        "time": time,
        "workload": {
            "apiVersion": key.kind.api_version(), "kind": key.kind.kind(),
            "namespace": key.namespace, "name": key.name, "uid": workload.uid,
        },
        "sources": sources,
        "message": message,
    });
    match format {
        Format::Json => ("application/json", data),
        Format::Cloudevents => (
            "application/cloudevents+json",
            json!({
                "specversion": "1.0",
                "id": format!("{}-{}", workload.uid, now.as_nanosecond()),
                "source": "/plumbline-reloader",
                "type": format!("dev.plumbline.reloader.{}", what.word()),
                "subject": key.to_string(),
                "time": time,
                "datacontenttype": "application/json",
                "data": data,
            }),
        ),
    }
}
