//! One look at a Kustomization, from its source to its status.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

use kube::{ResourceExt as _, runtime::controller::Action};
use plumbline_common::backoff;

use crate::{
    act,
    api::{FINALIZER, Kustomization, KustomizationStatus, ON_UNHEALTHY},
    atomic::{self, FailurePolicy},
    bodies::Bodies,
    build::Transformations,
    cascade::{Cascade, Occupied, Scope, as_kustomization},
    cluster::{
        identity::ClusterId,
        live::{Need, Owner},
        requests::RequestError,
        target::{TargetCluster, Waits},
    },
    context::{Context, CrossNamespace, Error, LoadKey, Memory},
    controller,
    decide::{Held, Plan},
    depends, drift,
    hand_over::Awaited,
    health,
    ignored::Rules,
    inventory::Inventory,
    manifest::{Desired, Overlay, Variables},
    object::ObjectId,
    observe::{self, Observation},
    outcome,
    planning::Planned,
    prune::{self, Removal},
    remote::{Purpose, Reached},
    report::{self, About},
    returning::{OnUnhealthy, Target},
    shards,
    source::{Artifact, SourceKey},
    suspend::Suspension,
    wait::{self, Standing},
};

/// How long a Kustomization with an empty budget of time goes on later.
pub(crate) const GO_ON: Duration = Duration::from_millis(100);

/// When a Kustomization looks again whose objects are on their way from or to another one; it is called before, as a rule.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// How long objects may be on their way before the status says so.
pub(crate) const IN_A_MOMENT: Duration = Duration::from_secs(3);

/// How long a source that was never looked at is waited for before the status says that it is missing.
const FIRST_FETCH: Duration = Duration::from_secs(3);

/// One look.
pub struct Step<'a> {
    /// What the controller works with.
    pub context: &'a Context,
    /// The cluster that it is applied to; our own until another one is reached.
    pub cluster: Arc<TargetCluster>,
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
        let old = self.noted(memory).await?;
        if let Some((reason, message)) = self.refusal() {
            self.is_stuck();
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
        match self.reach(memory, old, Purpose::Apply).await? {
            Reached::Cluster(cluster, old) => self.at(cluster).reconcile_there(memory, old).await,
            Reached::Not(action) => Ok(action),
        }
    }

    async fn reconcile_there(
        &self,
        memory: &mut Memory,
        mut old: KustomizationStatus,
    ) -> Result<Action, Error> {
        let artifact = match self.artifact() {
            Ok(artifact) => artifact,
            Err(message) => {
                self.is_stuck();
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
        let target = match self.target(memory, &mut old, &artifact).await? {
            Ok(target) => target,
            Err(waits) => return Ok(waits),
        };
        // Before it waits for others: they may have to know what it wants.
        let loaded = match self.variables().await {
            Ok(variables) => {
                let desired = self.desired(memory, &target.artifact, variables).await?;
                desired.map_err(|error| (error.reason(), error.to_string()))
            }
            Err(message) => Err(("BuildFailed", message)),
        };
        match &loaded {
            Ok(desired) => {
                let waited = self.set_wish(&artifact.digest, desired);
                self.context.wake_all(waited);
            }
            Err(_) => self.is_stuck(),
        }
        // What it returns to was not held back when it was new.
        if target.returned.is_none()
            && let Some(waits) = self.dependencies(memory, &old, &artifact.revision).await?
        {
            if let Ok(desired) = &loaded {
                self.hand_over(memory, desired, &artifact.revision).await?;
            }
            return Ok(waits);
        }
        let desired = match loaded {
            Ok(desired) => desired,
            Err((reason, message)) => {
                let failed = self.not_ready(memory, &old, reason, &message, &artifact.revision);
                return failed.await;
            }
        };
        self.apply(memory, old, &target, &desired).await
    }

    /// What it wants cannot be known now: nobody has to wait for it.
    pub(crate) fn is_stuck(&self) {
        let waited = self.context.wishes.stuck(self.owner);
        self.context.wake_all(waited);
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
            let mut message = format!(
                "not supported: {}. Nothing is applied, because the result would not be what is asked for",
                unsupported.join(", ")
            );
            if spec.decryption.is_some() {
                message.push_str(
                    ". Instead of SOPS: seal each Secret with kubeseal, and commit the SealedSecret",
                );
            }
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
        if let Err(message) = FailurePolicy::of(self.object) {
            return Some(("InvalidField", message));
        }
        let account = spec.service_account_name.as_deref().unwrap_or_default();
        if !account
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c))
        {
            let message = format!("spec.serviceAccountName: {account:?} is not the name of a ServiceAccount");
            return Some(("InvalidField", message));
        }
        if let Err(message) = Rules::parse(&spec.ignore) {
            return Some(("InvalidField", message));
        }
        let checks = health::Checks::parse(&spec.health_check_exprs).map(drop);
        if let Err(message) = checks.and_then(|()| depends::check(self.object)) {
            return Some(("InvalidCELExpression", message));
        }
        if let Err(message) = drift::Mode::of(self.object.annotations()) {
            return Some(("InvalidField", message));
        }
        match OnUnhealthy::of(self.object.annotations()) {
            Err(message) => return Some(("InvalidField", message)),
            Ok(OnUnhealthy::Return) if !wait::is_asked(spec) => {
                let message =
                    format!("the annotation {ON_UNHEALTHY}: Return needs spec.wait or spec.healthChecks");
                return Some(("InvalidField", message));
            }
            Ok(_) => {}
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
        if let Err(message) = depends::object::check(self.object) {
            return Some(("InvalidField", message));
        }
        if let Some((namespace, name)) = depends::object::foreign(self.object, &self.owner.namespace)
            && self.context.settings.cross_namespace == CrossNamespace::Refused
        {
            let message = format!(
                "the dependency {namespace}/{name} is in another namespace, which is not allowed \
                 (--no-cross-namespace-refs=false allows it)"
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

    pub(crate) async fn not_ready(
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

    /// What Git wants.
    pub(crate) async fn desired(
        &self,
        memory: &mut Memory,
        artifact: &Arc<Artifact>,
        variables: Option<Arc<Variables>>,
    ) -> Result<Result<Arc<Desired>, Arc<observe::LoadError>>, Error> {
        let spec = &self.object.spec;
        let path = spec.path.clone().filter(|path| !path.is_empty());
        let transformations = Transformations::of(spec);
        let key = LoadKey {
            revision: artifact.revision.clone(),
            path: path.unwrap_or_else(|| ".".into()),
            variables: variables.as_deref().map(Variables::digest).copied(),
            transformations: transformations.digest(),
            artifact: artifact.digest.clone(),
        };
        // The same files fail in the same way, unless it was the time that was short.
        let retry = controller::retry_interval(spec);
        let asked = memory.requested.as_deref() != self.about.requested;
        let again = asked
            || memory
                .load_failed
                .as_ref()
                .is_some_and(|(_, at, _)| at.elapsed() >= retry);
        match &memory.load_failed {
            Some((known, _, Some(error))) if *known == key && !again => return Ok(Err(Arc::clone(error))),
            Some((known, ..)) if *known == key => {}
            _ => memory.load_failed = None,
        }
        if let Some((known, desired)) = &memory.desired
            && *known == key
            && !(desired.build_failed && again)
        {
            return Ok(Ok(Arc::clone(desired)));
        }
        let (artifact, cache, path) = (Arc::clone(artifact), Arc::clone(&memory.cache), key.path.clone());
        let (builder, timeout) = (Arc::clone(&self.context.builder), controller::timeout(spec));
        let load = move || {
            let mut cache = cache.lock().unwrap_or_else(PoisonError::into_inner);
            let build = observe::Build {
                builder: &builder,
                transformations,
                timeout,
            };
            observe::manifests(&artifact, &path, &build, variables, &mut cache)
        };
        match tokio::task::spawn_blocking(load).await? {
            Ok(desired) => {
                let desired = Arc::new(desired);
                memory.load_failed = desired.build_failed.then(|| (key.clone(), Instant::now(), None));
                memory.desired = Some((key, Arc::clone(&desired)));
                Ok(Ok(desired))
            }
            Err(error) => {
                let error = Arc::new(error);
                memory.load_failed = Some((key, Instant::now(), Some(Arc::clone(&error))));
                Ok(Err(error))
            }
        }
    }

    /// Asks for the API server's kinds where some are unknown and may have come since they were last asked for.
    async fn learn_kinds(&self, memory: &mut Memory, desired: &Desired) -> Result<(), Error> {
        let kinds = &self.cluster.kinds;
        if observe::unknown_kinds(desired, kinds).is_empty() {
            memory.kinds_asked = None;
            return Ok(());
        }
        self.ask_for_kinds(memory).await
    }

    /// The same, when it is known that some are unknown.
    pub(crate) async fn ask_for_kinds(&self, memory: &mut Memory) -> Result<(), Error> {
        let kinds = &self.cluster.kinds;
        let asked = kinds.asked().await;
        let known = memory.kinds_asked.unwrap_or_default();
        let news = self.cluster.kinds_news.load(std::sync::atomic::Ordering::Relaxed);
        // Kinds that come with an APIService announce themselves by nothing: they are asked for at the retry interval.
        let retry = controller::retry_interval(&self.object.spec);
        let long_ago = memory.kinds_asked_at.is_none_or(|at| at.elapsed() >= retry);
        if asked == 0 || known < news || long_ago || memory.requested.as_deref() != self.about.requested {
            kinds.refresh_since(asked).await?;
            memory.kinds_asked_at = Some(Instant::now());
        }
        memory.kinds_asked = Some(news);
        Ok(())
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one look from plan to status, told in order"
    )]
    async fn apply(
        &self,
        memory: &mut Memory,
        mut old: KustomizationStatus,
        target: &Target,
        desired: &Arc<Desired>,
    ) -> Result<Action, Error> {
        let (context, spec, owner) = (self.context, &self.object.spec, self.owner);
        let artifact = &target.artifact;
        if let Err(error) = self.learn_kinds(memory, desired).await {
            let about = (Purpose::Apply, artifact.revision.as_str());
            return self.undiscovered(memory, &old, error, about).await;
        }
        let planned = match self.look(memory, &old, artifact, desired).await {
            Ok(planned) => planned,
            Err(message) => {
                let revision = target.attempted();
                let failed = self.not_ready(memory, &old, "ReconciliationFailed", &message, revision);
                return failed.await;
            }
        };
        let Planned {
            overlay,
            mut seen,
            mut recorded,
            inventory,
            mut plan,
            heirs,
            cascade,
        } = planned;
        let left = {
            let found = drift::Found {
                desired,
                overlay: &overlay,
                artifact,
                inventory: &inventory,
                is_old_revision: old.last_applied_revision.as_deref() == Some(&artifact.revision)
                    && old.observed_generation == Some(self.about.generation)
                    && !target.is_returning(),
            };
            self.leave_drift(memory, &mut seen, &found).await?
        };
        plan.apply
            .retain(|(_, index)| !matches!(seen.candidates[*index].need, Need::Left | Need::Nothing));
        let moving = self.moving(&mut plan, &seen);
        if let Some(left) = self.moment(memory, moving.is_some()) {
            memory.inventory = Some(recorded);
            return Ok(Action::requeue(left));
        }
        let moving = moving.or_else(|| self.newcomer(&mut plan, &seen));
        let policy = FailurePolicy::of(self.object).unwrap_or_default();
        let bodies = Bodies::new(artifact.snapshot.clone(), desired);
        let revision = &artifact.revision;
        let mut refused = match policy {
            FailurePolicy::Isolate => Vec::new(),
            FailurePolicy::Atomic => {
                self.ask(&mut plan, &seen, desired, &bodies, (&overlay, revision))
                    .await?
            }
        };
        if let Some(ahead) = plan.write_ahead.take() {
            let before = recorded;
            recorded = before.with(ahead);
            let mut new = report::started(&old, &artifact.revision, recorded.written.clone(), self.about);
            if let Some(returned) = &target.returned {
                returned.started(&mut new, self.about);
            }
            self.write_recorded(memory, (&before, &recorded), &old, new.clone())
                .await?;
            old = new;
        }
        let mut outcome = if plan.apply.is_empty() {
            act::Outcome::default()
        } else {
            self.write(&plan, &seen, desired, &bodies, (&overlay, revision))
                .await?
        };
        outcome.failed.append(&mut refused);
        let standing = if !wait::is_asked(spec) {
            memory.waiting = None;
            Standing::NotAsked
        } else if outcome.failed.is_empty() && outcome.untried == 0 && observe::all_applied(&seen, desired) {
            let acted = !outcome.applied.is_empty();
            self.standing(memory, &seen, desired, revision, acted).await?
        } else {
            Standing::Unchecked
        };
        if !standing.allows_pruning() {
            // What takes the place of the others is not there yet, and may be so because of these.
            plan.delete.retain(prune::is_in_the_way);
        }
        let mut removals = if plan.delete.is_empty() {
            BTreeMap::new()
        } else {
            self.remove(&plan, &seen, desired, &outcome, (&inventory, &cascade))
                .await?
        };
        let moving = moving.or_else(|| leaving(&removals));
        removals.extend(self.give(&heirs));
        let is_weighed = matches!(plan.held, Some((Held::Budget { .. } | Held::Unweighed { .. }, _)));
        if !plan.occupied.is_empty() || is_weighed {
            // Others may change that.
            context.wishes.wait(owner);
        }
        context.wake_all(context.wishes.contest(owner, &seen.contested));
        let waits = if seen.parked.is_empty() {
            Waits::ForNothing
        } else {
            Waits::ForKinds
        };
        self.cluster.park(owner, waits);

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
            policy,
            moving,
            returned: target.returned.as_ref(),
            contested: [seen.contested.clone(), context.wishes.contested(owner)].concat(),
            ..result
        };
        let mut new = report::finished(&old, &result, self.about);
        drift::mark(&mut new.conditions, &left, self.about);
        let makes_way = self.make_way(memory, &old, &mut new, &result, target).await;
        self.tell(&old, &new, &outcome, &removals, &artifact.revision);
        self.write_recorded(memory, (&before, &recorded), &old, new)
            .await?;
        memory.inventory = Some(recorded);
        self.call(&heirs);
        let mut next = self.next(&seen, &outcome);
        let is_stuck = |removal: &Removal| matches!(removal, Removal::Failed(_));
        let is_unweighed = matches!(plan.held, Some((Held::Unweighed { .. }, _)));
        if desired.build_failed || is_unweighed || removals.values().any(is_stuck) {
            next = next.min(controller::retry_interval(spec));
        }
        let moving = result.moving.is_some().then_some(LOOK_AGAIN);
        let soon = moving
            .into_iter()
            .chain(result.standing.next())
            .chain(makes_way)
            .min();
        Ok(Action::requeue(soon.map_or(next, |soon| soon.min(next))))
    }

    /// What is to be done, as far as is known without changing anything. The error is about the inventory.
    async fn look(
        &self,
        memory: &mut Memory,
        old: &KustomizationStatus,
        artifact: &Artifact,
        desired: &Desired,
    ) -> Result<Planned, String> {
        let known = memory.inventory.take();
        let before = shards::read(&self.context.client, old, known, &self.home()).await?;
        let planned = self.plan(before, artifact, desired).await;
        if self.watch(&planned.seen).await? {
            return Ok(self.plan(planned.recorded, artifact, desired).await);
        }
        Ok(planned)
    }

    /// Before an object of a kind is first applied, the watch on its kind must have listed what is there: that tells objects
    /// that are ours from objects that are adopted, that belong to others, or that are to be left alone. Says whether that
    /// may have told something.
    async fn watch(&self, seen: &Observation) -> Result<bool, String> {
        let mut waits = Vec::new();
        let mut asked = HashSet::new();
        for (candidate, placed) in seen.candidates.iter().zip(&seen.placed) {
            let key = (&candidate.id.group, &candidate.id.kind);
            if candidate.need == Need::First && asked.insert(key) {
                let listed = self.cluster.watches.ensure(&placed.kind);
                waits.push(async move { (key, listed.await) });
            }
        }
        let told = !waits.is_empty();
        let listed = futures::future::join_all(waits).await.into_iter().collect();
        self.ask_singly(seen, &listed).await?;
        Ok(told)
    }

    /// Whether objects are on their way between Kustomizations, how many, and which other one is waited for. Nothing is
    /// deleted before all others have looked at what their sources have now.
    fn moving(&self, plan: &mut Plan, seen: &Observation) -> Option<(usize, Awaited)> {
        let context = self.context;
        let goes = !plan.delete.is_empty()
            || matches!(plan.held, Some((Held::Budget { .. } | Held::Unweighed { .. }, _)));
        if goes && context.unread(self.owner).is_some() {
            // First this, then a look: whoever looks in between calls back.
            context.wishes.wait(self.owner);
            if let Some(other) = context.unread(self.owner) {
                let held = plan.held.take().map_or(0, |(_, count)| count);
                let count = plan.delete.len().max(held);
                plan.kept.append(&mut plan.delete);
                return Some((count, other));
            }
        }
        let (_, other) = seen.in_transit.first()?;
        context.wishes.wait(self.owner);
        Some((seen.in_transit.len(), Awaited::Look(other.clone())))
    }

    /// A Kustomization that is new in Git and may inherit what another one has that Git dropped: whether too much would go is
    /// known when it has looked.
    fn newcomer(&self, plan: &mut Plan, seen: &Observation) -> Option<(usize, Awaited)> {
        let Some((Held::Budget { nested, .. }, count)) = &plan.held else {
            return None;
        };
        let is_home = self.cluster.id == ClusterId::Home;
        if nested.is_empty() || !is_home {
            return None;
        }
        let is_new = |(_, index): &(_, usize)| {
            let candidate = seen.candidates.get(*index)?;
            let is_new = matches!(candidate.need, Need::First | Need::Missing);
            as_kustomization(&candidate.id).filter(|_| is_new)
        };
        let moving = (*count, Awaited::Look(plan.apply.iter().find_map(is_new)?));
        plan.held = None;
        Some(moving)
    }

    fn tools<'t>(
        &'t self,
        client: &'t kube::Client,
        overlay: &'t Overlay,
        ignored: &'t Rules,
        revision: &'t str,
    ) -> act::Tools<'t> {
        let (context, cluster, spec) = (self.context, &self.cluster, &self.object.spec);
        act::Tools {
            client,
            in_flight: &cluster.in_flight,
            concurrency: context.settings.concurrency,
            live: &cluster.live,
            watches: &cluster.watches,
            override_managers: &context.settings.override_managers,
            owner: self.owner,
            overlay,
            force: spec.force,
            ignored,
            retry: controller::retry_interval(spec),
            deadline: self.begun + controller::timeout(spec),
            revision,
        }
    }

    /// What cannot be read was refused before.
    fn rules(&self) -> Rules {
        Rules::parse(&self.object.spec.ignore).unwrap_or_default()
    }

    async fn write(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        bodies: &Bodies,
        (overlay, revision): (&Overlay, &str),
    ) -> Result<act::Outcome, Error> {
        let client = self.client()?;
        Ok(act::apply(
            &self.tools(&client, overlay, &self.rules(), revision),
            plan,
            seen,
            desired,
            bodies,
        )
        .await)
    }

    /// Takes all that is new out of a plan if anything of it would be refused; returns what was refused just now.
    async fn ask(
        &self,
        plan: &mut Plan,
        seen: &Observation,
        desired: &Desired,
        bodies: &Bodies,
        (overlay, revision): (&Overlay, &str),
    ) -> Result<Vec<(usize, RequestError)>, Error> {
        if plan.is_noop() {
            return Ok(Vec::new());
        }
        if atomic::is_blocked(seen, desired) {
            atomic::hold(plan, seen);
            return Ok(Vec::new());
        }
        let client = self.client()?;
        let refused = act::rehearse(
            &self.tools(&client, overlay, &self.rules(), revision),
            plan,
            seen,
            desired,
            bodies,
        )
        .await;
        if !refused.is_empty() {
            atomic::hold(plan, seen);
        }
        Ok(refused)
    }

    /// How long the status is still left as it is while objects are on their way: it is over in a moment, as a rule.
    fn moment(&self, memory: &mut Memory, moving: bool) -> Option<Duration> {
        if !moving {
            memory.moving_since = None;
            return None;
        }
        let since = *memory.moving_since.get_or_insert(self.begun);
        Some(IN_A_MOMENT.checked_sub(since.elapsed())? + GO_ON)
    }

    async fn remove(
        &self,
        plan: &Plan,
        seen: &Observation,
        desired: &Desired,
        outcome: &act::Outcome,
        (inventory, cascade): (&Inventory, &Cascade),
    ) -> Result<BTreeMap<ObjectId, Removal>, Error> {
        let client = self.client()?;
        let mut troubled = act::troubled_kinds(outcome, seen, desired);
        if outcome.untried > 0 {
            // Not everything was tried: deletions have time.
            let patient = plan.delete.iter().filter(|id| !prune::is_in_the_way(id));
            troubled.extend(patient.map(|id| (id.group.clone(), id.kind.clone())));
        }
        let tools = self.prune_tools(&client, (&cascade.scopes, &plan.occupied));
        Ok(prune::prune(&tools, &plan.delete, inventory, &troubled).await)
    }

    /// What deleting needs, as the identity of `client`.
    pub(crate) fn prune_tools<'t>(
        &'t self,
        client: &'t kube::Client,
        (scopes, occupied): (&'t BTreeMap<ObjectId, Scope>, &'t BTreeMap<ObjectId, Occupied>),
    ) -> prune::Tools<'t> {
        prune::Tools {
            client,
            in_flight: &self.cluster.in_flight,
            concurrency: self.context.settings.concurrency,
            kinds: &self.cluster.kinds,
            live: &self.cluster.live,
            owner: self.owner,
            vital: self.vital(),
            scopes,
            occupied,
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

/// Objects that wait for others to delete theirs.
fn leaving(removals: &BTreeMap<ObjectId, Removal>) -> Option<(usize, Awaited)> {
    let mut waiting = removals.values().filter_map(|removal| match removal {
        Removal::Occupied(occupied) if occupied.is_leaving() => occupied.other(),
        _ => None,
    });
    let first = waiting.next()?.clone();
    Some((waiting.count() + 1, Awaited::End(first)))
}
