//! The reloader: how fast, how many requests, how much memory.

mod changes;
mod estate;
mod fan_out;
mod process;
mod stage;

use super::figures::Figures;

/// How much is measured.
#[derive(Clone, Copy)]
struct Scale {
    /// Changes of one ConfigMap that one Deployment uses.
    changes: usize,
    /// Deployments that one ConfigMap rolls, one fan-out after the other.
    fan_outs: [usize; 2],
    /// How often each fan-out is measured.
    rounds: usize,
    /// ConfigMaps of 20 KiB, and as many Secrets.
    sources: usize,
    /// Deployments beside them.
    deployments: usize,
    /// How long a restart with nothing changed is watched, in seconds.
    quiet: u64,
}

const FULL: Scale = Scale {
    changes: 200,
    fan_outs: [200, 1_000],
    rounds: 3,
    sources: 10_000,
    deployments: 5_000,
    quiet: 20,
};
const QUICK: Scale = Scale {
    changes: 50,
    fan_outs: [50, 200],
    rounds: 1,
    sources: 1_000,
    deployments: 500,
    quiet: 10,
};

/// Measures everything, each group of figures on a control plane of its own.
pub(crate) async fn measure(quick: bool) -> anyhow::Result<Figures> {
    let scale = if quick { QUICK } else { FULL };
    let begin = std::time::Instant::now();
    let mut figures = Figures::default();
    changes::one_to_one(&scale, &mut figures).await?;
    changes::twenty_of_four(&mut figures).await?;
    fan_out::measure(&scale, &mut figures).await?;
    estate::measure(&scale, &mut figures).await?;
    println!("  measured within {} s", begin.elapsed().as_secs());
    Ok(figures)
}
