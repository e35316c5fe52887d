//! The sealer: links entries into the chain of their tenant, in the order of their commits, and makes checkpoints.
//!
//! Of many instances one works at a time: the one whose transaction has locked the sealer's row. So a chain has no fork,
//! and writers of entries never wait for it.

use std::{
    path::PathBuf,
    sync::{Arc, LazyLock},
    time::Duration,
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, ModuleDb, OptionalExtension, Querying, TenantId, Tx, on,
    sealing::{Sealer, SealingError},
};
use dotmac_supervision::{Schedule, Serving, WorkerContext, WorkerSpec};
use opentelemetry::{global, metrics::Counter};
use tokio::time::Instant;
use tracing::{error, info};

use super::{
    AUDIT_CHAIN_BROKEN, AUDIT_NOT_ARCHIVED, AUDIT_NOT_SIGNED, Broken, Checkpoint, Fault,
    archive::Archive,
    check::{check, due, hand_out},
    link::{AT_ONCE, Place, behind, is_ahead, link},
    tables::audit_sealer,
};
use crate::{clock::now, events::POSITION_AHEAD, outage};

/// How often is looked for entries: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_millis(500);
/// So long a chain that was found broken counts as such: until it was tried again.
const BROKEN_FOR: Duration = Duration::from_secs(660);

static SEALED: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("dotmac.audit")
        .u64_counter("dotmac.audit.sealed")
        .with_description("Audit entries that this process has linked into their chain")
        .build()
});

/// The worker that links entries and makes checkpoints, signed if `signing` has a master key. Any number of instances may
/// run it.
#[must_use]
pub fn sealer(name: &'static str, db: &ModuleDb, signing: Option<Sealer>) -> WorkerSpec {
    archiving_sealer(name, db, signing, None)
}

/// The same, which also appends each checkpoint to the file `archive`, as a line of JSON, once it is committed.
#[must_use]
pub fn archiving_sealer(
    name: &'static str,
    db: &ModuleDb,
    signing: Option<Sealer>,
    archive: Option<PathBuf>,
) -> WorkerSpec {
    let db = Arc::new(db.system("audit entries of all tenants are linked"));
    let (signing, archive) = (Arc::new(signing), archive.map(Arc::new));
    let run = move |context| {
        let archive = Archive::new(archive.clone());
        run(Arc::clone(&db), Arc::clone(&signing), archive, context)
    };
    WorkerSpec::new(name, Schedule::Continuous, run).progress_within(Duration::from_secs(60))
}

async fn run(
    db: Arc<Db>,
    signing: Arc<Option<Sealer>>,
    mut archive: Archive,
    context: WorkerContext,
) -> Result<(), DbError> {
    let (mut not_signed, mut is_ahead, mut broken_until) = (None, false, None);
    while !context.is_stopping() {
        context.beat();
        let lifeline = context.lifeline();
        match seal_some(&db, (*signing).as_ref()).await {
            Ok(mut done) => {
                archive.add(std::mem::take(&mut done.made)).await;
                if let Some(signed) = done.signed
                    && signed.err() != not_signed
                {
                    not_signed = signed.err();
                    note(not_signed);
                }
                if done.is_ahead && !is_ahead {
                    note_ahead();
                }
                is_ahead = done.is_ahead;
                if done.is_broken() {
                    note_broken(&done);
                    broken_until = Some(Instant::now() + BROKEN_FOR);
                }
                let is_broken = broken_until.is_some_and(|until| Instant::now() < until);
                let serving = Serving::default();
                match not_signed {
                    _ if is_ahead => lifeline.unavailable(POSITION_AHEAD),
                    _ if is_broken => lifeline.degraded(AUDIT_CHAIN_BROKEN, serving),
                    Some(_) => lifeline.degraded(AUDIT_NOT_SIGNED, serving),
                    None if archive.is_failing() => lifeline.degraded(AUDIT_NOT_ARCHIVED, serving),
                    None => lifeline.ready(serving),
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
            "checkpoints of the audit log cannot be signed: {error}; entries are linked, and signing is retried"
        ),
    }
}

fn note_ahead() {
    error!(
        "audit entries are not linked: the database assigns lower positions than the sealer has reached; PostgreSQL \
        was restored into another cluster, or the row of `audit_sealer` was changed"
    );
}

fn note_broken(done: &Sealing) {
    for (tenant, broken) in &done.broken {
        error!(
            tenant = %tenant,
            number = broken.number,
            entry = broken.entry.map(|it| it.to_string()),
            fault = broken.fault.as_str(),
            "the audit chain of tenant {tenant} is {broken}; it is not signed"
        );
    }
    if done.is_register_wrong {
        error!(
            fault = Fault::Register.as_str(),
            "audit chains are not signed: {}",
            Fault::Register
        );
    }
}

/// What was done at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sealing {
    /// Entries that were linked.
    pub entries: usize,
    /// Whether the checkpoints that were due could be signed, as far as keys go; `None` if none was made for another reason.
    pub signed: Option<Result<(), SealingError>>,
    /// Checkpoints that were made.
    pub made: Vec<Checkpoint>,
    /// Chains that do not go on from what was signed before. They are not signed.
    pub broken: Vec<(TenantId, Broken)>,
    /// Whether the chains of the database are not those that were signed last. None is signed then.
    pub is_register_wrong: bool,
    /// Whether the database gives out lower positions than the sealer has reached. Nothing is done then.
    pub is_ahead: bool,
}

impl Sealing {
    fn is_broken(&self) -> bool {
        self.is_register_wrong || !self.broken.is_empty()
    }
}

/// Links up to 500 entries, and makes the checkpoints that are due. Nothing while another instance does. `db` has the
/// scope of the system.
///
/// # Errors
///
/// [`DbError`]; nothing was done then.
pub async fn seal_some(db: &Db, signing: Option<&Sealer>) -> Result<Sealing, DbError> {
    // Without a lock first: mostly there is nothing to do.
    let look = db.read("look for audit entries", async |c| look(c).await);
    let found = look.await?;
    if found != Found::Work {
        return Ok(Sealing {
            is_ahead: found == Found::Ahead,
            ..Sealing::default()
        });
    }
    let signing = signing.cloned();
    let seal = async move |tx: &mut Tx| {
        let Some(place) = lock(tx).await? else {
            return Ok::<_, DbError>(Sealing::default());
        };
        let entries = link(tx, place).await?;
        let checked = check(tx, signing.as_ref()).await?;
        let made = checked.made.clone();
        tx.after_commit(move || {
            SEALED.add(entries as u64, &[]);
            made.iter().for_each(hand_out);
        });
        Ok(Sealing {
            entries,
            signed: checked.signed,
            made: checked.made,
            broken: checked.broken,
            is_register_wrong: checked.is_register_wrong,
            is_ahead: false,
        })
    };
    db.transaction("link audit entries", seal).await
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    Nothing,
    Work,
    Ahead,
}

async fn look(c: &mut Connection) -> Result<Found, DbError> {
    let query = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let place: Place = on!(c, |c| query.first(c).await)?;
    if is_ahead(c, place).await? {
        return Ok(Found::Ahead);
    }
    let (waiting, is_cut) = behind(c, place, 1).await?;
    if is_cut || !waiting.is_empty() {
        return Ok(Found::Work);
    }
    let at = now(c).await?;
    Ok(match due(c, at).await?.is_empty() {
        true => Found::Nothing,
        false => Found::Work,
    })
}

/// Locks the sealer's row for this transaction, and gives its place; `None` while another instance has it.
async fn lock(tx: &mut Tx) -> Result<Option<Place>, DbError> {
    let query = audit_sealer::table
        .find(1)
        .select((audit_sealer::xid, audit_sealer::position));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.first::<Place>(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => query.first::<Place>(&mut **c).await,
    };
    tx.classified(found).optional()
}
