//! How long entries are kept. They are taken away from the beginning of a chain up to a checkpoint, which stays: behind it
//! the rest can still be verified.

use std::{sync::Arc, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, ModuleDb, OptionalExtension, TenantId, Tx, on, types::Moment,
};
use dotmac_supervision::{Schedule, WorkerSpec};

use super::{
    MIN_RETENTION,
    tables::{audit_chain, audit_checkpoint, audit_entry, audit_link},
};

/// How long entries are kept unless said otherwise: 400 days.
pub const RETENTION: Duration = Duration::from_secs(400 * 24 * 60 * 60);

/// How often old entries are taken away.
const INTERVAL: Duration = Duration::from_secs(3600);

/// The worker that takes away entries that are older than `keep`, at least 90 days. Any number of instances may run it.
#[must_use]
pub fn retention(name: &'static str, db: &ModuleDb, keep: Duration) -> WorkerSpec {
    let db = Arc::new(db.system("audit entries of all tenants expire"));
    WorkerSpec::new(name, Schedule::Every(INTERVAL), move |_| {
        let db = Arc::clone(&db);
        async move { maintain(&db, Moment::now(), keep).await.map(drop) }
    })
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
