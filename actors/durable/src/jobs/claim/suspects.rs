//! Claiming jobs that are suspect of having ended a process: one at a time, within the bounds of its kind.

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{Bool, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, OptionalExtension, Querying, Tx, on, types::sql::Uuid};

use super::{
    super::{JobId, bounds, tables::job},
    CLAIMED, Room, Round, Row, returning,
};

/// The suspect that was claimed.
#[derive(Default)]
pub(super) struct Suspect {
    pub(super) row: Option<Row>,
    /// Whether the bounds of a kind kept one from being claimed.
    pub(super) is_bounded: bool,
}

/// Claims the suspect that has waited longest, of those whose kind may begin a job.
pub(super) async fn claim(tx: &mut Tx, round: &Round, rooms: &[Room]) -> Result<Suspect, DbError> {
    let mut specs: Vec<_> = rooms.iter().map(|room| room.spec).collect();
    let (mut is_bounded, mut is_locked) = (false, false);
    let row = loop {
        let kinds = specs.iter().map(|spec| spec.kind).collect();
        let Some((id, kind)) = first(tx, kinds, &round.paused).await? else {
            break None;
        };
        let Some(at) = specs.iter().position(|spec| spec.kind == kind) else {
            break None;
        };
        let spec = specs.swap_remove(at);
        if bounds::is_bounded(&spec) && !is_locked {
            // All of them in one order, since the claims that follow in this transaction lock others.
            let all: Vec<_> = rooms.iter().map(|room| room.spec).collect();
            bounds::lock(tx, &all, round.now).await?;
            is_locked = true;
        }
        if bounds::bound(tx, &spec, 1, round.now).await? == 0 {
            is_bounded = true;
            continue;
        }
        let row = take(tx, round, id).await?;
        bounds::spend(tx, &spec, usize::from(row.is_some())).await?;
        break row;
    };
    Ok(Suspect { row, is_bounded })
}

async fn first(
    tx: &mut Tx,
    kinds: Vec<&'static str>,
    paused: &[String],
) -> Result<Option<(JobId, String)>, DbError> {
    // In this order, and without bindings, so that the index of suspects is all that is read.
    let is_suspect = diesel::dsl::sql::<Bool>("state = 'ready' AND crashes > 0");
    let query = job::table
        .filter(is_suspect)
        .filter(job::kind.eq_any(kinds))
        .filter(job::queue.ne_all(paused.to_vec()))
        .order((job::run_at, job::id))
        .select((job::id, job::kind));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.first(&mut **c).await
        }
        Connection::Sqlite(c) => query.first(&mut **c).await,
    };
    tx.classified(found).optional()
}

async fn take(tx: &mut Tx, round: &Round, id: JobId) -> Result<Option<Row>, DbError> {
    let query = sql_query(format!(
        "UPDATE job SET worker = $1, started_at = $2, {CLAIMED} WHERE id = $3 RETURNING {}",
        returning(""),
    ));
    let query = query
        .bind::<Uuid, _>(round.me)
        .bind::<Timestamp, _>(round.now)
        .bind::<Uuid, _>(id);
    on!(tx, |c| query.get_result(c).await).optional()
}
