//! `plan`: what an apply would do.

use std::{fmt::Write as _, process::ExitCode};

use clap::Args;
use kube::ResourceExt as _;
use serde::Serialize;

use super::{
    CHANGES, ClusterArgs, Format, TROUBLE, TargetArgs,
    desk::{Desk, Wants},
    output::{self, plain},
    session::Session,
    target::Rights,
    verdict::{self, Action, Change, Question},
};
use crate::{
    api::{CONFIRM_DELETION, Kustomization},
    bodies::Bodies,
    cluster::{identity::ClusterId, live::Owner},
    config::ControllerArgs,
    decide::Held,
    drift::Mode,
    manifest::Problem,
};

/// `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Form of the output
    #[arg(long, short, value_enum, default_value_t)]
    output: Format,
    /// Ask the API server with your own rights, not as spec.serviceAccountName
    #[arg(long)]
    as_yourself: bool,
}

/// What an apply of one Kustomization would do.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    namespace: String,
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    revision: String,
    /// Where that would be, if not in the cluster of the Kustomization.
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<String>,
    changes: Vec<Change>,
    unchanged: usize,
    /// Why deletions are held back.
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<String>,
    /// What is wrong with the source.
    problems: Vec<String>,
}

impl Report {
    fn count(&self, action: Action) -> usize {
        self.changes
            .iter()
            .filter(|change| change.action == action)
            .count()
    }

    fn is_trouble(&self) -> bool {
        !self.problems.is_empty() || self.count(Action::Refuse) > 0
    }

    fn is_change(&self) -> bool {
        let writes = [
            Action::Create,
            Action::Change,
            Action::Delete,
            Action::Release,
            Action::Hold,
        ];
        writes.into_iter().any(|action| self.count(action) > 0)
    }

    fn text(&self) -> String {
        let there = self.cluster.as_ref().map(|name| format!(" in {name}"));
        let mut out = format!(
            "Kustomization {}/{} at {}{}\n",
            self.namespace,
            self.name,
            self.revision,
            there.unwrap_or_default()
        );
        for change in &self.changes {
            let mark = match change.action {
                Action::Create => '+',
                Action::Change => '~',
                Action::TakeOver => '=',
                Action::Delete | Action::Hold => '-',
                Action::Release => 'o',
                Action::Wait => '?',
                Action::Refuse => '!',
                Action::Leave => '*',
                Action::Unchanged => ' ',
            };
            let at = change
                .at
                .as_ref()
                .map(|at| format!("  ({at})"))
                .unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{mark} {}{}", change.object, plain(&at));
            for field in &change.fields {
                let _ = writeln!(out, "    {}", plain(&field.to_string()));
            }
            if let Some(message) = &change.message {
                let _ = writeln!(out, "    {}", plain(message).replace('\n', "\n    "));
            }
        }
        for problem in &self.problems {
            let _ = writeln!(out, "! {}", plain(problem).replace('\n', "\n  "));
        }
        if let Some(held) = &self.held {
            let _ = writeln!(out, "Deletions are held: {held}");
        }
        let counted = [
            (Action::Create, "to create"),
            (Action::Change, "to change"),
            (Action::Delete, "to delete"),
            (Action::Hold, "held back"),
            (Action::Release, "to release"),
            (Action::TakeOver, "to take over unchanged"),
            (Action::Wait, "waiting"),
            (Action::Leave, "left as they are"),
            (Action::Refuse, "refused"),
        ];
        let mut parts: Vec<String> = counted
            .into_iter()
            .map(|(action, words)| (self.count(action), words))
            .filter(|(count, _)| *count > 0)
            .map(|(count, words)| format!("{count} {words}"))
            .collect();
        parts.push(format!("{} unchanged", self.unchanged));
        let _ = writeln!(out, "{}.", parts.join(", "));
        out
    }
}

pub(super) async fn run(args: &PlanArgs, flags: ControllerArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let desk = Desk::set_up(session, flags, &args.target).await?;
    let mut reports = Vec::new();
    for object in desk.targets(&args.target).await? {
        reports.push(report(&desk, &object, args).await?);
    }
    output::print(args.output, &reports, || {
        let texts: Vec<String> = reports.iter().map(Report::text).collect();
        texts.join("\n")
    })?;
    Ok(if reports.iter().any(Report::is_trouble) {
        ExitCode::from(TROUBLE)
    } else if reports.iter().any(Report::is_change) {
        ExitCode::from(CHANGES)
    } else {
        ExitCode::SUCCESS
    })
}

async fn report(desk: &Desk, object: &Kustomization, args: &PlanArgs) -> anyhow::Result<Report> {
    let owner = Owner {
        namespace: object
            .namespace()
            .unwrap_or_else(|| desk.session.namespace.clone()),
        name: object.name_any(),
    };
    let mut report = Report {
        namespace: owner.namespace.clone(),
        name: owner.name.clone(),
        ..Report::default()
    };
    let rights = if args.as_yourself {
        Rights::Kubeconfig
    } else {
        Rights::Account
    };
    let step = match desk.step_there(object, &owner, rights).await {
        Ok(step) => step,
        Err(error) => {
            report.problems.push(format!("{error:#}"));
            return Ok(report);
        }
    };
    if step.cluster.id != ClusterId::Home {
        report.cluster = Some(plain(&step.cluster.id.name()));
    }
    let wants = match desk.wants(&step).await {
        Ok(wants) => wants,
        Err(error) => {
            report.problems.push(format!("{error:#}"));
            return Ok(report);
        }
    };
    let Wants { artifact, desired } = &wants;
    report.revision.clone_from(&artifact.revision);
    let context = &desk.parts.context;
    let client = if args.as_yourself {
        step.cluster.client.clone()
    } else {
        step.client()?
    };
    // Once to know which objects to read, and once more with what was read.
    let first = desk.plan(&step, &wants).await?;
    let found = verdict::read(&client, &step.cluster.live, &first).await;
    let planned = step.plan(first.recorded, artifact, desired).await;
    let bodies = Bodies::new(artifact.snapshot.clone(), desired);
    let secrets = step.secret_values().await;
    let vital = step.vital();
    let question = Question {
        context,
        cluster: &step.cluster,
        client: &client,
        owner: &owner,
        vital: &vital,
        planned: &planned,
        desired,
        bodies: &bodies,
        found: &found,
        // What cannot be read is among the problems.
        drift: Mode::of(object.annotations()).unwrap_or(Mode::Correct),
        is_old_revision: object
            .status
            .as_ref()
            .is_some_and(|status| status.last_applied_revision.as_ref() == Some(&artifact.revision)),
        secrets: &secrets,
    };
    let mut changes = question.applies().await;
    report.unchanged = changes
        .iter()
        .filter(|change| change.action == Action::Unchanged)
        .count();
    changes.retain(|change| change.action != Action::Unchanged);
    for index in &planned.seen.parked {
        let wanted = &desired.objects[*index];
        let message = "the API server does not serve its kind: it is applied as soon as it does";
        changes.push(Change {
            at: Some(wanted.origin.to_string()),
            ..Change::new(Action::Wait, &wanted.id).saying(message)
        });
    }
    changes.extend(question.deletions().await);
    report.changes = changes;
    report.held = planned.plan.held.as_ref().map(|(held, _)| match held {
        Held::Budget { .. } | Held::Unweighed { .. } => format!(
            "{held}; to confirm once the source is at this revision: kubectl annotate kustomization {} -n {} --overwrite \
             {CONFIRM_DELETION}={}",
            owner.name, owner.namespace, artifact.revision
        ),
        _ => held.to_string(),
    });
    let problems = desired
        .unreadable
        .iter()
        .chain(&desired.problems)
        .chain(&planned.seen.problems);
    report.problems.extend(problems.map(Problem::to_string));
    Ok(report)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_deletions_are_changes_and_refusals_are_trouble() {
        let with = |action| Report {
            changes: vec![Change::new(action, &"ConfigMap/a/b")],
            ..Report::default()
        };
        assert!(with(Action::Hold).is_change() && !with(Action::Hold).is_trouble());
        assert!(!with(Action::TakeOver).is_change());
        assert!(with(Action::Refuse).is_trouble());
        let broken = Report {
            problems: vec!["x".into()],
            ..Report::default()
        };
        assert!(broken.is_trouble() && !broken.is_change());
    }
}
