//! One look at one workload: observe, decide, and what follows from it.

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;

use super::Controller;
use crate::{
    decide::{self, Observed, Plan},
    gate::{Fan, Gate},
    patch::Writing,
    pause, revert,
    step::{Blocked, Step},
    workload::{Workload, WorkloadKey},
};

/// How often to look whether a rollout may start that has to wait for others.
const PAUSE: Duration = Duration::from_millis(500);
/// Where many wait, each looks more rarely: in all so often.
const SHARE: Duration = Duration::from_millis(5);
/// For a window it is waited this long at most before it is looked at the clock again.
const WINDOW_PAUSE: Duration = Duration::from_mins(10);

impl Controller {
    pub(super) async fn look(&self, key: &WorkloadKey) {
        let start = Instant::now();
        self.read_template(key).await;
        let step = self.decide(key, start);
        let result = match step {
            None => "nothing",
            Some(Step::Wait(due)) => {
                self.state().queue.at(key.clone(), due);
                "waiting"
            }
            Some(Step::Blocked(workload, blocked)) => {
                self.block(&workload, blocked, start);
                "blocked"
            }
            Some(Step::Evict(workload)) => self.evict(&workload).await,
            Some(Step::Act(write)) => self.write(*write).await,
        };
        let metrics = &self.reporter.metrics;
        metrics
            .reconciled
            .get_or_create(&vec![("result", result.to_owned())])
            .inc();
        metrics.reconcile_duration.observe(start.elapsed().as_secs_f64());
        let mut state = self.state();
        state.rolling.remove(key);
        state.queue.done(key, Instant::now());
        drop(state);
        self.wake.notify_one();
    }

    // A Rollout that uses the template of a Deployment: what that references is read anew each time.
    async fn read_template(&self, key: &WorkloadKey) {
        let other = self
            .state()
            .index
            .workload(key)
            .and_then(|workload| workload.template_of.clone());
        let Some(other) = other else { return };
        match self.writer.read(&other).await {
            Ok(other) => drop(self.state().index.use_template_of(key, &other)),
            Err(error) => tracing::warn!(workload = %key, %error, "the template it uses cannot be read"),
        }
    }

    // Everything but the clock and the lock is pure from here on.
    fn decide(&self, key: &WorkloadKey, now: Instant) -> Option<Step> {
        let mut state = self.state();
        let workload = state.index.workload(key)?.clone();
        if !state.index.allows(&key.namespace) {
            return None;
        }
        self.tell_problems(&mut state, &workload);
        let kind = vec![("kind", key.kind.kind().to_owned())];
        self.reporter.metrics.scanned.get_or_create(&kind).inc();
        let rolled = state
            .memory
            .get(key)
            .into_iter()
            .flat_map(|memory| memory.rolled.iter().rev());
        let rolled: Vec<_> = rolled.map(|then| now.saturating_duration_since(*then)).collect();
        let observed = Observed {
            workload: &workload,
            dependencies: state.index.dependencies(&workload),
            rolled: &rolled,
        };
        let plan = decide::decide(&observed, &self.config.settings);
        if matches!(plan, Plan::Roll { .. } | Plan::Hold { .. }) {
            self.reporter.metrics.matched.get_or_create(&kind).inc();
            state.pending.insert(key.clone());
        } else {
            state.pending.remove(key);
        }
        let clock = Timestamp::now();
        if plan == Plan::Nothing
            && !self.config.dry_run
            && let Some(message) = revert::told(&workload, clock)
        {
            self.tell(&mut state, &workload, "reverted", "Reverted", message);
        }
        match pause::standing(&workload.pause, clock) {
            pause::Standing::Over => return Some(Step::resume(&workload)),
            pause::Standing::Paused(rest) if plan == Plan::Nothing => return Some(Step::Wait(now + rest)),
            pause::Standing::Paused(_) | pause::Standing::Running => {}
        }
        if plan == Plan::Nothing && workload.evicting.is_some() {
            return Some(Step::Evict(Box::new(workload)));
        }
        let rolls = matches!(plan, Plan::Roll { .. }) && !self.config.dry_run;
        if let Plan::Roll { changes, .. } = &plan {
            let fan = Fan {
                index: &state.index,
                rolling: &state.rolling,
                settings: &self.config.settings,
                cap: self.config.cap,
                halt: self.config.halt,
                now: clock,
            };
            let pause = PAUSE.max(SHARE * u32::try_from(state.pending.len()).unwrap_or(u32::MAX));
            match fan.gate(&workload, changes) {
                Gate::Open => {}
                Gate::Circle(way) => {
                    let blocked = Blocked::circle(&way);
                    self.tell(
                        &mut state,
                        &workload,
                        blocked.metric,
                        blocked.event,
                        blocked.message,
                    );
                }
                gate => return Some(self.closed(&workload, gate, now, pause)),
            }
        }
        let writing = Writing {
            keyer: &self.keyer,
            strategy: self.config.strategy,
            now: clock,
            paused_at: &self.config.keys.paused_at,
            prune: self.config.prune,
        };
        let step = Step::new(&writing, &workload, plan);
        if rolls {
            state.rolling.insert(key.clone());
        }
        step
    }

    // A dry run waits for the same.
    fn closed(&self, workload: &Workload, gate: Gate, now: Instant, pause: Duration) -> Step {
        match gate {
            Gate::Full => {
                self.reporter.skipped("max_rollouts");
                Step::Wait(now + pause)
            }
            Gate::Before(others) => {
                self.reporter.skipped("after");
                tracing::debug!(workload = %workload.key, ?others, "waits for others");
                Step::Wait(now + pause)
            }
            Gate::Window(wait) => {
                self.reporter.skipped("window");
                Step::Wait(now + wait.min(WINDOW_PAUSE))
            }
            Gate::Halted(failed) => {
                let blocked = Blocked::halted(&failed, pause.max(Duration::from_secs(2)));
                Step::Blocked(Box::new(workload.clone()), blocked)
            }
            Gate::Unreadable(problem) => {
                Step::Blocked(Box::new(workload.clone()), Blocked::annotation(&problem))
            }
            Gate::Open | Gate::Circle(_) => Step::Wait(now),
        }
    }
}
