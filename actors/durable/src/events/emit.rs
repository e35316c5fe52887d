//! Emitting: what a transaction says happened, collected until just before its commit.

use std::{borrow::Cow, sync::LazyLock};

use diesel::prelude::*;
use dotmac_db::{
    AcrossTx, Arguments, DbError, RowWithCommit, TenantId, TenantTx, Tx, insert_all,
    insert_with_commit,
};
use opentelemetry::{KeyValue, global, metrics::Counter};

use super::{
    CUSTOM, CustomEvent, EmitError, Event, EventId, MAX_DATA, MAX_EVENTS,
    event::{checked_subject, is_custom_type, is_event_type},
    tables::event,
};
use crate::{declared::Declared, json_text::JsonText, trace::traceparent, wake};

/// What writes events with the commit on PostgreSQL.
const FUNCTION: &str = "event_add";
/// The hook before the commit that writes what was collected.
const HOOK: &str = "events";

/// The types of each module that has declared what it emits.
static DECLARED: Declared = Declared::new();

/// Says that `module` emits events of these types, and of no others. Further types are added to them.
pub fn declare(module: &'static str, kinds: impl IntoIterator<Item = &'static str>) {
    DECLARED.add(module, kinds);
}

/// Events whose transaction was committed by this process.
static EMITTED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.events")
        .u64_counter("dotmac.events.emitted")
        .with_description("Events whose transaction this process has committed")
        .build()
});

/// Events as part of a transaction.
pub trait Emit {
    /// Says that something happened. The event is written in one go with the commit, with all others of the transaction;
    /// subscribers of this process are woken after it.
    ///
    /// Its tenant is that of the transaction's scope, its actor the holder of the scope, its trace the current span's.
    ///
    /// # Errors
    ///
    /// [`EmitError`]; the transaction is then rolled back, even if its work ignores the error.
    fn emit<E: Event>(&mut self, event: &E) -> Result<EventId, EmitError>;
}

impl Emit for Tx {
    fn emit<E: Event>(&mut self, event: &E) -> Result<EventId, EmitError> {
        let new = new(self, event);
        let tenant = self.tenant();
        collect(self, tenant, new)
    }
}

/// As [`Emit::emit`], for an event of `tenant` on a transaction of the system, which works for all tenants and has none of
/// its own.
///
/// # Errors
///
/// As there; [`EmitError::OtherTenant`] on a transaction of another tenant.
pub fn emit_for<E: Event>(tx: &mut Tx, tenant: TenantId, event: &E) -> Result<EventId, EmitError> {
    let new = match tx.tenant() {
        Some(own) if own != tenant => Err(EmitError::OtherTenant {
            kind: Cow::Borrowed(E::TYPE),
        }),
        _ => new(tx, event),
    };
    collect(tx, Some(tenant), new)
}

fn new<E: Event>(tx: &Tx, event: &E) -> Result<New, EmitError> {
    const {
        assert!(
            is_event_type(E::TYPE) && !is_custom_type(E::TYPE),
            "the TYPE of an event has the form `area.thing.v1`, and does not begin with `custom.`"
        );
    }
    let kind = Cow::Borrowed(E::TYPE);
    match DECLARED.undeclared_by(tx.module(), E::TYPE) {
        Some(module) => Err(EmitError::Undeclared { kind, module }),
        None => Ok(New {
            kind,
            data: serde_json::to_string(event),
            subject: event.subject(),
            partition_key: event.partition_key(),
        }),
    }
}

/// As [`Emit::emit`], for an event of a type that the transaction's tenant has made up.
///
/// # Errors
///
/// As there.
pub fn emit_custom(tx: &mut TenantTx, event: CustomEvent) -> Result<EventId, EmitError> {
    let kind = Cow::Owned(event.kind);
    let new = if is_custom_type(&kind) {
        Ok(New {
            kind,
            data: serde_json::to_string(&event.data),
            partition_key: event.subject.clone(),
            subject: event.subject,
        })
    } else {
        Err(EmitError::NotCustom { kind })
    };
    let tenant = Some(tx.tenant());
    collect(tx, tenant, new)
}

/// Whether an event was refused because the transaction has as many as it may have.
pub(super) fn is_full(tx: &mut AcrossTx<'_>) -> bool {
    let refused = &tx.slot::<Collected>().refused;
    matches!(refused, Some(EmitError::TooMany { .. }))
}

/// Writes what the transaction has emitted so far, so that it can read it.
///
/// # Errors
///
/// [`DbError`]; also the [`EmitError`] of an event that was refused.
pub async fn flush(tx: &mut Tx) -> Result<(), DbError> {
    let Some(rows) = take(tx)? else {
        return Ok(());
    };
    insert_all!(tx, event::table, rows).map(drop)
}

/// What a transaction has emitted.
#[derive(Default)]
struct Collected {
    waiting: Vec<NewRow>,
    /// How many, those that are written included.
    count: usize,
    refused: Option<EmitError>,
}

/// An event to be.
struct New {
    kind: Cow<'static, str>,
    data: serde_json::Result<String>,
    subject: String,
    partition_key: String,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = event, treat_none_as_default_value = false)]
struct NewRow {
    id: EventId,
    tenant_id: Option<TenantId>,
    kind: Cow<'static, str>,
    subject: String,
    partition_key: String,
    data: JsonText,
    actor: Option<String>,
    traceparent: Option<String>,
}

impl RowWithCommit for NewRow {
    fn arguments(&self, to: &mut Arguments<'_>) {
        to.add(self.id)
            .add_if(self.tenant_id)
            .add(&self.kind)
            .add(&self.subject)
            .add(&self.partition_key)
            .add(&self.data)
            .add_if(self.actor.as_ref())
            .add_if(self.traceparent.as_ref());
    }
}

fn collect(
    tx: &mut Tx,
    tenant_id: Option<TenantId>,
    new: Result<New, EmitError>,
) -> Result<EventId, EmitError> {
    let count = tx.slot::<Collected>().count;
    let row = new.and_then(|new| row(new, count)).map(|row| NewRow {
        tenant_id,
        actor: tx.actor().map(|actor| actor.to_string()),
        ..row
    });
    tx.before_commit(HOOK, async |tx: &mut Tx| write(tx));
    let collected = tx.slot::<Collected>();
    match row {
        Ok(row) => {
            let id = row.id;
            collected.count += 1;
            collected.waiting.push(row);
            Ok(id)
        }
        Err(error) => {
            collected.refused.get_or_insert_with(|| error.clone());
            Err(error)
        }
    }
}

fn row(new: New, count: usize) -> Result<NewRow, EmitError> {
    let kind = new.kind;
    if count >= MAX_EVENTS {
        return Err(EmitError::TooMany { kind });
    }
    let data = match new.data {
        Ok(data) => data,
        Err(error) => {
            let problem = error.to_string();
            return Err(EmitError::Json { kind, problem });
        }
    };
    if data.len() > MAX_DATA {
        let bytes = data.len();
        return Err(EmitError::TooLarge { kind, bytes });
    }
    Ok(NewRow {
        id: EventId::new(),
        tenant_id: None,
        subject: checked_subject(kind.clone(), "the subject", new.subject)?,
        partition_key: checked_subject(kind.clone(), "the partition key", new.partition_key)?,
        kind,
        data: JsonText(data),
        actor: None,
        traceparent: traceparent(),
    })
}

/// Has what was collected written with the commit.
fn write(tx: &mut Tx) -> Result<(), DbError> {
    if let Some(rows) = take(tx)? {
        insert_with_commit!(tx, event::table, FUNCTION, rows);
    }
    Ok(())
}

/// Takes what was collected, and wakes subscribers to such events after the commit; `None` if there is nothing.
fn take(tx: &mut Tx) -> Result<Option<Vec<NewRow>>, DbError> {
    let collected = tx.slot::<Collected>();
    if let Some(refused) = &collected.refused {
        return Err(refused.clone().into());
    }
    let rows = std::mem::take(&mut collected.waiting);
    if rows.is_empty() {
        return Ok(None);
    }
    let kinds: Vec<_> = rows.iter().map(|row| row.kind.clone()).collect();
    tx.after_commit(move || {
        for kind in &kinds {
            // The types of tenants are any number.
            let kind = match kind {
                Cow::Borrowed(kind) => KeyValue::new("type", *kind),
                Cow::Owned(_) => KeyValue::new("type", CUSTOM.trim_end_matches('.')),
            };
            EMITTED.add(1, &[kind]);
        }
        wake::wake(&kinds);
    });
    Ok(Some(rows))
}
