//! `suspend` and `resume`: `spec.suspend`, with a reason, a name and an end that others can read.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use k8s_openapi::{
    api::authentication::v1::SelfSubjectReview,
    jiff::{SignedDuration, Timestamp},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use plumbline_common::duration;
use serde_json::{Value, json};

use super::{
    ClusterArgs, TROUBLE,
    output::{self, plain},
    reconcile::{self, Reconciled},
    session::Session,
};
use crate::{
    api::{GitRepository, Kustomization, SUSPEND_BY, SUSPEND_REASON, SUSPEND_UNTIL},
    cluster::fields::MANAGER,
};

/// `suspend`.
#[derive(Args, Debug)]
pub struct SuspendArgs {
    /// Name of the Kustomization
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// NAME is a GitRepository
    #[arg(long)]
    source: bool,
    /// Why, for others to read
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// When it ends: a time (2026-01-31T18:00:00Z) or a duration from now (2h)
    #[arg(long, value_name = "TIME|DURATION", value_parser = until)]
    until: Option<Timestamp>,
}

/// `resume`.
#[derive(Args, Debug)]
pub struct ResumeArgs {
    /// Name of the Kustomization
    name: String,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// NAME is a GitRepository
    #[arg(long)]
    source: bool,
    /// Wait until it is ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, default_value = "5m", value_parser = duration::parse, value_name = "DURATION")]
    timeout: std::time::Duration,
}

fn until(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let after = duration::parse(text)
        .map_err(|_| "neither a time like 2026-01-31T18:00:00Z nor a duration like 2h")?;
    let after = SignedDuration::try_from(after).map_err(|error| error.to_string())?;
    let end = Timestamp::now()
        .checked_add(after)
        .map_err(|error| error.to_string())?;
    // Whole seconds are enough, and read better.
    Timestamp::from_second(end.as_second()).map_err(|error| error.to_string())
}

pub(super) async fn suspend(args: &SuspendArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let review: Api<SelfSubjectReview> = Api::all(session.client.clone());
    // Who it is, is said by the API server; where it does not say, nobody is named.
    let me = review
        .create(&PostParams::default(), &SelfSubjectReview::default())
        .await;
    let by = me.ok().and_then(|it| it.status?.user_info?.username);
    let annotations = json!({
        SUSPEND_REASON: args.reason,
        SUSPEND_BY: by,
        SUSPEND_UNTIL: args.until.map(|until| until.to_string()),
    });
    set(&session, &args.name, args.source, true, &annotations).await?;
    output::write(&format!("✔ {} is suspended\n", args.name))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn resume(args: &ResumeArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let none = json!({ SUSPEND_REASON: null, SUSPEND_BY: null, SUSPEND_UNTIL: null });
    set(&session, &args.name, args.source, false, &none).await?;
    output::write(&format!("✔ {} goes on\n", args.name))?;
    if !args.wait {
        return Ok(ExitCode::SUCCESS);
    }
    let outcome = if args.source {
        let api: Api<GitRepository> = Api::namespaced(session.client.clone(), &session.namespace);
        reconcile::ask(&api, &args.name, args.timeout).await?
    } else {
        reconcile::ask(&session.kustomizations(), &args.name, args.timeout).await?
    };
    let (text, code) = match outcome {
        Ok(revision) => (format!("✔ ready at {}\n", plain(&revision)), ExitCode::SUCCESS),
        Err(message) => (format!("✗ {}\n", plain(&message)), ExitCode::from(TROUBLE)),
    };
    output::write(&text)?;
    Ok(code)
}

async fn set(
    session: &Session,
    name: &str,
    is_source: bool,
    suspend: bool,
    annotations: &Value,
) -> anyhow::Result<()> {
    let patch = json!({ "metadata": { "annotations": annotations }, "spec": { "suspend": suspend } });
    if is_source {
        let api: Api<GitRepository> = Api::namespaced(session.client.clone(), &session.namespace);
        send(&api, name, &patch).await
    } else {
        send::<Kustomization>(&session.kustomizations(), name, &patch).await
    }
}

async fn send<K: Reconciled>(api: &Api<K>, name: &str, patch: &Value) -> anyhow::Result<()> {
    let params = PatchParams {
        field_manager: Some(format!("{MANAGER}-cli")),
        ..PatchParams::default()
    };
    let sent = api.patch_metadata(name, &params, &Patch::Merge(patch)).await;
    sent.map(drop)
        .with_context(|| format!("the {} {name} cannot be changed", K::KIND))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_duration() {
        assert_eq!(
            until("2026-01-31T18:00:00Z").unwrap().to_string(),
            "2026-01-31T18:00:00Z"
        );
        let soon = until("2h").unwrap().duration_since(Timestamp::now());
        assert!(soon.as_secs() > 7000 && soon.as_secs() <= 7200, "{soon:?}");
        assert!(until("tomorrow").is_err());
    }
}
