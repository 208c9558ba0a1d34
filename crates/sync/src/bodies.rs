//! The bodies of objects, read from Git at the moment they are applied and dropped right after.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use crate::{
    build::Built,
    gather,
    git::{BlobId, Snapshot},
    manifest::{Desired, Origin, Place, Variables, body, yaml},
};

/// Files up to this size are read where they are needed: handing a few kilobytes to another thread costs more than reading
/// them, and every thread that ever reads keeps memory of its own.
const SMALL: u64 = 64 << 10;
/// Files with many objects that are kept parsed at a time: their objects are applied side by side.
const KEPT: usize = 4;

type Documents = HashMap<usize, Value>;

/// Reads bodies of one snapshot.
pub struct Bodies {
    snapshot: Snapshot,
    built: Vec<Arc<Built>>,
    /// Objects in files that hold more than one: such a file is parsed once, not once an object.
    shared: HashMap<BlobId, usize>,
    variables: Option<Arc<Variables>>,
    parsed: Mutex<Vec<(BlobId, Arc<Documents>)>>,
}

impl Bodies {
    /// Bodies of the objects of `desired`.
    pub fn new(snapshot: Snapshot, desired: &Desired) -> Self {
        let mut shared: HashMap<BlobId, usize> = HashMap::new();
        for object in &desired.objects {
            *shared.entry(object.origin.file.blob).or_default() += 1;
        }
        shared.retain(|_, objects| *objects > 1);
        Self {
            snapshot,
            built: desired.built.clone(),
            shared,
            variables: desired.variables.clone(),
            parsed: Mutex::default(),
        }
    }

    /// The body at `origin`, or why it cannot be read.
    pub async fn get(&self, origin: &Origin) -> Result<Value, String> {
        let (blob, place) = (origin.file.blob, origin.place);
        let gone = || format!("{origin} cannot be read again");
        if !self.shared.contains_key(&blob) {
            let (snapshot, built, variables) =
                (self.snapshot.clone(), self.built.clone(), self.variables.clone());
            let read = move || {
                let content = gather::read(&snapshot, &built, blob)?;
                Ok(body(&content, place, variables.as_deref()))
            };
            let is_small = self.size(blob).is_some_and(|size| size <= SMALL);
            let body = if is_small { read() } else { blocking(read).await };
            return body?.ok_or_else(gone);
        }
        let documents = match self.kept(blob) {
            Some(documents) => documents,
            None => self.parse(blob).await?,
        };
        item(&documents, place, self.variables.as_deref()).ok_or_else(gone)
    }

    fn size(&self, blob: BlobId) -> Option<u64> {
        let built = self.built.iter().find_map(|built| built.size(blob));
        built.or_else(|| self.snapshot.size(blob).ok())
    }

    fn kept(&self, blob: BlobId) -> Option<Arc<Documents>> {
        let parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        parsed
            .iter()
            .find(|(id, _)| *id == blob)
            .map(|(_, documents)| Arc::clone(documents))
    }

    async fn parse(&self, blob: BlobId) -> Result<Arc<Documents>, String> {
        let (snapshot, built) = (self.snapshot.clone(), self.built.clone());
        let parse = move || {
            let content = gather::read(&snapshot, &built, blob)?;
            let text = std::str::from_utf8(&content).map_err(|error| error.to_string())?;
            let documents = yaml::documents(text).into_iter();
            Ok(documents
                .filter_map(|d| d.content.ok().map(|content| (d.number, content)))
                .collect::<Documents>())
        };
        let documents = Arc::new(blocking(parse).await?);
        let mut parsed = self.parsed.lock().unwrap_or_else(PoisonError::into_inner);
        if parsed.iter().all(|(id, _)| *id != blob) {
            if parsed.len() >= KEPT {
                parsed.remove(0);
            }
            parsed.push((blob, Arc::clone(&documents)));
        }
        Ok(documents)
    }
}

fn item(documents: &Documents, place: Place, variables: Option<&Variables>) -> Option<Value> {
    let document = documents.get(&place.document)?;
    let mut object = match place.item {
        None => document.clone(),
        Some(item) => document.get("items")?.get(item)?.clone(),
    };
    if let Some(variables) = variables {
        variables.substitute(&mut object).ok()?;
    }
    Some(object)
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, String> {
    tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| error.to_string())?
}
