//! `build`: the objects that would be applied.

use std::process::ExitCode;

use clap::Args;
use kube::ResourceExt as _;

use super::{
    ClusterArgs, TROUBLE, TargetArgs,
    desk::{Desk, Wants},
    diff,
    output::{self, plain},
    session::Session,
};
use crate::{bodies::Bodies, cluster::live::Owner, config::ControllerArgs, manifest::finish, observe};

/// `build`.
#[derive(Args, Debug)]
pub struct BuildArgs {
    #[command(flatten)]
    target: TargetArgs,
    #[command(flatten)]
    cluster: ClusterArgs,
    /// Print values of Secrets, too
    #[arg(long)]
    show_secrets: bool,
}

pub(super) async fn run(args: &BuildArgs, flags: ControllerArgs) -> anyhow::Result<ExitCode> {
    let session = Session::connect(&args.cluster).await?;
    let desk = Desk::set_up(session, flags, &args.target).await?;
    let mut code = ExitCode::SUCCESS;
    for object in desk.targets(&args.target).await? {
        let owner = Owner {
            namespace: object
                .namespace()
                .unwrap_or_else(|| desk.session.namespace.clone()),
            name: object.name_any(),
        };
        let step = desk.step(&object, &owner);
        let wants = desk.wants(&step).await?;
        let planned = desk.plan(&step, &wants).await?;
        let Wants { artifact, desired } = &wants;
        let bodies = Bodies::new(artifact.snapshot.clone(), desired);
        let overlay = observe::overlay(&owner, &object.spec);
        for wanted in &desired.objects {
            let body = match bodies.get(&wanted.origin).await {
                Ok(body) => finish(body, &wanted.id.namespace, &overlay),
                Err(message) => {
                    output::note(&format!("! {}: {}", wanted.origin, plain(&message)));
                    code = ExitCode::from(TROUBLE);
                    continue;
                }
            };
            let body = if args.show_secrets {
                body
            } else {
                diff::redacted(body)
            };
            output::write(&format!(
                "---\n# {}\n{}",
                wanted.origin,
                serde_yaml::to_string(&body)?
            ))?;
        }
        for problem in desired
            .unreadable
            .iter()
            .chain(&desired.problems)
            .chain(&planned.seen.problems)
        {
            output::note(&format!("! {}", plain(&problem.to_string())));
            code = ExitCode::from(TROUBLE);
        }
    }
    Ok(code)
}
