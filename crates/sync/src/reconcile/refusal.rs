//! What a Kustomization asks for and does not get: fields that are not there, that cannot be read, or that reach too far.

use kube::ResourceExt as _;

use super::Step;
use crate::{
    api::ON_UNHEALTHY, atomic::FailurePolicy, context::CrossNamespace, controller, depends, drift, health,
    ignored::Rules, observe, returning::OnUnhealthy, wait,
};

impl Step<'_> {
    /// Why nothing is applied, as reason and message; `None` where the spec can be followed.
    pub(crate) fn refusal(&self) -> Option<(&'static str, String)> {
        let spec = &self.object.spec;
        let unsupported = observe::unsupported(spec);
        if !unsupported.is_empty() {
            let mut message = format!(
                "not supported: {}. Nothing is applied, because the result would not be what is asked for",
                unsupported.join(", ")
            );
            if spec.decryption.is_some() {
                message.push_str(
                    ". Instead of SOPS: seal each Secret with kubeseal, and commit the SealedSecret",
                );
            }
            return Some(("UnsupportedField", message));
        }
        if spec.source_ref.kind != "GitRepository" {
            let message = format!(
                "sourceRef.kind {:?} is not supported: use a GitRepository",
                spec.source_ref.kind
            );
            return Some(("UnsupportedField", message));
        }
        if let Some(message) = controller::wrong_duration(spec) {
            return Some(("InvalidField", message));
        }
        if let Err(message) = FailurePolicy::of(self.object) {
            return Some(("InvalidField", message));
        }
        let account = spec.service_account_name.as_deref().unwrap_or_default();
        if !account
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        {
            let message = format!("spec.serviceAccountName: {account:?} is not the name of a ServiceAccount");
            return Some(("InvalidField", message));
        }
        if let Err(message) = Rules::parse(&spec.ignore) {
            return Some(("InvalidField", message));
        }
        let checks = health::Checks::parse(&spec.health_check_exprs).map(drop);
        if let Err(message) = checks.and_then(|()| depends::check(self.object)) {
            return Some(("InvalidCELExpression", message));
        }
        if let Err(message) = drift::Mode::of(self.object.annotations()) {
            return Some(("InvalidField", message));
        }
        match OnUnhealthy::of(self.object.annotations()) {
            Err(message) => return Some(("InvalidField", message)),
            Ok(OnUnhealthy::Return) if !wait::is_asked(spec) => {
                let message =
                    format!("the annotation {ON_UNHEALTHY}: Return needs spec.wait or spec.healthChecks");
                return Some(("InvalidField", message));
            }
            Ok(_) => {}
        }
        let (namespace, name) = self.source_key();
        if namespace != self.owner.namespace
            && self.context.settings.cross_namespace == CrossNamespace::Refused
        {
            let message = format!(
                "the source {namespace}/{name} is in another namespace, which is not allowed \
                 (--no-cross-namespace-refs=false allows it)"
            );
            return Some(("AccessDenied", message));
        }
        if let Err(message) = depends::object::check(self.object) {
            return Some(("InvalidField", message));
        }
        if let Some((namespace, name)) = depends::object::foreign(self.object, &self.owner.namespace)
            && self.context.settings.cross_namespace == CrossNamespace::Refused
        {
            let message = format!(
                "the dependency {namespace}/{name} is in another namespace, which is not allowed \
                 (--no-cross-namespace-refs=false allows it)"
            );
            return Some(("AccessDenied", message));
        }
        None
    }
}
