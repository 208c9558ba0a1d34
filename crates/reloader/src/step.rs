//! From a plan to the write that carries it out. Pure but for [`Write::perform`].

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::{
    act::Writer,
    decide::{Change, Plan, Recorded},
    error::Error,
    keys::Keys,
    patch::Writing,
    pause,
    source::SourceKey,
    workload::Workload,
};

/// What to do next with a workload.
#[derive(Debug)]
pub(crate) enum Step {
    /// Look again at this time.
    Wait(Instant),
    /// It cannot be rolled now, which is to be told.
    Blocked(Box<Workload>, Blocked),
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

/// A write and what is to be told of it.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) workload: Workload,
    pub(crate) changes: Vec<Change>,
    pub(crate) recorded: Option<(Recorded, Vec<SourceKey>)>,
    how: How,
}

#[derive(Debug)]
enum How {
    Apply(Value),
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
                    let message = format!("Not rolled: {problem}. Correct the annotation and it is rolled");
                    let event = "InvalidAnnotation";
                    let blocked = Blocked {
                        metric: "invalid_annotation",
                        event,
                        message,
                        wait: None,
                    };
                    Some(Self::Blocked(Box::new(workload.clone()), blocked))
                }
                Ok(beside) => Some(Self::Act(Box::new(Write {
                    how: How::Apply(writing.roll(workload, &baseline, &changes, beside)),
                    workload: workload.clone(),
                    changes,
                    recorded: None,
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
            how: How::Resume,
        }))
    }
}

impl Write {
    /// Writes. Returns the workload as it is now, if that is known.
    pub(crate) async fn perform(&self, writer: &Writer, keys: &Keys) -> Result<Option<Workload>, Error> {
        match &self.how {
            How::Apply(body) => writer.apply(&self.workload.key, body).await.map(Some),
            How::Resume => writer.resume(&self.workload, keys).await.map(Some),
        }
    }
}
