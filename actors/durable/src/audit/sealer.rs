//! The sealer: links entries into the chain of their tenant, in the order of their commits, and makes checkpoints.
//!
//! Of many instances one works at a time: the one whose transaction has locked the sealer's row. So a chain has no fork,
//! and whoever writes entries waits for none of it.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::Duration,
};

use diesel::{dsl::exists, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, ModuleDb, OptionalExtension, Querying, TenantId, Tx, insert_all, on,
    sealing::{Sealer, SealingError},
    types::Moment,
};
use dotmac_supervision::{Schedule, Serving, WorkerContext, WorkerSpec};
use opentelemetry::{global, metrics::Counter};
use tracing::{error, info};

use super::{
    AUDIT_NOT_SIGNED, Checkpoint, EntryId, Hash, StoredEntry,
    chain::Canonical,
    checkpoint::Signing,
    tables::{audit_chain, audit_entry, audit_link, audit_sealer},
};
use crate::{clock::now, order::oldest_open, outage};

/// How often is looked for entries: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_millis(500);
/// Entries of one transaction.
const AT_ONCE: usize = 500;
/// Checkpoints of one transaction.
const CHECKPOINTS_AT_ONCE: i64 = 100;
/// So long after a checkpoint comes the next one, if there are further links;
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(300);
/// or after so many links.
pub const CHECKPOINT_LINKS: i64 = 1000;

static SEALED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.audit")
        .u64_counter("dotmac.audit.sealed")
        .with_description("Audit entries that this process has linked into their chain")
        .build()
});

static CHECKPOINTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.audit")
        .u64_counter("dotmac.audit.checkpoints")
        .with_description("Checkpoints of audit chains that this process has made")
        .build()
});

/// The worker that links entries and makes checkpoints, signed if `signing` has a master key. Any number of instances may
/// run it.
#[must_use]
pub fn sealer(name: &'static str, db: &ModuleDb, signing: Option<Sealer>) -> WorkerSpec {
    let db = Arc::new(db.system("audit entries of all tenants are linked"));
    let signing = Arc::new(signing);
    let run = move |context| run(Arc::clone(&db), Arc::clone(&signing), context);
    WorkerSpec::new(name, Schedule::Continuous, run).progress_within(Duration::from_secs(60))
}

async fn run(
    db: Arc<Db>,
    signing: Arc<Option<Sealer>>,
    context: WorkerContext,
) -> Result<(), DbError> {
    let mut not_signed = None;
    while !context.is_stopping() {
        context.beat();
        let lifeline = context.lifeline();
        match seal_some(&db, (*signing).as_ref()).await {
            Ok(done) => {
                if let Some(signed) = done.signed
                    && signed.err() != not_signed
                {
                    not_signed = signed.err();
                    note(not_signed);
                }
                match not_signed {
                    None => lifeline.ready(Serving::default()),
                    Some(_) => lifeline.degraded(AUDIT_NOT_SIGNED, Serving::default()),
                }
                if done.entries == AT_ONCE {
                    continue;
                }
            }
            Err(error) => match outage::reason(&error) {
                Some(reason) => lifeline.unavailable(reason),
                None => return Err(error),
            },
        }
        tokio::select! {
            () = tokio::time::sleep(POLL.mul_f64(0.8 + 0.4 * fastrand::f64())) => {}
            () = context.stopping() => {}
        }
    }
    Ok(())
}

fn note(not_signed: Option<SealingError>) {
    match not_signed {
        None => info!("checkpoints of the audit log are signed again"),
        Some(error) => error!(
            "checkpoints of the audit log cannot be signed: {error}; entries are linked, and checkpoints follow once they can be"
        ),
    }
}

/// What was done at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sealing {
    /// Entries that were linked.
    pub entries: usize,
    /// Whether the checkpoints that were due could be made; `None` if none was due.
    pub signed: Option<Result<(), SealingError>>,
}

/// Links up to 500 entries, and makes the checkpoints that are due. Nothing while another instance does. `db` has the
/// scope of the system.
///
/// # Errors
///
/// [`DbError`]; nothing was done then.
pub async fn seal_some(db: &Db, signing: Option<&Sealer>) -> Result<Sealing, DbError> {
    // Without a lock first: mostly there is nothing to do.
    let is_work = db.read("look for audit entries", async |c| is_work(c).await);
    if !is_work.await? {
        return Ok(Sealing::default());
    }
    let signing = signing.cloned();
    let seal = async move |tx: &mut Tx| {
        let Some(place) = lock(tx).await? else {
            return Ok(Sealing::default());
        };
        let entries = link(tx, place).await?;
        let signed = check(tx, signing.as_ref()).await?;
        tx.after_commit(move || SEALED.add(entries as u64, &[]));
        Ok(Sealing { entries, signed })
    };
    db.transaction("link audit entries", seal).await
}

async fn is_work(c: &mut Connection) -> Result<bool, DbError> {
    let query = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let place: (i64, i64) = on!(c, |c| query.first(c).await)?;
    if !behind(c, place, 1).await?.is_empty() {
        return Ok(true);
    }
    let late = now(c).await? - CHECKPOINT_EVERY;
    let due = audit_chain::table
        .filter(audit_chain::number.gt(audit_chain::checked))
        .filter(audit_chain::checked_at.le(late));
    on!(c, |c| diesel::select(exists(due)).get_result(c).await)
}

/// Locks the sealer's row for this transaction, and gives its place; `None` while another instance has it.
async fn lock(tx: &mut Tx) -> Result<Option<(i64, i64)>, DbError> {
    let query = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.first::<(i64, i64)>(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.first::<(i64, i64)>(&mut **c).await,
    };
    tx.classified(found).optional()
}

#[derive(Clone, Insertable)]
#[diesel(table_name = audit_link)]
struct NewLink {
    tenant_id: TenantId,
    number: i64,
    entry_id: EntryId,
    hash: Vec<u8>,
}

/// The end of a chain.
#[derive(Clone, Copy)]
struct End {
    number: i64,
    hash: Hash,
    is_new: bool,
}

/// Links the entries behind a place; how many.
async fn link(tx: &mut Tx, place: (i64, i64)) -> Result<usize, DbError> {
    let entries = behind(tx, place, AT_ONCE as i64).await?;
    let Some(last) = entries.last().map(|it| (it.xid, it.position)) else {
        return Ok(0);
    };
    let mut ends = BTreeMap::new();
    let mut links = Vec::with_capacity(entries.len());
    for entry in &entries {
        let end = match ends.get(&entry.tenant) {
            Some(end) => *end,
            None => end_of(tx, entry.tenant).await?,
        };
        let number = end.number + 1;
        let hash = end.hash.then(&Canonical::new(number, entry).text());
        let end = End {
            number,
            hash,
            ..end
        };
        ends.insert(entry.tenant, end);
        links.push(NewLink {
            tenant_id: entry.tenant,
            number,
            entry_id: entry.id,
            hash: hash.0.to_vec(),
        });
    }
    insert_all!(tx, audit_link::table, links)?;
    for (tenant, end) in ends {
        move_end(tx, tenant, end).await?;
    }
    let moved = diesel::update(audit_sealer::table.find(1)).set((
        audit_sealer::xid.eq(last.0),
        audit_sealer::position.eq(last.1),
    ));
    on!(tx, |c| moved.execute(c).await)?;
    Ok(entries.len())
}

/// The entries behind a place, below the oldest transaction that may still add some.
async fn behind(
    c: &mut Connection,
    (xid, position): (i64, i64),
    limit: i64,
) -> Result<Vec<StoredEntry>, DbError> {
    let open = oldest_open(c).await?;
    let behind = audit_entry::xid.ge(xid).and(
        audit_entry::xid
            .gt(xid)
            .or(audit_entry::position.gt(position)),
    );
    let query = audit_entry::table
        .filter(behind.and(audit_entry::xid.lt(open)))
        .order((audit_entry::xid, audit_entry::position))
        .limit(limit);
    on!(c, |c| {
        let query = query.select(StoredEntry::as_select());
        query.load(c).await
    })
}

async fn end_of(tx: &mut Tx, tenant: TenantId) -> Result<End, DbError> {
    let query = audit_chain::table
        .find(tenant)
        .select((audit_chain::number, audit_chain::hash));
    let found: Option<(i64, Vec<u8>)> = on!(tx, |c| query.first(c).await).optional()?;
    let is_new = found.is_none();
    let (number, hash) = found.unwrap_or_default();
    // A hash that is none is found by `verify`; the chain goes on behind nothing.
    let hash = Hash::from_bytes(&hash).unwrap_or_default();
    Ok(End {
        number,
        hash,
        is_new,
    })
}

async fn move_end(tx: &mut Tx, tenant: TenantId, end: End) -> Result<(), DbError> {
    let end_of_chain = (
        audit_chain::number.eq(end.number),
        audit_chain::hash.eq(end.hash.0.to_vec()),
    );
    if !end.is_new {
        let moved = diesel::update(audit_chain::table.find(tenant)).set(end_of_chain);
        return on!(tx, |c| moved.execute(c).await).map(drop);
    }
    // The first checkpoint is due at once.
    let checked_at = now(tx).await? - CHECKPOINT_EVERY;
    let row = (
        audit_chain::tenant_id.eq(tenant),
        audit_chain::start.eq(0),
        audit_chain::checked.eq(0),
        audit_chain::checked_at.eq(checked_at),
        end_of_chain,
    );
    let insert = diesel::insert_into(audit_chain::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// Makes the checkpoints that are due; whether that could be done, if there were any.
async fn check(
    tx: &mut Tx,
    sealer: Option<&Sealer>,
) -> Result<Option<Result<(), SealingError>>, DbError> {
    let at = now(tx).await?;
    let is_late = audit_chain::checked_at.le(at - CHECKPOINT_EVERY);
    let is_long = audit_chain::number.ge(audit_chain::checked + CHECKPOINT_LINKS);
    let query = audit_chain::table
        .filter(audit_chain::number.gt(audit_chain::checked))
        .filter(is_late.or(is_long))
        .order(audit_chain::checked_at)
        .limit(CHECKPOINTS_AT_ONCE)
        .select((
            audit_chain::tenant_id,
            audit_chain::number,
            audit_chain::hash,
        ));
    let due: Vec<(TenantId, i64, Vec<u8>)> = on!(tx, |c| query.load(c).await)?;
    if due.is_empty() {
        return Ok(None);
    }
    let signing = Signing::load(tx, sealer).await?;
    for (tenant, number, hash) in due {
        let hash = Hash::from_bytes(&hash).unwrap_or_default();
        let Some(made) = signing.check(tx, tenant, (number, hash), at).await? else {
            // Tried again after the time between two checkpoints.
            checked(tx, tenant, None, at).await?;
            continue;
        };
        checked(tx, tenant, Some(number), at).await?;
        tx.after_commit(move || hand_out(&made));
    }
    Ok(Some(match signing {
        Signing::Not(error) => Err(error),
        Signing::By(_) | Signing::Unsigned => Ok(()),
    }))
}

async fn checked(
    tx: &mut Tx,
    tenant: TenantId,
    number: Option<i64>,
    at: Moment,
) -> Result<(), DbError> {
    let chain = audit_chain::table.find(tenant);
    let at = audit_chain::checked_at.eq(at);
    match number {
        None => {
            let noted = diesel::update(chain).set(at);
            on!(tx, |c| noted.execute(c).await)
        }
        Some(number) => {
            let noted = diesel::update(chain).set((audit_chain::checked.eq(number), at));
            on!(tx, |c| noted.execute(c).await)
        }
    }
    .map(drop)
}

/// What is kept elsewhere shows later what is missing here.
fn hand_out(made: &Checkpoint) {
    CHECKPOINTS.add(1, &[]);
    let checkpoint = serde_json::to_string(made).unwrap_or_default();
    info!(
        tenant = %made.tenant(),
        number = made.number(),
        hash = %made.hash(),
        checkpoint,
        "audit checkpoint: the chain of tenant {} has {} links, the last with hash {}",
        made.tenant(),
        made.number(),
        made.hash(),
    );
}
