//! From a plan to the write that carries it out. Pure but for [`Write::perform`].

use std::time::{Duration, Instant};

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use crate::{
    act::Writer,
    annotations::Problem,
    decide::{Change, Plan, Recorded},
    error::Error,
    index::Unwritten,
    keys::{Keys, SOURCES},
    kinds::WorkloadKind,
    patch::Writing,
    pause,
    source::SourceKey,
    state::Baseline,
    workload::{LastTrigger, Workload, WorkloadKey},
};

/// What to do next with a workload.
#[derive(Debug)]
pub(crate) enum Step {
    /// Look again at this time.
    Wait(Instant),
    /// It cannot be rolled now, which is to be told.
    Blocked(Box<Workload>, Blocked),
    /// Evict its next pod.
    Evict(Box<Workload>),
    /// Write.
    Act(Box<Write>),
}

/// Why a workload cannot be rolled now.
#[derive(Debug)]
pub(crate) struct Blocked {
    pub(crate) metric: &'static str,
    pub(crate) event: &'static str,
    pub(crate) message: String,
    /// `None`: until the workload or a source changes.
    pub(crate) wait: Option<Duration>,
}

impl Blocked {
    /// An annotation has to be corrected first.
    pub(crate) fn annotation(problem: &Problem) -> Self {
        Self {
            metric: "invalid_annotation",
            event: "InvalidAnnotation",
            message: format!("Not rolled: {problem}. Correct the annotation and it is rolled"),
            wait: None,
        }
    }

    /// Another workload's rollout for the same content has failed.
    pub(crate) fn halted(failed: &WorkloadKey, wait: Duration) -> Self {
        Self {
            metric: "halted",
            event: "Halted",
            message: format!(
                "Not rolled: the rollout of {failed} for the same content has failed. Correct the content, \
                 or mend that workload, and this one is rolled"
            ),
            wait: Some(wait),
        }
    }

    /// Workloads name one another as to come before.
    pub(crate) fn circle(way: &[WorkloadKey]) -> Self {
        let way: Vec<_> = way.iter().map(ToString::to_string).collect();
        Self {
            metric: "circle",
            event: "InvalidAnnotation",
            message: format!(
                "Its place in the order is ignored: by their annotations {} these come after one another in a circle: {}",
                crate::keys::AFTER,
                way.join(", ")
            ),
            wait: None,
        }
    }
}

/// A write and what is to be told of it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) workload: Workload,
    pub(crate) changes: Vec<Change>,
    pub(crate) recorded: Option<(Recorded, Vec<SourceKey>)>,
    pub(crate) baseline: Option<Baseline>,
    how: How,
}

#[derive(Debug)]
enum How {
    Apply(Value),
    // As one strategic merge, because only that can take away what is not ours.
    Merge(Value),
    // A CronJob: run it, then write this.
    Run(Value),
    // A Job: make it anew with these annotations.
    Rerun(Value),
    Resume,
}

impl Step {
    pub(crate) fn new(writing: &Writing<'_>, workload: &Workload, plan: Plan) -> Option<Self> {
        match plan {
            Plan::Nothing => None,
            Plan::Record { baseline, why, stale } => Some(Self::Act(Box::new(Write {
                how: How::Apply(writing.record(workload, &baseline)),
                workload: workload.clone(),
                changes: Vec::new(),
                recorded: Some((why, stale)),
                baseline: Some(baseline),
            }))),
            Plan::Hold { wait, changes } => {
                let sources: Vec<_> = changes.iter().map(|change| change.source.to_string()).collect();
                let message = format!(
                    "{} keeps changing: this workload was rolled as often as --flap-limit allows and is held; \
                     the latest content follows. Find out who writes it, or raise --flap-limit",
                    sources.join(", ")
                );
                let blocked = Blocked {
                    metric: "flapping",
                    event: "Flapping",
                    message,
                    wait: Some(wait),
                };
                Some(Self::Blocked(Box::new(workload.clone()), blocked))
            }
            Plan::Roll { baseline, changes } => match pause::beside(&workload.pause) {
                Err(problem) => {
                    let blocked = Blocked::annotation(&problem);
                    Some(Self::Blocked(Box::new(workload.clone()), blocked))
                }
                Ok(beside) => Some(Self::Act(Box::new(Write {
                    how: match workload.key.kind {
                        WorkloadKind::CronJob => How::Run(writing.ran(workload, &baseline, &changes)),
                        WorkloadKind::Job => How::Rerun(writing.ran(workload, &baseline, &changes)),
                        _ if workload.selector.is_some() => {
                            How::Apply(writing.evict(workload, &baseline, &changes))
                        }
                        _ => match writing.pruned(workload, &baseline, &changes, beside) {
                            Some(body) => How::Merge(body),
                            None => How::Apply(writing.roll(workload, &baseline, &changes, beside)),
                        },
                    },
                    workload: workload.clone(),
                    changes,
                    recorded: None,
                    baseline: Some(baseline),
                }))),
            },
        }
    }

    pub(crate) fn resume(workload: &Workload) -> Self {
        let workload = workload.clone();
        Self::Act(Box::new(Write {
            workload,
            changes: Vec::new(),
            recorded: None,
            baseline: None,
            how: How::Resume,
        }))
    }
}

impl Write {
    /// What it would leave on the workload, for where that may not be written.
    pub(crate) fn unwritten(&self, now: Timestamp) -> Option<Unwritten> {
        let last = self.workload.last_trigger.as_ref();
        let first = u64::try_from(now.as_second()).unwrap_or_default();
        // The next Job of a CronJob is named by this number: it must not begin at 1 in each process.
        let count = last.map_or(first, |last| last.count);
        Some(Unwritten {
            baseline: self.baseline.clone()?,
            trigger: LastTrigger {
                count: if self.changes.is_empty() { count } else { count + 1 },
                at: now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                sources: self
                    .changes
                    .iter()
                    .map(|change| change.source.to_string())
                    .collect(),
            },
        })
    }

    /// Writes. Returns the workload as it is now, if that is known.
    pub(crate) async fn perform(&self, writer: &Writer, keys: &Keys) -> Result<Option<Workload>, Error> {
        match &self.how {
            How::Apply(body) => writer.apply(&self.workload.key, body).await.map(Some),
            How::Merge(body) => writer.merge(&self.workload.key, body).await.map(Some),
            How::Run(state) => {
                let trigger = self.workload.last_trigger.as_ref().map_or(0, |last| last.count) + 1;
                let annotations = state.pointer("/metadata/annotations");
                let seen = annotations
                    .and_then(|all| all.get(SOURCES))
                    .and_then(Value::as_str)
                    .unwrap_or_default();
                writer.runner().run_now(&self.workload, trigger, seen).await?;
                writer.apply(&self.workload.key, state).await.map(Some)
            }
            How::Rerun(state) => {
                let annotations = state.pointer("/metadata/annotations").and_then(Value::as_object);
                let annotations = annotations.cloned().unwrap_or_default();
                // The new Job's own event brings it back.
                writer
                    .runner()
                    .rerun(&self.workload, &annotations)
                    .await
                    .map(|()| None)
            }
            How::Resume => writer.resume(&self.workload, keys).await.map(Some),
        }
    }
}
