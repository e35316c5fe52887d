//! How long events are kept, and the partitions that PostgreSQL keeps them in.
//!
//! On PostgreSQL a partition holds the events of one day. Those of today and tomorrow are made ahead; one whose events
//! are all too old is dropped as a whole, which leaves nothing for vacuum. Until then it keeps all of its events, so
//! the oldest are up to a day older than the retention. What the default partition took, and all of SQLite, is deleted
//! in small transactions.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Utc};
use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, Db, DbError, ModuleDb, Querying, Tx, on, types::Moment};
use dotmac_supervision::{Schedule, WorkerSpec};
use tracing::{info, warn};

use super::{
    Position,
    log::{at, expired},
    tables::event_retention,
};

/// How long events are kept unless said otherwise: 7 days.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// How often old events are taken away.
const INTERVAL: Duration = Duration::from_secs(600);
/// Events that are deleted by one transaction.
const AT_ONCE: i64 = 1000;
/// Making and dropping partitions locks the log for a moment, and gives way to what is under way.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '2s'";

/// The worker that makes partitions and takes away events that are older than `keep`. Any number of instances may run
/// it.
#[must_use]
pub fn retention(name: &'static str, db: &ModuleDb, keep: Duration) -> WorkerSpec {
    let db = Arc::new(db.system("delete expired events"));
    WorkerSpec::new(name, Schedule::Every(INTERVAL), move |_| {
        let db = Arc::clone(&db);
        async move { maintain(&db, Utc::now(), keep).await }
    })
}

/// Makes partitions and takes away what is older than `keep`, as of `now`. `db` has the scope of the system.
///
/// # Errors
///
/// [`DbError`]; what was done stays done.
pub async fn maintain(db: &Db, now: DateTime<Utc>, keep: Duration) -> Result<(), DbError> {
    let oldest = Moment::from(now) - keep;
    if let Some(partitions) = partitions(db).await? {
        for day in [now.date_naive(), now.date_naive() + Days::new(1)] {
            if !partitions.contains(&day) {
                give_way(make(db, day).await, "make", day)?;
            }
        }
        for day in partitions {
            if Moment::from(end_of(day)) <= oldest {
                give_way(drop_partition(db, day).await, "drop", day)?;
            }
        }
    }
    while delete_some(db, oldest).await? == AT_ONCE {}
    Ok(())
}

/// What did not get its lock is done next time.
fn give_way(done: Result<(), DbError>, what: &str, day: NaiveDate) -> Result<(), DbError> {
    match done {
        Err(DbError::TimedOut(_)) => {
            warn!(%day, "could not {what} the partition of the event log for {day}: its tables are in use; retrying later");
            Ok(())
        }
        done => done,
    }
}

fn end_of(day: NaiveDate) -> DateTime<Utc> {
    (day + Days::new(1)).and_time(NaiveTime::MIN).and_utc()
}

fn name_of(day: NaiveDate) -> String {
    format!("event_{}", day.format("%Y%m%d"))
}

#[derive(QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

#[derive(QueryableByName)]
struct Place {
    #[diesel(sql_type = BigInt)]
    xid: i64,
    #[diesel(sql_type = BigInt)]
    position: i64,
}

/// The days that have a partition; `None` on SQLite, which has none.
async fn partitions(db: &Db) -> Result<Option<Vec<NaiveDate>>, DbError> {
    let list = async |c: &mut Connection| {
        let Connection::Postgres(postgres) = c else {
            return Ok(None);
        };
        let query = "SELECT relname::text AS name FROM pg_inherits JOIN pg_class ON oid = inhrelid \
                     WHERE inhparent = 'event'::regclass ORDER BY relname";
        let names = sql_query(query).load::<Name>(&mut **postgres).await;
        let day = |it: &Name| {
            let day = it.name.strip_prefix("event_")?;
            NaiveDate::parse_from_str(day, "%Y%m%d").ok()
        };
        let names = c.classified(names)?;
        Ok(Some(names.iter().filter_map(day).collect()))
    };
    db.read("list partitions of events", list).await
}

/// Makes the partition of a day, unless the default partition has events of it: then it stays there.
async fn make(db: &Db, day: NaiveDate) -> Result<(), DbError> {
    let (name, end) = (name_of(day), day + Days::new(1));
    let is_taken = format!(
        "SELECT '{name}' AS name WHERE to_regclass('{name}') IS NOT NULL \
         OR EXISTS (SELECT FROM event_default WHERE at >= '{day}' AND at < '{end}')"
    );
    let add = format!("SELECT event_partition_add('{day}')");
    let make = async move |tx: &mut Tx| {
        let Connection::Postgres(postgres) = tx.connection() else {
            return Ok(());
        };
        let locked = sql_query(LOCK_TIMEOUT).execute(&mut **postgres).await;
        let taken = match locked {
            Ok(_) => sql_query(is_taken).load::<Name>(&mut **postgres).await,
            Err(error) => Err(error),
        };
        let added = match taken {
            Ok(taken) if taken.is_empty() => {
                sql_query(add).execute(&mut **postgres).await.map(drop)
            }
            taken => taken.map(drop),
        };
        tx.classified(added)
    };
    db.transaction("make a partition of events", make).await
}

async fn drop_partition(db: &Db, day: NaiveDate) -> Result<(), DbError> {
    let end = day + Days::new(1);
    let last = format!(
        "SELECT xid, position FROM event WHERE at >= '{day}' AND at < '{end}' ORDER BY xid DESC, position DESC LIMIT 1"
    );
    let drop_it = format!("SELECT event_partition_drop('{day}')");
    let remove = async move |tx: &mut Tx| {
        let Connection::Postgres(postgres) = tx.connection() else {
            return Ok(());
        };
        let locked = sql_query(LOCK_TIMEOUT).execute(&mut **postgres).await;
        let last = match locked {
            Ok(_) => sql_query(last).load::<Place>(&mut **postgres).await,
            Err(error) => Err(error),
        };
        if let Some(last) = tx.classified(last)?.into_iter().next() {
            note_expired(tx, at((last.xid, last.position))).await?;
        }
        let Connection::Postgres(postgres) = tx.connection() else {
            return Ok(());
        };
        let dropped = sql_query(drop_it).execute(&mut **postgres).await;
        tx.classified(dropped).map(drop)
    };
    db.transaction("drop a partition of events", remove).await?;
    info!(%day, "deleted the events of {day}, which passed the retention");
    Ok(())
}

/// Deletes some events that are older than `oldest`, and that no partition of a day has; how many.
async fn delete_some(db: &Db, oldest: Moment) -> Result<i64, DbError> {
    let delete = async move |tx: &mut Tx| {
        let log = match tx.connection() {
            // The others are dropped as a whole, which leaves nothing for vacuum.
            Connection::Postgres(_) => "event_default",
            Connection::Sqlite(_) => "event",
        };
        let query = sql_query(format!(
            "SELECT xid, position FROM {log} WHERE at < $1 ORDER BY xid, position LIMIT {AT_ONCE}"
        ));
        let query = query.bind::<Timestamp, _>(oldest);
        let old: Vec<Place> = on!(tx, |c| query.load(c).await)?;
        let Some(&Place { xid, position }) = old.last() else {
            return Ok(0);
        };
        let delete = sql_query(format!(
            "DELETE FROM {log} WHERE at < $1 AND (xid < $2 OR xid = $3 AND position <= $4)"
        ));
        let delete = delete
            .bind::<Timestamp, _>(oldest)
            .bind::<BigInt, _>(xid)
            .bind::<BigInt, _>(xid)
            .bind::<BigInt, _>(position);
        on!(tx, |c| delete.execute(c).await)?;
        note_expired(tx, at((xid, position))).await?;
        Ok(i64::try_from(old.len()).unwrap_or(0))
    };
    db.transaction("delete old events", delete).await
}

/// Writes down the last event that is gone, so that a subscriber behind it notices.
async fn note_expired(tx: &mut Tx, last: Position) -> Result<(), DbError> {
    if last <= expired(tx).await? {
        return Ok(());
    }
    let note = diesel::update(event_retention::table.find(1)).set((
        event_retention::xid.eq(last.xid),
        event_retention::position.eq(last.position),
    ));
    on!(tx, |c| note.execute(c).await).map(drop)
}
