//! Kubernetes Events. They are queued and sent in the background: a slow API server never holds a reconcile.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

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
use tokio::sync::{mpsc, watch};

/// Events waiting to be sent; more are dropped, because telling must never cost more than doing.
const QUEUE: usize = 1024;
/// How long an event waits at most for what is in progress.
const DEFER: Duration = Duration::from_secs(2);
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

/// Doing goes before telling: events give way to what is in progress, for a moment. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Doing(watch::Sender<usize>);

impl Default for Doing {
    fn default() -> Self {
        Self(watch::Sender::new(0))
    }
}

impl Doing {
    /// Something is in progress until what is returned is dropped.
    pub fn begin(&self) -> InProgress {
        self.0.send_modify(|count| *count += 1);
        InProgress(self.clone())
    }
}

/// Something is in progress.
#[derive(Debug)]
pub struct InProgress(Doing);

impl Drop for InProgress {
    fn drop(&mut self) {
        self.0.0.send_modify(|count| *count -= 1);
    }
}

// What was told, and when.
#[derive(Debug)]
struct Noted {
    note: Note,
    at: Timestamp,
}

/// Sends events under one component name. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct Recorder(mpsc::Sender<Noted>);

impl Recorder {
    /// A recorder and the task that sends what is recorded; the task ends when every recorder is dropped.
    /// `component` is what `kubectl describe` shows in the column From.
    pub fn new(client: Client, component: &'static str) -> (Self, impl Future<Output = ()> + Send) {
        Self::after(client, component, &Doing::default())
    }

    /// As [`Recorder::new`]; its events wait while something is `doing`: a few seconds at most, and only while few are queued.
    pub fn after(
        client: Client,
        component: &'static str,
        doing: &Doing,
    ) -> (Self, impl Future<Output = ()> + Send + use<>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (
            Self(sender),
            send_all(client, component, receiver, doing.0.subscribe()),
        )
    }

    /// Queues an event.
    pub fn record(&self, note: Note) {
        let at = Timestamp::now();
        if let Err(error) = self.0.try_send(Noted { note, at }) {
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

async fn send_all(
    client: Client,
    component: &'static str,
    mut notes: mpsc::Receiver<Noted>,
    mut doing: watch::Receiver<usize>,
) {
    let instance = crate::leader::identity();
    let mut sent: HashMap<Key, Sent> = HashMap::new();
    while let Some(Noted { note, at: now }) = notes.recv().await {
        let waited = Duration::try_from(Timestamp::now().duration_since(now)).unwrap_or_default();
        give_way(notes.len(), waited, &mut doing).await;
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

// Returns once nothing is in progress, or when the event cannot wait longer.
async fn give_way(queued: usize, waited: Duration, doing: &mut watch::Receiver<usize>) {
    let left = DEFER.checked_sub(waited).filter(|_| queued < QUEUE / 2);
    if let Some(left) = left {
        // An error says that nothing will be in progress again, or that the time is up.
        drop(tokio::time::timeout(left, doing.wait_for(|count| *count == 0)).await);
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

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    const NOT_YET: Duration = Duration::ZERO;

    #[tokio::test]
    async fn events_give_way_for_a_moment_and_while_few_are_queued() {
        let doing = Doing::default();
        let mut receiver = doing.0.subscribe();
        let mut waits = |queued, waited| give_way(queued, waited, &mut receiver).now_or_never().is_none();
        assert!(!waits(0, NOT_YET));
        let first = doing.begin();
        let second = doing.begin();
        assert!(waits(0, NOT_YET));
        assert!(waits(QUEUE / 2 - 1, DEFER / 2));
        assert!(!waits(QUEUE / 2, NOT_YET), "many are queued");
        assert!(!waits(0, DEFER * 2), "it has waited long enough");
        drop(first);
        assert!(waits(0, NOT_YET));
        drop(second);
        assert!(!waits(0, NOT_YET));
    }

    #[tokio::test]
    async fn an_event_is_told_as_soon_as_nothing_is_in_progress() {
        let doing = Doing::default();
        let mut receiver = doing.0.subscribe();
        let last = doing.begin();
        let waiting = tokio::spawn(async move { give_way(0, NOT_YET, &mut receiver).await });
        tokio::task::yield_now().await;
        drop(last);
        assert!(waiting.await.is_ok());
    }
}
