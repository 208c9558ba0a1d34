//! What its source has, and what Git wants of it: loaded once for the same files, variables and transformations.

use std::{
    sync::{Arc, PoisonError},
    time::Instant,
};

use super::Step;
use crate::{
    build::Transformations,
    context::{Error, LoadKey, Memory},
    controller,
    manifest::{Desired, Variables},
    observe,
    source::Artifact,
};

impl Step<'_> {
    pub(super) fn artifact(&self) -> Result<Arc<Artifact>, String> {
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
}
