//! One look at a Kustomization, from its source to its status.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, runtime::controller::Action};
use plumbline_common::backoff;

use crate::{
    act,
    api::{FINALIZER, Kustomization, KustomizationStatus},
    bodies::Bodies,
    cluster::live::{Need, Owner},
    context::{Context, CrossNamespace, Error, LoadKey, Memory, Waits},
    controller,
    decide::Plan,
    depends::{self, Unmet},
    drift,
    inventory::Inventory,
    manifest::{Desired, Variables},
    object::ObjectId,
    observe::{self, Observation},
    outcome,
    planning::Planned,
    prune::{self, Removal},
    report::{self, About},
    shards,
    source::{Artifact, SourceKey},
    suspend::Suspension,
    wait::{self, Standing},
};

/// How long a Kustomization with an empty budget of time goes on later.
const GO_ON: Duration = Duration::from_millis(100);

/// How long dependencies may be unready before the status says so.
const IN_A_MOMENT: Duration = Duration::from_secs(3);

/// How long a source that was never looked at is waited for before the status says that it is missing.
const FIRST_FETCH: Duration = Duration::from_secs(3);

/// One look.
pub struct Step<'a> {
    /// What the controller works with.
    pub context: &'a Context,
    /// The Kustomization.
    pub object: &'a Kustomization,
    /// Its name.
    pub owner: &'a Owner,
    /// What its status is about.
    pub about: About<'a>,
    /// When the look began.
    pub begun: Instant,
}

impl Step<'_> {
    /// Brings the cluster to what Git wants.
    pub async fn reconcile(&self, memory: &mut Memory) -> Result<Action, Error> {
        let old = self.status(memory);
        if let Some((reason, message)) = self.refusal() {
            let new = report::stalled(&old, reason, &message, self.about);
            self.tell_failure(&old, &new, "");
            self.context.write_status(self.owner, memory, &old, new).await?;
            return Ok(Action::await_change());
        }
        if !controller::has_finalizer(self.object) {
            let mut finalizers = self.object.finalizers().to_vec();
            finalizers.push(FINALIZER.to_owned());
            self.context.write_finalizers(self.object, finalizers).await?;
        }
        let artifact = match self.artifact() {
            Ok(artifact) => artifact,
            Err(message) => {
                // After a start the sources are on their way: what the status says is not yet wrong.
                let since = *memory.waiting_since.get_or_insert(self.begun);
                if let Some(left) = FIRST_FETCH.checked_sub(since.elapsed())
                    && self.context.sources.find(&self.source_key()).is_none()
                {
                    return Ok(Action::requeue(left + GO_ON));
                }
                return self.not_ready(memory, &old, "ArtifactFailed", &message, "").await;
            }
        };
        if let Some(waits) = self.dependencies(memory, &old, &artifact.revision).await? {
            return Ok(waits);
        }
        let variables = match self.variables().await {
            Ok(variables) => variables,
            Err(message) => {
                let failed = self.not_ready(memory, &old, "BuildFailed", &message, &artifact.revision);
                return failed.await;
            }
        };
        let desired = match self.desired(memory, &artifact, variables).await? {
            Ok(desired) => desired,
            Err(error) => {
                return self
                    .not_ready(
                        memory,
                        &old,
                        "ArtifactFailed",
                        &error.to_string(),
                        &artifact.revision,
                    )
                    .await;
            }
        };
        self.apply(memory, old, &artifact, &desired).await
    }

    /// Whether it is suspended now.
    pub(crate) fn is_suspended(&self) -> bool {
        Suspension::of(self.object.spec.suspend, &self.object.metadata, self.about.now).is_active()
    }

    /// The status as it is, which is newer than what the watch shows where we wrote it.
    pub(crate) fn status(&self, memory: &Memory) -> KustomizationStatus {
        memory
            .status
            .clone()
            .or_else(|| self.object.status.clone())
            .unwrap_or_default()
    }

    pub(crate) fn refusal(&self) -> Option<(&'static str, String)> {
        let spec = &self.object.spec;
        let unsupported = observe::unsupported(spec);
        if !unsupported.is_empty() {
            let message = format!(
                "not supported yet: {}. Nothing is applied, because the result would not be what is asked for",
                unsupported.join(", ")
            );
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
        if let Err(message) = drift::Mode::of(self.object.annotations()) {
            return Some(("InvalidField", message));
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
        let foreign = depends::dependencies(self.object).find(|on| on.namespace != self.owner.namespace);
        if let Some(on) = foreign
            && self.context.settings.cross_namespace == CrossNamespace::Refused
        {
            let message = format!(
                "the dependency {}/{} is in another namespace, which is not allowed \
                 (--no-cross-namespace-refs=false allows it)",
                on.namespace, on.name
            );
            return Some(("AccessDenied", message));
        }
        None
    }

    pub(crate) fn source_key(&self) -> SourceKey {
        controller::source_key(&self.object.spec, &self.owner.namespace)
    }

    fn artifact(&self) -> Result<Arc<Artifact>, String> {
        let key = self.source_key();
        let name = format!("GitRepository {}/{}", key.0, key.1);
        let state = self
            .context
            .sources
            .find(&key)
            .ok_or_else(|| format!("{name} does not exist, or was not fetched yet"))?;
        state.artifact.ok_or_else(|| match state.problem {
            Some(problem) => format!("{name} has nothing to apply: {problem}"),
            None => format!("{name} was not fetched yet"),
        })
    }

    async fn not_ready(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        reason: &str,
        message: &str,
        revision: &str,
    ) -> Result<Action, Error> {
        let mut new = report::not_ready(old, reason, message, self.about);
        if !revision.is_empty() {
            new.last_attempted_revision = Some(revision.to_owned());
        }
        self.tell_failure(old, &new, revision);
        self.context.write_status(self.owner, memory, old, new).await?;
        // A change of the source brings us back; the interval is only a second chance.
        Ok(Action::requeue(controller::retry_interval(&self.object.spec)))
    }

    /// What to do when it has to wait for others; `None` when it has not.
    async fn dependencies(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        revision: &str,
    ) -> Result<Option<Action>, Error> {
        let find = |owner: &Owner| self.context.find(owner);
        let message = match depends::unmet(self.object, revision, &find) {
            None => {
                memory.blocked_since = None;
                return Ok(None);
            }
            Some(Unmet::NotReady(message)) => {
                // Those it waits for were woken by the same commit: what is over in a moment is not worth a status.
                let since = *memory.blocked_since.get_or_insert(self.begun);
                if let Some(left) = IN_A_MOMENT.checked_sub(since.elapsed()) {
                    return Ok(Some(Action::requeue(left + GO_ON)));
                }
                message
            }
            Some(Unmet::Cycle(message)) => message,
        };
        let waits = self.not_ready(memory, old, "DependencyNotReady", &message, revision);
        waits.await.map(Some)
    }

    /// What Git wants.
    pub(crate) async fn desired(
        &self,
        memory: &mut Memory,
        artifact: &Arc<Artifact>,
        variables: Option<Arc<Variables>>,
    ) -> Result<Result<Arc<Desired>, observe::LoadError>, Error> {
        let path = self
            .object
            .spec
            .path
            .clone()
            .filter(|path| !path.is_empty())
            .unwrap_or_else(|| ".".into());
        let key = LoadKey {
            revision: artifact.revision.clone(),
            path,
            variables: variables.as_deref().map(Variables::digest).copied(),
            artifact: artifact.digest.clone(),
        };
        if let Some((known, desired)) = &memory.desired
            && *known == key
        {
            return Ok(Ok(Arc::clone(desired)));
        }
        let (artifact, cache, path) = (Arc::clone(artifact), Arc::clone(&memory.cache), key.path.clone());
        let load = move || {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            observe::manifests(&artifact, &path, variables, &mut cache)
        };
        match tokio::task::spawn_blocking(load).await? {
            Ok(desired) => {
                let desired = Arc::new(desired);
                memory.desired = Some((key, Arc::clone(&desired)));
                Ok(Ok(desired))
            }
            Err(error) => Ok(Err(error)),
        }
    }

    /// Asks for the API server's kinds where some are unknown and may have come since they were last asked for.
    async fn learn_kinds(&self, memory: &mut Memory, desired: &Desired) -> Result<(), Error> {
        let kinds = &self.context.kinds;
        if observe::unknown_kinds(desired, kinds).is_empty() {
            memory.kinds_asked = None;
            return Ok(());
        }
        let asked = kinds.asked().await;
        let known = memory.kinds_asked.unwrap_or_default();
        let news = self.context.kinds_news.load(std::sync::atomic::Ordering::Relaxed);
        // Kinds that come with an APIService announce themselves by nothing: they are asked for at the retry interval.
        let retry = controller::retry_interval(&self.object.spec);
        let long_ago = memory.kinds_asked_at.is_none_or(|at| at.elapsed() >= retry);
        if asked == 0 || known < news || long_ago || memory.requested.as_deref() != self.about.requested {
            kinds.refresh_since(asked).await.map_err(Error::Discovery)?;
            memory.kinds_asked_at = Some(Instant::now());
        }
        memory.kinds_asked = Some(news);
        Ok(())
    }

    async fn apply(
        &self,
        memory: &mut Memory,
        mut old: KustomizationStatus,
        artifact: &Arc<Artifact>,
        desired: &Arc<Desired>,
    ) -> Result<Action, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        self.learn_kinds(memory, desired).await?;
        let known = memory.inventory.take();
        let before = match shards::read(&context.client, &old, known, &self.home()).await {
            Ok(recorded) => recorded,
            Err(message) => {
                let failed =
                    self.not_ready(memory, &old, "ReconciliationFailed", &message, &artifact.revision);
                return failed.await;
            }
        };
        let Planned {
            overlay,
            mut seen,
            mut recorded,
            inventory,
            mut plan,
        } = self.plan(before, artifact, desired);
        let left = {
            let found = drift::Found {
                desired,
                overlay: &overlay,
                artifact,
                inventory: &inventory,
                is_old_revision: old.last_applied_revision.as_deref() == Some(&artifact.revision)
                    && old.observed_generation == Some(self.about.generation),
            };
            self.leave_drift(memory, &mut seen, &found).await?
        };
        plan.apply
            .retain(|(_, index)| !matches!(seen.candidates[*index].need, Need::Left | Need::Nothing));
        if let Some(ahead) = plan.write_ahead.take() {
            let before = recorded;
            recorded = before.with(ahead);
            let new = report::started(&old, &artifact.revision, recorded.written.clone(), self.about);
            self.write_recorded(memory, (&before, &recorded), &old, new.clone())
                .await?;
            old = new;
        }
        let outcome = if plan.apply.is_empty() {
            act::Outcome::default()
        } else {
            self.write(&plan, &seen, desired, artifact, &overlay).await?
        };
        let standing = if !wait::is_asked(spec) {
            memory.waiting = None;
            Standing::NotAsked
        } else if outcome.failed.is_empty() && outcome.untried == 0 && observe::all_applied(&seen, desired) {
            let acted = !outcome.applied.is_empty();
            let revision = &artifact.revision;
            self.standing(memory, &seen, desired, revision, acted).await?
        } else {
            Standing::Unchecked
        };
        let removals = if plan.delete.is_empty() || !standing.allows_pruning() {
            BTreeMap::new()
        } else {
            self.remove(&plan, &seen, desired, &outcome, &inventory).await?
        };
        context.park(
            owner,
            if seen.parked.is_empty() {
                Waits::ForNothing
            } else {
                Waits::ForKinds
            },
        );

        let before = recorded.clone();
        let after = outcome::inventory_after(&recorded.entries, &inventory, &seen, &outcome, &removals);
        if let Some(after) = after {
            recorded = recorded.with(after);
        } else if recorded.written.is_none() {
            recorded = recorded.with(Inventory::new());
        }
        let result = outcome::summary(owner, &plan, &seen, desired, artifact, &outcome, &removals);
        let result = report::Result {
            inventory: recorded.written.clone(),
            took: self.begun.elapsed(),
            standing,
            ..result
        };
        let mut new = report::finished(&old, &result, self.about);
        drift::mark(&mut new.conditions, &left, self.about);
        self.tell(&old, &new, &outcome, &removals, &artifact.revision);
        self.write_recorded(memory, (&before, &recorded), &old, new)
            .await?;
        memory.inventory = Some(recorded);
        let next = self.next(&seen, &outcome);
        let soon = result.standing.next();
        Ok(Action::requeue(soon.map_or(next, |soon| soon.min(next))))
    }

    async fn write(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        artifact: &Arc<Artifact>,
        overlay: &crate::manifest::Overlay,
    ) -> Result<act::Outcome, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let client = context.client_for(spec, &owner.namespace)?;
        let tools = act::Tools {
            client: &client,
            in_flight: &context.in_flight,
            concurrency: context.settings.concurrency,
            live: &context.live,
            watches: &context.watches,
            override_managers: &context.settings.override_managers,
            owner,
            overlay,
            retry: controller::retry_interval(spec),
            deadline: self.begun + controller::timeout(spec),
            revision: &artifact.revision,
        };
        let bodies = Bodies::new(artifact.snapshot.clone(), desired);
        Ok(act::apply(&tools, plan, seen, desired, &bodies).await)
    }

    async fn remove(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        outcome: &act::Outcome,
        inventory: &Inventory,
    ) -> Result<BTreeMap<ObjectId, Removal>, Error> {
        let client = self
            .context
            .client_for(&self.object.spec, &self.owner.namespace)?;
        let mut troubled = act::troubled_kinds(outcome, seen, desired);
        if outcome.untried > 0 {
            // Not everything was tried: deletions have time.
            troubled.extend(plan.delete.iter().map(|id| (id.group.clone(), id.kind.clone())));
        }
        let tools = self.prune_tools(&client);
        Ok(prune::prune(&tools, &plan.delete, inventory, &troubled).await)
    }

    /// What deleting needs, as the identity of `client`.
    pub(crate) fn prune_tools<'t>(&'t self, client: &'t kube::Client) -> prune::Tools<'t> {
        prune::Tools {
            client,
            in_flight: &self.context.in_flight,
            concurrency: self.context.settings.concurrency,
            kinds: &self.context.kinds,
            live: &self.context.live,
            owner: self.owner,
        }
    }

    /// When to look again if nothing happens before.
    fn next(&self, seen: &Observation, outcome: &act::Outcome) -> Duration {
        if outcome.untried > 0 {
            return GO_ON;
        }
        let mut next = controller::interval(&self.object.spec);
        if !outcome.failed.is_empty() {
            // The failures' own delays are asked for in the next look.
            next = next.min(Duration::from_secs(1));
        }
        for candidate in &seen.candidates {
            if let Need::Failed(_, left) | Need::Flapping(left) = candidate.need {
                next = next.min(left.max(Duration::from_millis(100)));
            }
        }
        if seen.parked.is_empty() {
            backoff::jitter(next, self.context.settings.jitter, rand::random())
        } else {
            next.min(controller::retry_interval(&self.object.spec))
        }
    }
}
