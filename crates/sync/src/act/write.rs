//! The write of one object.

use std::{borrow::Cow, time::Instant};

use serde_json::{Value, json};

use super::{Change, Correction, Tools};
use crate::{
    api::ADOPTED,
    cluster::{
        fields,
        kinds::Kind,
        live::Need,
        paths,
        requests::{self, RequestError, Written},
    },
    decide::Candidate,
    force, ignored,
    manifest::{ApplyPolicy, Wanted},
    object::ObjectId,
    observe::Placed,
};

/// Field manager of the note on adopted objects: not ours, or the next apply would take the note away.
const ADOPTION_MANAGER: &str = "plumbline-adoption";

/// Applies one object, and takes over what others had of it.
pub(super) async fn write(
    tools: &Tools<'_>,
    candidate: &Candidate,
    placed: &Placed,
    wanted: &Wanted,
    body: &Value,
) -> Result<Change, RequestError> {
    let (id, kind, client) = (&candidate.id, placed.kind.as_ref(), tools.client);
    if wanted.policy == ApplyPolicy::IfNotPresent
        && let Some(metadata) = requests::read(client, kind, id).await?
    {
        tools.live.begin(id, tools.owner);
        tools.live.applied(id, placed.content, &metadata, Instant::now());
        return Ok(Change::Unchanged);
    }
    let paths = tools.ignored.of(wanted.gvk(), body);
    let ours = if paths.is_empty() {
        Cow::Borrowed(body)
    } else {
        Cow::Owned(ignored::strip(body, &paths))
    };
    if candidate.need == Need::First
        && tools
            .live
            .resume(id, tools.owner, placed.content, &ours, Instant::now())
    {
        return Ok(Change::Resumed);
    }
    let before = tools.live.before(id);
    tools.live.begin(id, tools.owner);
    let sent: &Value = if let_go(tools, kind, id, body, &paths).await? {
        &ours
    } else {
        body
    };
    let applied = match tools.awaited.filter(|awaited| awaited.includes(id)) {
        Some(awaited) => requests::apply_and_read(client, kind, id, sent)
            .await
            .map(|(written, object)| {
                awaited.shown(id, &object);
                written
            }),
        None => requests::apply(client, kind, id, sent).await,
    };
    let mut written = match applied {
        Ok(written) => written,
        Err(refused) => {
            let why = refused.to_string();
            let written = force::replace(tools, kind, id, wanted, body, refused).await?;
            let written = release(tools, kind, id, body, &paths, written).await?;
            tools
                .live
                .applied(id, placed.content, &written.metadata, Instant::now());
            return Ok(Change::Replaced(why));
        }
    };
    let first_time = !written.created && !before.owned;
    if written.created {
        written = release(tools, kind, id, body, &paths, written).await?;
    }
    if first_time && wanted.policy == ApplyPolicy::Override {
        written = take_over(tools, candidate, placed, (body, sent), &paths, written).await?;
    }
    let adopted = first_time && !before.labelled;
    if adopted {
        let note = json!({ "metadata": { "annotations": { ADOPTED: "true" } } });
        written = requests::merge(client, kind, id, ADOPTION_MANAGER, &note).await?;
    }
    let now = Instant::now();
    let version_moved = before.resource_version
        != crate::cluster::resource_version(written.metadata.resource_version.as_deref());
    let contradicted = tools.live.applied(id, placed.content, &written.metadata, now);
    if contradicted {
        tools.watches.wake(tools.owner);
    }
    Ok(match &candidate.need {
        _ if adopted => Change::Adopted,
        Need::Missing => {
            tools.live.corrected(id, now);
            Change::Recreated
        }
        _ if written.created => Change::Created,
        Need::Drifted(drift) => {
            tools.live.corrected(id, now);
            let entries = written.metadata.managed_fields.as_deref().unwrap_or_default();
            let ours = fields::our_fields(entries);
            Change::Corrected(Box::new(Correction {
                writer: drift.writer.clone(),
                fields: ours.map_or_else(Vec::new, |ours| paths::lost(ours, &drift.left)),
            }))
        }
        _ if version_moved => Change::Configured,
        _ => Change::Unchanged,
    })
}

/// Gives up what is left to others where the object is there already; says whether it is.
async fn let_go(
    tools: &Tools<'_>,
    kind: &Kind,
    id: &ObjectId,
    body: &Value,
    paths: &[Vec<String>],
) -> Result<bool, RequestError> {
    if paths.is_empty() {
        return Ok(false);
    }
    let Some(metadata) = requests::read(tools.client, kind, id).await? else {
        return Ok(false);
    };
    let live = Written {
        metadata,
        created: false,
    };
    release(tools, kind, id, body, paths, live).await?;
    Ok(true)
}

/// Gives up the fields that are left to others. Their values stay.
async fn release(
    tools: &Tools<'_>,
    kind: &Kind,
    id: &ObjectId,
    body: &Value,
    paths: &[Vec<String>],
    written: Written,
) -> Result<Written, RequestError> {
    let entries = written.metadata.managed_fields.as_deref().unwrap_or_default();
    let Some(released) = ignored::release(entries, body, paths).map_err(atomic_value)? else {
        return Ok(written);
    };
    let moved = json!({ "metadata": {
        "managedFields": released,
        "resourceVersion": written.metadata.resource_version,
    } });
    let released = requests::merge(tools.client, kind, id, fields::MANAGER, &moved).await?;
    Ok(Written {
        created: written.created,
        ..released
    })
}

fn atomic_value(why: String) -> RequestError {
    let message = ["spec.ignore: ".to_owned(), why].concat();
    RequestError::Refused { code: 0, message }
}

/// Moves the fields of `kubectl` and Flux into our entry and applies again, so that what Git does not want of them goes.
async fn take_over(
    tools: &Tools<'_>,
    candidate: &Candidate,
    placed: &Placed,
    (whole, sent): (&Value, &Value),
    paths: &[Vec<String>],
    written: Written,
) -> Result<Written, RequestError> {
    let entries = written.metadata.managed_fields.as_deref().unwrap_or_default();
    let Some(mut taken) = fields::take_over(entries, tools.override_managers) else {
        return Ok(written);
    };
    if let Some(released) = ignored::release(&taken, whole, paths).map_err(atomic_value)? {
        taken = released;
    }
    let moved = json!({ "metadata": {
        "managedFields": taken,
        "resourceVersion": written.metadata.resource_version,
    } });
    let (client, kind, id) = (tools.client, placed.kind.as_ref(), &candidate.id);
    requests::merge(client, kind, id, fields::MANAGER, &moved).await?;
    let again = requests::apply(client, kind, id, sent).await?;
    Ok(Written {
        created: written.created,
        ..again
    })
}
