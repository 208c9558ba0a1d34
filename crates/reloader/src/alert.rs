//! Alerts by webhook, in Stakater's words. Sent in the background and tried again: an alert never holds a rollout.

use serde_json::json;

use crate::{
    post::{Poster, Target},
    source::SourceKey,
    workload::WorkloadKey,
};

/// Who is told (`ALERT_SINK`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sink {
    /// `slack`.
    Slack,
    /// `teams`.
    Teams,
    /// `gchat`.
    GoogleChat,
    /// Anything else: the bare text.
    #[default]
    Raw,
}

/// Where alerts go.
#[derive(Clone, PartialEq, Eq)]
pub struct Alerts {
    /// `ALERT_SINK`.
    pub sink: Sink,
    /// `ALERT_WEBHOOK_URL`.
    pub url: String,
    /// `ALERT_WEBHOOK_PROXY`.
    pub proxy: Option<String>,
    /// `ALERT_ADDITIONAL_INFO`.
    pub info: String,
}

impl std::fmt::Debug for Alerts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Whoever knows a webhook's address may post to it.
        f.debug_struct("Alerts")
            .field("sink", &self.sink)
            .finish_non_exhaustive()
    }
}

impl Alerts {
    /// From environment variables; `None` unless `ALERT_ON_RELOAD` is exactly `true` and there is an address.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        if variable("ALERT_ON_RELOAD").as_deref() != Some("true") {
            return None;
        }
        let Some(url) = variable("ALERT_WEBHOOK_URL") else {
            tracing::error!("ALERT_ON_RELOAD is true but ALERT_WEBHOOK_URL is not set: no alerts are sent");
            return None;
        };
        let sink = match variable("ALERT_SINK")
            .unwrap_or_default()
            .to_ascii_lowercase()
            .as_str()
        {
            "slack" => Sink::Slack,
            "teams" => Sink::Teams,
            "gchat" => Sink::GoogleChat,
            _ => Sink::Raw,
        };
        let info = variable("ALERT_ADDITIONAL_INFO").unwrap_or_default();
        Some(Self {
            sink,
            url,
            proxy: variable("ALERT_WEBHOOK_PROXY"),
            info,
        })
    }

    /// Stakater's message for one source and one workload.
    pub fn message(&self, source: &SourceKey, workload: &WorkloadKey) -> String {
        let (namespace, name) = source.home(&workload.namespace);
        let kind = source.kind.shout();
        let text = format!(
            "Reloader detected changes in *{name}* of type *{kind}* in namespace *{namespace}*. \
             Hence reloaded *{}* of type *{}* in namespace *{}*",
            workload.name, workload.kind, workload.namespace
        );
        let info = self.info.trim();
        let text = if info.is_empty() {
            text
        } else {
            format!("{info} : {text}")
        };
        if self.sink == Sink::Raw {
            text.replace('*', "")
        } else {
            text
        }
    }

    /// What is posted: the content type and the body.
    pub fn body(&self, message: &str) -> (&'static str, String) {
        const JSON: &str = "application/json";
        match self.sink {
            Sink::Raw => ("text/plain", message.to_owned()),
            Sink::GoogleChat => (JSON, json!({ "text": message }).to_string()),
            Sink::Slack => {
                let attachment = json!({ "text": message, "color": "good", "author_name": "Reloader" });
                (JSON, json!({ "attachments": [attachment] }).to_string())
            }
            Sink::Teams => {
                let card = json!({
                    "@type": "MessageCard",
                    "@context": "http://schema.org/extensions",
                    "themeColor": "4CAF50",
                    "text": message,
                });
                (JSON, card.to_string())
            }
        }
    }
}

/// Sends alerts. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Alerter {
    alerts: Alerts,
    poster: Poster,
}

impl Alerter {
    /// An alerter and the task that sends; the task ends when every alerter is dropped.
    pub fn new(alerts: Alerts) -> (Self, impl Future<Output = ()> + Send) {
        let (poster, sending) = Poster::new(Target {
            what: "an alert",
            url: alerts.url.clone(),
            proxy: alerts.proxy.clone(),
        });
        (Self { alerts, poster }, sending)
    }

    /// Tells that a workload was rolled for a source.
    pub fn rolled(&self, source: &SourceKey, workload: &WorkloadKey) {
        let (content_type, body) = self.alerts.body(&self.alerts.message(source, workload));
        self.poster.post(content_type, body);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kinds::WorkloadKind, source::SourceKind};

    fn parsed(body: &str) -> serde_json::Value {
        serde_json::from_str(body).unwrap()
    }

    fn alerts(sink: Sink, info: &str) -> Alerts {
        Alerts {
            sink,
            url: "http://127.0.0.1/secret".into(),
            proxy: None,
            info: info.into(),
        }
    }

    fn message(alerts: &Alerts) -> String {
        let workload = WorkloadKey {
            namespace: "shop".into(),
            kind: WorkloadKind::Deployment,
            name: "web".into(),
        };
        alerts.message(&SourceKey::new(SourceKind::ConfigMap, "app"), &workload)
    }

    #[test]
    fn the_message_is_stakaters() {
        let expected = "Reloader detected changes in *app* of type *CONFIGMAP* in namespace *shop*. \
                        Hence reloaded *web* of type *Deployment* in namespace *shop*";
        assert_eq!(message(&alerts(Sink::Slack, "")), expected);
        assert_eq!(
            message(&alerts(Sink::Teams, " prod ")),
            format!("prod : {expected}")
        );
        assert_eq!(message(&alerts(Sink::Raw, "")), expected.replace('*', ""));
    }

    #[test]
    fn each_sink_has_its_form() {
        let body = |sink| alerts(sink, "").body("text");
        assert_eq!(body(Sink::Raw), ("text/plain", "text".to_owned()));
        assert_eq!(parsed(&body(Sink::GoogleChat).1)["text"], "text");
        assert_eq!(parsed(&body(Sink::Slack).1)["attachments"][0]["text"], "text");
        assert_eq!(parsed(&body(Sink::Teams).1)["text"], "text");
    }

    #[test]
    fn alerts_are_on_only_when_it_says_exactly_true() {
        let variables = |on: &'static str| {
            move |name: &str| match name {
                "ALERT_ON_RELOAD" => Some(on.to_owned()),
                "ALERT_WEBHOOK_URL" => Some("http://127.0.0.1/x".to_owned()),
                "ALERT_SINK" => Some("Slack".to_owned()),
                _ => None,
            }
        };
        assert_eq!(
            Alerts::from_variables(variables("true")).map(|alerts| alerts.sink),
            Some(Sink::Slack)
        );
        assert_eq!(Alerts::from_variables(variables("True")), None);
    }

    #[test]
    fn the_address_is_not_told() {
        assert!(!format!("{:?}", alerts(Sink::Raw, "")).contains("secret"));
    }
}
