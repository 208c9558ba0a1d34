//! Workloads come and go.

use std::collections::HashSet;

use super::{Index, News, Scope, at_home, has_expression, users_of};
use crate::{
    kinds::{Progress, WorkloadKind},
    source::SourceKind,
    state::Baseline,
    workload::{LastTrigger, Workload, WorkloadKey},
};

/// What would have been written to a workload, if that were allowed: kept as long as this process lives.
#[derive(Debug, Clone)]
pub struct Unwritten {
    /// Its state.
    pub baseline: Baseline,
    /// When and why it was rolled last.
    pub trigger: LastTrigger,
}

impl Index {
    /// Takes in a workload. Returns whether it has to be looked at.
    pub fn put_workload(&mut self, mut workload: Workload, news: News) -> bool {
        if workload.controlled || !workload.policy.opted_in(self.auto_all) {
            self.remove_workload(&workload.key);
            return false;
        }
        let local = (workload.key.kind, workload.key.name.clone());
        let known = self
            .namespaces
            .get(&workload.key.namespace)
            .and_then(|namespace| namespace.workloads.get(&local));
        if let Some(known) = known.filter(|known| known.uid == workload.uid) {
            // An event that was on its way while our own write was answered.
            if news == News::Happened && workload.version != 0 && workload.version < known.version {
                return false;
            }
            // As it was observed it has none: what was read stays until it is read again.
            let unread = workload.template_of.is_some() && workload.containers.is_empty();
            if unread && workload.template_of == known.template_of {
                workload.use_template_of(known);
            }
            workload.template_since = if known.template == workload.template {
                known.template_since
            } else {
                (news == News::Happened).then_some(workload.version)
            };
        } else {
            workload.template_since = (news == News::Happened).then_some(workload.version);
        }
        self.remove_workload(&workload.key);
        if let Some((uid, unwritten)) = self.unwritten.get(&workload.key)
            && *uid == workload.uid
        {
            // It is newer than what was written when that was allowed.
            workload.baseline = Some(unwritten.baseline.clone());
            workload.last_trigger = Some(unwritten.trigger.clone());
        }
        let namespace = self.namespaces.entry(workload.key.namespace.clone()).or_default();
        for source in users_of(&workload) {
            let users = namespace.users.entry(source).or_default();
            if let Err(place) = users.binary_search(&local) {
                users.insert(place, local.clone());
            }
        }
        if SourceKind::ALL
            .into_iter()
            .any(|kind| has_expression(&workload, kind))
        {
            namespace.expressions.insert(local.clone());
        }
        for source in workload.options.iter().flat_map(|options| &options.foreign) {
            let users = self.foreign.entry(at_home(source)).or_default();
            users.insert(workload.key.clone());
        }
        if workload.last_trigger.is_some() {
            let set = match workload.progress {
                Progress::Running => Some(&mut self.running),
                Progress::Failed => Some(&mut self.failed),
                Progress::Done => None,
            };
            set.map(|set| set.insert(workload.key.clone()));
        }
        if workload.opts(|options| options.canary) {
            self.canaries.insert(workload.key.clone());
        }
        namespace.workloads.insert(local, workload);
        true
    }

    /// A workload's template is that of another one, which has been read.
    pub fn use_template_of(&mut self, key: &WorkloadKey, other: &Workload) -> bool {
        let Some(workload) = self.workload(key) else {
            return false;
        };
        if workload.template == other.template && workload.references == other.references {
            return false;
        }
        let mut workload = workload.clone();
        workload.use_template_of(other);
        self.put_workload(workload, News::Listed)
    }

    /// Keeps what could not be written to a workload.
    pub fn remember(&mut self, key: &WorkloadKey, uid: &str, unwritten: Unwritten) {
        let namespace = self.namespaces.get_mut(&key.namespace);
        let local = (key.kind, key.name.clone());
        if let Some(workload) = namespace.and_then(|namespace| namespace.workloads.get_mut(&local)) {
            workload.baseline = Some(unwritten.baseline.clone());
            workload.last_trigger = Some(unwritten.trigger.clone());
        }
        self.unwritten.insert(key.clone(), (uid.to_owned(), unwritten));
    }

    /// A workload was written: what it holds counts from now on.
    pub fn written(&mut self, workload: Workload) {
        self.unwritten.remove(&workload.key);
        self.put_workload(workload, News::Happened);
    }

    /// A workload is gone for good.
    pub fn forget(&mut self, key: &WorkloadKey) {
        self.remove_workload(key);
        self.unwritten.remove(key);
    }

    /// A workload is gone.
    pub fn remove_workload(&mut self, key: &WorkloadKey) {
        let Some(namespace) = self.namespaces.get_mut(&key.namespace) else {
            return;
        };
        let local = (key.kind, key.name.clone());
        let Some(workload) = namespace.workloads.remove(&local) else {
            return;
        };
        for source in users_of(&workload) {
            if let Some(users) = namespace.users.get_mut(&source) {
                if let Ok(place) = users.binary_search(&local) {
                    users.remove(place);
                }
                if users.is_empty() {
                    namespace.users.remove(&source);
                }
            }
        }
        namespace.expressions.remove(&local);
        for set in [&mut self.running, &mut self.failed, &mut self.canaries] {
            set.remove(key);
        }
        for source in workload.options.iter().flat_map(|options| &options.foreign) {
            let home = at_home(source);
            if let Some(users) = self.foreign.get_mut(&home) {
                users.remove(key);
                if users.is_empty() {
                    self.foreign.remove(&home);
                }
            }
        }
    }

    /// A list of workloads is complete: what it did not contain is gone.
    pub fn listed_workloads(&mut self, scope: &Scope<WorkloadKind>, seen: &HashSet<(String, String)>) {
        let gone: Vec<_> = self
            .workloads()
            .map(|workload| &workload.key)
            .filter(|key| key.kind == scope.kind)
            .filter(|key| scope.namespace.as_ref().is_none_or(|only| *only == key.namespace))
            .filter(|key| !seen.contains(&(key.namespace.clone(), key.name.clone())))
            .cloned()
            .collect();
        for key in gone {
            self.remove_workload(&key);
        }
    }
}
