//! Kubernetes Events. They are queued and sent in the background: a slow API server never holds a reconcile.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::{
    api::core::v1::{Event, EventSource, ObjectReference},
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time},
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::sync::mpsc;

/// Events waiting to be sent; more are dropped, because telling must never cost more than doing.
const QUEUE: usize = 1024;
/// An event that comes again within this time counts up instead of making a new one.
const SAME_WITHIN: SignedDuration = SignedDuration::from_mins(10);
/// The API server refuses longer messages.
const MAX_NOTE: usize = 1024;

/// `type` of an Event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Something went as it should.
    Normal,
    /// A human may have to act.
    Warning,
}

/// One thing to tell about an object.
#[derive(Clone, Debug)]
pub struct Note {
    /// The object it is about.
    pub regarding: ObjectReference,
    /// Normal or Warning.
    pub kind: Kind,
    /// One CamelCase word.
    pub reason: String,
    /// What happened, and what to do.
    pub message: String,
    /// Annotations of the Event.
    pub annotations: BTreeMap<String, String>,
}

/// Sends events under one component name. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Recorder(mpsc::Sender<Note>);

impl Recorder {
    /// A recorder and the task that sends what is recorded; the task ends when every recorder is dropped.
    /// `component` is what `kubectl describe` shows in the column From.
    pub fn new(client: Client, component: &'static str) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), send_all(client, component, receiver))
    }

    /// Queues an event.
    pub fn record(&self, note: Note) {
        if let Err(error) = self.0.try_send(note) {
            tracing::warn!(%error, "an Event was dropped");
        }
    }
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    regarding: (Option<String>, Option<String>, Option<String>, Option<String>),
    kind: Kind,
    reason: String,
    message: String,
}

struct Sent {
    name: String,
    count: i32,
    last: Timestamp,
}

async fn send_all(client: Client, component: &'static str, mut notes: mpsc::Receiver<Note>) {
    let instance = crate::leader::identity();
    let mut sent: HashMap<Key, Sent> = HashMap::new();
    while let Some(note) = notes.recv().await {
        let now = Timestamp::now();
        sent.retain(|_, s| now.duration_since(s.last) < SAME_WITHIN);
        let namespace = note
            .regarding
            .namespace
            .clone()
            .unwrap_or_else(|| "default".into());
        let api: Api<Event> = Api::namespaced(client.clone(), &namespace);
        let object = &note.regarding;
        let key = Key {
            regarding: (
                object.kind.clone(),
                object.namespace.clone(),
                object.name.clone(),
                object.uid.clone(),
            ),
            kind: note.kind,
            reason: note.reason.clone(),
            message: note.message.clone(),
        };
        let result = if let Some(known) = sent.get_mut(&key) {
            known.count += 1;
            known.last = now;
            let again = json!({ "count": known.count, "lastTimestamp": Time(now) });
            api.patch(&known.name, &PatchParams::default(), &Patch::Merge(again))
                .await
                .map(drop)
        } else {
            let event = event(note, component, &instance, &namespace, now);
            let name = event.metadata.name.clone().unwrap_or_default();
            let created = api.create(&PostParams::default(), &event).await.map(drop);
            if created.is_ok() {
                sent.insert(
                    key,
                    Sent {
                        name,
                        count: 1,
                        last: now,
                    },
                );
            }
            created
        };
        if let Err(error) = result {
            tracing::debug!(%error, "an Event could not be sent");
        }
    }
}

fn event(note: Note, component: &str, instance: &str, namespace: &str, now: Timestamp) -> Event {
    let subject = note
        .regarding
        .name
        .clone()
        .unwrap_or_else(|| component.to_owned());
    let mut message = note.message;
    if message.len() > MAX_NOTE {
        let mut end = MAX_NOTE - '…'.len_utf8();
        while !message.is_char_boundary(end) {
            end -= 1;
        }
        message.truncate(end);
        message.push('…');
    }
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{subject}.{:x}", now.as_nanosecond())),
            namespace: Some(namespace.to_owned()),
            annotations: (!note.annotations.is_empty()).then_some(note.annotations),
            ..ObjectMeta::default()
        },
        involved_object: note.regarding,
        type_: Some(
            if note.kind == Kind::Normal {
                "Normal"
            } else {
                "Warning"
            }
            .to_owned(),
        ),
        reason: Some(note.reason),
        message: Some(message),
        source: Some(EventSource {
            component: Some(component.to_owned()),
            host: None,
        }),
        reporting_component: Some(component.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        count: Some(1),
        first_timestamp: Some(Time(now)),
        last_timestamp: Some(Time(now)),
        ..Event::default()
    }
}
