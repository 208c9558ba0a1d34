//! A log line as one JSON object, with controller-runtime's names for what every line has: `flux logs` and the dashboards that
//! people have look for `ts`, `level`, `msg`, `error`, `controllerKind`, `namespace` and `name`.

use std::fmt;

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value};
use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    registry::{LookupSpan, Scope},
};

/// The field by which kube-runtime's span says which object is reconciled.
const OBJECT: &str = "object.ref";

/// Writes events so. Spans have to keep their fields as JSON.
pub(super) struct Line;

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flat_map(Scope::from_root) {
            let extensions = span.extensions();
            let fields = extensions
                .get::<FormattedFields<N>>()
                .map(|fields| fields.fields.as_str());
            if let Ok(fields) = serde_json::from_str(fields.unwrap_or_default()) {
                with_span(&mut line, fields);
            }
        }
        event.record(&mut Fields(&mut line));
        line.insert("level".into(), level(*event.metadata().level()).into());
        line.insert("ts".into(), Timestamp::now().to_string().into());
        writeln!(writer, "{}", Value::Object(line))
    }
}

/// Adds the fields of a span; the object that is reconciled under the names that people look for.
fn with_span(line: &mut Map<String, Value>, mut fields: Map<String, Value>) {
    if let Some(Value::String(object)) = fields.remove(OBJECT)
        && let Some((kind, rest)) = object.split_once('/')
    {
        let kind = kind.split('.').next().unwrap_or_default();
        line.insert("controllerKind".into(), kind.into());
        // A name can have dots; a namespace cannot.
        let (name, namespace) = rest.rsplit_once('.').unwrap_or((rest, ""));
        line.insert("name".into(), name.into());
        line.insert("namespace".into(), namespace.into());
    }
    line.extend(fields);
}

fn level(level: Level) -> &'static str {
    match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    }
}

/// Takes the fields of an event into a line.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn insert(&mut self, field: &Field, value: Value) {
        let name = match field.name() {
            "message" => "msg",
            // What the bridge from the crate `log` adds.
            other if other.starts_with("log.") => return,
            other => other,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.insert(field, format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.insert(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.insert(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.insert(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.insert(field, value.into());
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.insert(field, value.into());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::fmt::format::JsonFields;

    use super::*;

    /// What is written by subscribers that `write` is called under, without the time.
    fn written(write: impl FnOnce()) -> Vec<Value> {
        #[derive(Clone, Default)]
        struct Kept(Arc<Mutex<Vec<u8>>>);
        impl std::io::Write for Kept {
            fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
                self.0.lock().unwrap().extend(bytes);
                Ok(bytes.len())
            }
            fn flush(&mut self) -> std::io::Result<()> {
                Ok(())
            }
        }
        let kept = Kept::default();
        let writer = kept.clone();
        let subscriber = tracing_subscriber::fmt()
            .fmt_fields(JsonFields::new())
            .event_format(Line)
            .with_writer(move || writer.clone())
            .with_max_level(Level::TRACE)
            .finish();
        tracing::subscriber::with_default(subscriber, write);
        let bytes = kept.0.lock().unwrap().clone();
        let text = String::from_utf8(bytes).unwrap();
        let read = |line: &str| {
            let mut line: Value = serde_json::from_str(line).unwrap();
            let time = line.as_object_mut().unwrap().remove("ts").unwrap();
            let time: Timestamp = time.as_str().unwrap().parse().unwrap();
            assert!(time <= Timestamp::now());
            line
        };
        text.lines().map(read).collect()
    }

    #[test]
    fn names_are_those_that_people_look_for() {
        let lines = written(|| {
            tracing::info!(
                revision = "main@sha1:1",
                count = 3_u64,
                done = true,
                "new revision"
            );
            let error = std::io::Error::other("no\n\"way\"");
            tracing::warn!(%error, name = "app", "will be tried again");
        });
        assert_eq!(
            lines,
            [
                json!({ "level": "info", "msg": "new revision", "revision": "main@sha1:1", "count": 3, "done": true }),
                json!({ "level": "warn", "msg": "will be tried again", "error": "no\n\"way\"", "name": "app" }),
            ]
        );
    }

    #[test]
    fn the_object_of_the_span_is_taken_apart_and_the_event_says_it_better() {
        let lines = written(|| {
            let object = "Kustomization.v1.kustomize.toolkit.fluxcd.io/a.b.apps";
            let span =
                tracing::info_span!("reconciling object", "object.ref" = %object, object.reason = %"unknown");
            let _in = span.enter();
            tracing::debug!("one");
            tracing::error!(name = "other", "two");
            let cluster_wide = tracing::info_span!("inner", "object.ref" = %"Node.v1./n");
            let _in = cluster_wide.enter();
            tracing::trace!("three");
        });
        let base = |level: &str, msg: &str, kind: &str, namespace: &str, name: &str| json!({ "level": level, "msg": msg, "controllerKind": kind, "namespace": namespace, "name": name, "object.reason": "unknown" });
        assert_eq!(
            lines,
            [
                base("debug", "one", "Kustomization", "apps", "a.b"),
                base("error", "two", "Kustomization", "apps", "other"),
                base("trace", "three", "Node", "", "n"),
            ]
        );
    }
}
