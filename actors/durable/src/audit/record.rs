//! Recording: the entries of a transaction, collected until just before its commit; and the proof that there are some.

use std::{ops::Deref, sync::LazyLock};

use diesel::prelude::*;
use dotmac_db::{
    AcrossTx, Arguments, Db, DbError, RowWithCommit, TenantDb, TenantId, TenantTx, Tx, Work,
    insert_with_commit, types::Id,
};
use opentelemetry::{KeyValue, global, metrics::Counter};

use super::{
    AuditError, Entry, EntryId, MAX_ENTRIES, SYSTEM, SubjectId,
    entry::Personal,
    personal::{NotEncrypted, SubjectKeys, encrypt},
    tables::audit_entry,
};
use crate::{declared::Declared, json_text::JsonText, trace::trace_id};

/// What writes entries with the commit on PostgreSQL.
const FUNCTION: &str = "audit_add";
/// The hook before the commit that writes what was collected.
const HOOK: &str = "audit";

/// The acts of each module that has declared what it records.
static DECLARED: Declared = Declared::new();

/// Entries whose transaction was committed by this process.
static RECORDED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.audit")
        .u64_counter("dotmac.audit.recorded")
        .with_description("Audit entries whose transaction this process has committed")
        .build()
});

/// Says that `module` records these acts, and no others. Further ones are added to them.
pub fn declare(module: &'static str, actions: impl IntoIterator<Item = &'static str>) {
    DECLARED.add(module, actions);
}

/// Audit entries as part of a transaction.
pub trait Audit {
    /// Records an act. The entry is written in one go with the commit, with all others of the transaction.
    ///
    /// # Errors
    ///
    /// [`AuditError`]; the transaction is then rolled back, even if its work ignores the error.
    fn audit(&mut self, entry: Entry) -> Result<Recorded, AuditError>;
}

/// An entry is part of the transaction. Nothing but [`Audit::audit`] gives one.
#[derive(Debug)]
#[must_use = "a rule proves by `of` that its act is recorded"]
pub struct Recorded(());

impl Recorded {
    /// What came of the act that is recorded.
    pub fn of<T>(self, value: T) -> Audited<T> {
        Audited(value, self)
    }
}

/// What came of an act whose entry is part of the transaction. Derefs to it.
#[derive(Debug)]
pub struct Audited<T>(T, Recorded);

impl<T> Audited<T> {
    /// What came of it.
    pub fn into_inner(self) -> T {
        self.0
    }

    /// The result, and the proof alone: for further queries on the result.
    pub fn into_parts(self) -> (T, Audited<()>) {
        (self.0, Audited((), self.1))
    }

    /// The same act, with something else made of what came of it.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Audited<U> {
        Audited(change(self.0), self.1)
    }
}

impl<T> Deref for Audited<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// A way to the database on which work proves that its act is recorded.
macro_rules! acts {
    ($(#[$doc:meta])+ $name:ident, $act:ident by $transaction:ident, $db:ty, $lent:ty) => {
        $(#[$doc])+
        pub trait $name {
            /// As the transaction of the same kind, for work that changes something, and proves that its act is recorded.
            ///
            /// # Errors
            ///
            /// As there.
            fn $act<T, E, W>(
                &self,
                operation: &'static str,
                work: W,
            ) -> impl Future<Output = Result<T, E>> + Send + use<Self, T, E, W>
            where
                for<'c> W: AsyncFnOnce($lent) -> Result<Audited<T>, E>
                    + Work<$lent, Result<Audited<T>, E>, Future: Send>
                    + Send
                    + 'static,
                T: Send + 'static,
                E: From<DbError> + Send + 'static;
        }

        impl $name for $db {
            fn $act<T, E, W>(
                &self,
                operation: &'static str,
                work: W,
            ) -> impl Future<Output = Result<T, E>> + Send + use<T, E, W>
            where
                for<'c> W: AsyncFnOnce($lent) -> Result<Audited<T>, E>
                    + Work<$lent, Result<Audited<T>, E>, Future: Send>
                    + Send
                    + 'static,
                T: Send + 'static,
                E: From<DbError> + Send + 'static,
            {
                let done = self.$transaction(operation, work);
                async move { Ok(done.await?.into_inner()) }
            }
        }
    };
}

acts! {
    /// Transactions of a tenant that change something.
    Acts, act by transaction, TenantDb, &'c mut TenantTx
}
acts! {
    /// Transactions of the system that change something.
    SystemActs, act by transaction, Db, &'c mut Tx
}
acts! {
    /// Transactions of the system on the rows of several tenants that change something.
    AcrossActs, act_across by transaction_across, Db, AcrossTx<'c>
}

/// What a transaction has recorded.
#[derive(Default)]
struct Collected {
    waiting: Vec<(NewRow, Option<Personal>)>,
    /// How many, those that are written included.
    count: usize,
    refused: Option<AuditError>,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = audit_entry, treat_none_as_default_value = false)]
struct NewRow {
    id: EntryId,
    tenant_id: TenantId,
    actor: String,
    action: &'static str,
    resource_type: &'static str,
    resource_id: String,
    outcome: &'static str,
    reason: Option<String>,
    details: JsonText,
    subject: Option<SubjectId>,
    personal: Option<Vec<u8>>,
    trace_id: Option<String>,
}

impl RowWithCommit for NewRow {
    fn arguments(&self, to: &mut Arguments<'_>) {
        to.add(self.id)
            .add(self.tenant_id)
            .add(&self.actor)
            .add(self.action)
            .add(self.resource_type)
            .add(&self.resource_id)
            .add(self.outcome)
            .add_if(self.reason.as_ref())
            .add(&self.details)
            .add_if(self.subject)
            .add_bytes(self.personal.as_deref())
            .add_if(self.trace_id.as_ref());
    }
}

impl Audit for Tx {
    fn audit(&mut self, entry: Entry) -> Result<Recorded, AuditError> {
        let tenant = self.tenant().unwrap_or(SYSTEM);
        collect(self, tenant, entry)
    }
}

/// As [`Audit::audit`], for an act that concerns `tenant` on a transaction of the system, which works for all tenants and has none
/// of its own.
///
/// # Errors
///
/// As there; [`AuditError::OtherTenant`] on a transaction of another tenant.
pub fn audit_for(tx: &mut Tx, tenant: TenantId, entry: Entry) -> Result<Recorded, AuditError> {
    collect(tx, tenant, entry)
}

/// Whether an entry was refused because the transaction has as many as it may have.
pub(crate) fn is_full(tx: &mut AcrossTx<'_>) -> bool {
    let refused = &tx.slot::<Collected>().refused;
    matches!(refused, Some(AuditError::TooMany { .. }))
}

fn collect(tx: &mut Tx, tenant: TenantId, entry: Entry) -> Result<Recorded, AuditError> {
    let row = row(tx, tenant, entry);
    tx.before_commit(HOOK, async |tx: &mut Tx| write(tx).await);
    let collected = tx.slot::<Collected>();
    match row {
        Ok(row) => {
            collected.count += 1;
            collected.waiting.push(row);
            Ok(Recorded(()))
        }
        Err(error) => {
            collected.refused.get_or_insert_with(|| error.clone());
            Err(error)
        }
    }
}

fn row(
    tx: &mut Tx,
    tenant: TenantId,
    entry: Entry,
) -> Result<(NewRow, Option<Personal>), AuditError> {
    let action = entry.action;
    if tx.tenant().is_some_and(|own| own != tenant) {
        return Err(AuditError::OtherTenant { action });
    }
    if tx.slot::<Collected>().count >= MAX_ENTRIES {
        return Err(AuditError::TooMany { action });
    }
    let actor = tx.actor().ok_or(AuditError::NoActor { action })?;
    if let Some(module) = DECLARED.undeclared_by(tx.module(), action) {
        return Err(AuditError::Undeclared { action, module });
    }
    let entry = entry.checked()?;
    let row = NewRow {
        id: Id::new(),
        tenant_id: tenant,
        actor: actor.to_string(),
        action,
        resource_type: entry.resource_type,
        resource_id: entry.resource_id,
        outcome: entry.outcome.as_str(),
        reason: entry.reason,
        // A map of texts is always JSON.
        details: JsonText(serde_json::to_string(&entry.details).unwrap_or_default()),
        subject: entry.personal.as_ref().map(|it| it.subject),
        personal: None,
        trace_id: trace_id(),
    };
    Ok((row, entry.personal))
}

async fn write(tx: &mut Tx) -> Result<(), DbError> {
    let collected = tx.slot::<Collected>();
    if let Some(refused) = &collected.refused {
        return Err(refused.clone().into());
    }
    let waiting = std::mem::take(&mut collected.waiting);
    if waiting.is_empty() {
        return Ok(());
    }
    let (mut keys, mut rows) = (SubjectKeys::new(), Vec::with_capacity(waiting.len()));
    for (mut row, personal) in waiting {
        if let Some(personal) = &personal {
            let place = (row.tenant_id, row.id);
            let encrypted = encrypt(tx, &mut keys, place, personal).await;
            row.personal = Some(encrypted.map_err(|error| match error {
                NotEncrypted::Db(error) => error,
                NotEncrypted::Sealing(source) => {
                    let action = row.action;
                    AuditError::Personal { action, source }.into()
                }
            })?);
        }
        rows.push(row);
    }
    let acts: Vec<_> = rows.iter().map(|row| (row.action, row.outcome)).collect();
    insert_with_commit!(tx, audit_entry::table, FUNCTION, rows);
    tx.after_commit(move || {
        for (action, outcome) in acts {
            let labels = [
                KeyValue::new("action", action),
                KeyValue::new("outcome", outcome),
            ];
            RECORDED.add(1, &labels);
        }
    });
    Ok(())
}
