//! Many Kustomizations of one repository: what a commit costs that touches one of them, none, or all; what those cost that
//! never get healthy; Flux's published benchmark shape.

mod apps;
mod fleet;
mod monorepo;
mod single;
mod unhealthy;

use anyhow::Context as _;

use self::fleet::Fleet;
use super::{figures::Figures, stage::Stage, syncer};

/// Which of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Part {
    /// 200 Kustomizations of 50 objects: install, a commit that changes nothing, one that changes one path, five minutes of quiet
    Monorepo,
    /// 100 Kustomizations of which 10 never get healthy: are the other 90 slower?
    Unhealthy,
    /// 1000 apps of 4 objects with wait: true
    Apps,
    /// One Kustomization of 30,000 objects: install, one change, a restart, its end
    Single,
}

const ALL: [Part; 4] = [Part::Monorepo, Part::Unhealthy, Part::Apps, Part::Single];

impl Part {
    /// Its name on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Monorepo => "monorepo",
            Self::Unhealthy => "unhealthy",
            Self::Apps => "apps",
            Self::Single => "single",
        }
    }
}

/// Each part on a control plane of its own, one after the other.
pub(crate) async fn measure(only: Option<Part>, quick: bool) -> anyhow::Result<Figures> {
    let mut figures = Figures::default();
    for part in ALL
        .into_iter()
        .filter(|part| only.is_none_or(|only| only == *part))
    {
        println!("{}: starting a control plane", part.name());
        let stage = Stage::start()?;
        let client = plumbline_testkit::client(&stage.plane.kubeconfig(), "plumbline-bench").await?;
        let mut syncer = syncer::start(&stage.plane)?;
        let fleet = Fleet::new(&stage, &client);
        let measured = async {
            match part {
                Part::Monorepo => monorepo::measure(&fleet, &syncer, quick, &mut figures).await,
                Part::Unhealthy => unhealthy::measure(&fleet, quick, &mut figures).await,
                Part::Apps => apps::measure(&fleet, &mut syncer, quick, &mut figures).await,
                Part::Single => single::measure(&fleet, &mut syncer, quick, &mut figures).await,
            }
        };
        measured.await.with_context(|| syncer.last_words())?;
    }
    Ok(figures)
}
