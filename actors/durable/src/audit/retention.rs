//! How long entries are kept. They are taken away from the beginning of a chain up to a checkpoint, which stays: behind it
//! the rest can still be verified. The same worker reseals the keys of the log after a change of the master key.

use std::{sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, ModuleDb, OptionalExtension, TenantId, Tx, on,
    sealing::{ResealError, Resealing, Sealer},
    types::Moment,
};
use dotmac_supervision::{Schedule, WorkerSpec};

use super::{
    MIN_RETENTION, SIGNING_KEYS, SUBJECT_KEYS,
    tables::{audit_chain, audit_checkpoint, audit_entry, audit_link},
};

/// How long entries are kept unless said otherwise: 400 days.
pub const RETENTION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How often old entries are deleted, and keys sealed by a former master key are resealed.
const INTERVAL: Duration = Duration::from_secs(600);

/// Keys that are resealed in one transaction.
const RESEALED: u32 = 100;

/// The worker that deletes entries older than `keep`, at least 90 days, and reseals values that another key of `sealer`
/// than the first one sealed. Any number of instances may run it.
#[must_use]
pub fn retention(
    name: &'static str,
    db: &ModuleDb,
    sealer: Option<Sealer>,
    keep: Duration,
) -> WorkerSpec {
    let db = Arc::new(db.system("audit entries of all tenants expire"));
    WorkerSpec::new(name, Schedule::Every(INTERVAL), move |_| {
        let (db, sealer) = (Arc::clone(&db), sealer.clone());
        async move {
            if let Some(sealer) = sealer {
                reseal(&db, &sealer).await?;
            }
            maintain(&db, Moment::now(), keep).await.map(drop)
        }
    })
}

/// Reseals the signing keys and those of personal fields after a change of the master key. Without a master key they
/// are left as they are.
async fn reseal(db: &Db, sealer: &Sealer) -> Result<(), DbError> {
    for column in [SIGNING_KEYS, SUBJECT_KEYS] {
        let mut resealing = Resealing::new(column);
        loop {
            match resealing.step(db, sealer, RESEALED).await {
                Ok(step) if !step.is_done => {}
                Ok(_) | Err(ResealError::Sealing(_)) => break,
                Err(ResealError::Db(error)) => return Err(error),
            }
        }
    }
    Ok(())
}

/// Takes away entries that are older than `keep`, as of `now`; how many. What is younger than 90 days stays. `db` has the
/// scope of the system.
///
/// # Errors
///
/// [`DbError`]; what was done stays done.
pub async fn maintain(db: &Db, now: Moment, keep: Duration) -> Result<usize, DbError> {
    let (before, mut deleted) = (now - keep.max(MIN_RETENTION), 0);
    loop {
        let next = async move |c: &mut Connection| {
            // The first checkpoint of some chain that is old, behind the one that was left there before.
            let of_chain = audit_chain::tenant_id.eq(audit_checkpoint::tenant_id);
            let query = audit_checkpoint::table
                .inner_join(audit_chain::table.on(of_chain))
                .filter(audit_checkpoint::at.lt(before))
                .filter(audit_checkpoint::number.gt(audit_chain::start))
                .order((audit_checkpoint::tenant_id, audit_checkpoint::number))
                .select((audit_checkpoint::tenant_id, audit_checkpoint::number));
            on!(c, |c| query.first(c).await).optional()
        };
        let next: Option<(TenantId, i64)> = db.read("look for old audit entries", next).await?;
        let Some((tenant, number)) = next else {
            return Ok(deleted);
        };
        let delete = async move |tx: &mut Tx| delete(tx, tenant, number).await;
        deleted += db.transaction("delete old audit entries", delete).await?;
    }
}

/// Takes the links up to a checkpoint away, with their entries and former checkpoints; how many links.
async fn delete(tx: &mut Tx, tenant: TenantId, number: i64) -> Result<usize, DbError> {
    let chain = audit_chain::table
        .filter(audit_chain::tenant_id.eq(tenant))
        .filter(audit_chain::start.lt(number));
    let moved = diesel::update(chain).set(audit_chain::start.eq(number));
    if on!(tx, |c| moved.execute(c).await)? == 0 {
        return Ok(0); // another instance was faster
    }
    let links = || {
        audit_link::table
            .filter(audit_link::tenant_id.eq(tenant))
            .filter(audit_link::number.le(number))
    };
    let linked = links().select(audit_link::entry_id);
    let entries = audit_entry::table.filter(audit_entry::id.eq_any(linked));
    on!(tx, |c| diesel::delete(entries).execute(c).await)?;
    let deleted = on!(tx, |c| diesel::delete(links()).execute(c).await)?;
    let former = audit_checkpoint::table
        .filter(audit_checkpoint::tenant_id.eq(tenant))
        .filter(audit_checkpoint::number.lt(number));
    on!(tx, |c| diesel::delete(former).execute(c).await)?;
    Ok(deleted)
}
