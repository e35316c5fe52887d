//! Claiming: which jobs an instance runs next.
//!
//! Jobs of one queue and kind are claimed in batches. Within them tenants take turns: a claim gives each tenant with ready
//! jobs the same number, up to as many tenants as there is room for, and the next claim begins with the tenant after the
//! last. The jobs of a tenant are claimed by priority, then by time, and begin in the same order.

mod following;
mod known;
mod look;
mod payloads;
mod suspects;
mod take;

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use diesel::{
    prelude::*,
    sql_types::{BigInt, Integer, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, TenantId, Tx, on,
    types::{Moment, sql::Uuid},
};
use serde_json::Value;

pub(super) use known::Known;

use super::{
    JobId, KindSpec, SYSTEM, bounds, liveness, liveness::WorkerId, settle::Lease, tables::job_queue,
};
use crate::order::oldest_open;
use following::claim_on;
use known::{Arrivals, MOST_TENANTS, Place, Which};
use payloads::with_payloads;
use suspects::Suspect;

/// What an instance has room for.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) spec: KindSpec,
    /// How many more jobs there is room for, by queue.
    pub(super) free: HashMap<String, u32>,
    /// The same in a queue that is not named.
    pub(super) elsewhere: u32,
}

impl Room {
    fn in_queue(&self, queue: &str) -> i64 {
        i64::from(self.free.get(queue).copied().unwrap_or(self.elsewhere))
    }
}

/// A claim to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) rooms: Vec<Room>,
    /// Whether a job may be claimed that is suspect of having ended a process.
    pub(super) takes_suspect: bool,
    pub(super) known: Known,
}

/// A job that was claimed.
#[derive(Clone, Debug)]
pub(super) struct Claimed {
    pub(super) lease: Lease,
    pub(super) kind: String,
    pub(super) queue: String,
    pub(super) attempt: i32,
    pub(super) max_attempts: i32,
    pub(super) crashes: i32,
    /// When it was claimed.
    pub(super) at: Moment,
    pub(super) args: Value,
    pub(super) traceparent: Option<String>,
}

/// What came of a claim.
#[derive(Debug, Default)]
pub(super) struct Claims {
    /// In the order in which they are to begin.
    pub(super) jobs: Vec<Claimed>,
    pub(super) known: Known,
    /// Claims that found less than there was room for, because of a rate or of what other instances run.
    pub(super) is_bounded: bool,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = Uuid)]
    id: JobId,
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Integer)]
    priority: i32,
    #[diesel(sql_type = Timestamp)]
    run_at: Moment,
    #[diesel(sql_type = BigInt)]
    lease: i64,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Integer)]
    crashes: i32,
}

impl Row {
    fn place(&self) -> Place {
        Place {
            tenant_id: self.tenant_id,
            priority: self.priority,
            run_at: self.run_at,
            id: self.id,
        }
    }
}

const CLAIMED: &str = "state = 'running', attempt = attempt + 1, lease = lease + 1";
const COLUMNS: [&str; 10] = [
    "id",
    "tenant_id",
    "kind",
    "queue",
    "priority",
    "run_at",
    "lease",
    "attempt",
    "max_attempts",
    "crashes",
];

fn returning(prefix: &str) -> String {
    COLUMNS.map(|column| format!("{prefix}{column}")).join(", ")
}

/// Claims what there is room for, for the incarnation `me`; `None` if that one has ended.
pub(super) async fn claim(
    db: &Db,
    me: WorkerId,
    wanted: Wanted,
) -> Result<Option<Claims>, DbError> {
    let claim = async move |tx: &mut Tx| {
        let Some(now) = liveness::hold(tx, me).await? else {
            return Ok(None);
        };
        let paused = paused(tx).await?;
        let known = wanted.known;
        let is_following = known.is_slow() && known.arrivals.is_some();
        let round = Round {
            me,
            now,
            paused,
            is_following,
        };
        let suspect = match wanted.takes_suspect {
            true => suspects::claim(tx, &round, &wanted.rooms).await?,
            false => Suspect::default(),
        };
        let mut rows: Vec<_> = suspect.row.into_iter().collect();
        let mut claims = if known.is_slow() {
            claim_on(tx, &round, &wanted.rooms, known).await?
        } else {
            claim_again(tx, &round, &wanted.rooms, known).await?
        };
        rows.append(&mut claims.rows);
        claims.known.is_idle = rows.is_empty();
        Ok(Some(Claims {
            jobs: with_payloads(tx, rows, now).await?,
            known: claims.known,
            is_bounded: claims.is_bounded || suspect.is_bounded,
        }))
    };
    db.transaction("claim jobs", claim).await
}

/// What holds for all of one claim.
struct Round {
    me: WorkerId,
    now: Moment,
    paused: Vec<String>,
    /// Jobs that become ready are found without a look.
    is_following: bool,
}

/// What one claim has so far.
#[derive(Default)]
struct Found {
    rows: Vec<Row>,
    known: Known,
    is_bounded: bool,
}

impl Round {
    /// How many jobs of the room may be claimed in the queue.
    async fn most(
        &self,
        tx: &mut Tx,
        room: &Room,
        queue: &str,
        found: &mut Found,
    ) -> Result<i64, DbError> {
        let free = room.in_queue(queue);
        if free == 0 || self.paused.iter().any(|paused| paused == queue) {
            return Ok(0);
        }
        let most = bounds::bound(tx, &room.spec, free, self.now).await?;
        found.is_bounded |= most < free;
        Ok(most)
    }

    /// Claims at most `most` jobs from `places`, and notes where they end; the next claim begins with the tenant after the last
    /// that had its turn.
    async fn take(
        &self,
        tx: &mut Tx,
        room: &Room,
        queue: String,
        (places, most): (Vec<Place>, i64),
        found: &mut Found,
    ) -> Result<(), DbError> {
        let which = (room.spec.kind, queue);
        let rows = take::take(tx, self, &which, &places, most).await?;
        bounds::spend(tx, &room.spec, rows.len()).await?;
        // A tenant of which there was no job is known again when one becomes ready.
        let is_cut = i64::try_from(rows.len()).unwrap_or(most) >= most;
        let is_known = |place: &Place| {
            let mut tenants = rows.iter().map(|row| row.tenant_id);
            !self.is_following || is_cut || tenants.any(|it| it == place.tenant_id)
        };
        let places = places.into_iter().filter(is_known);
        let places = places.map(|place| place.after(&rows));
        let mut places: Vec<_> = places.collect();
        let turns = usize::try_from(most).unwrap_or(usize::MAX);
        let served = turns.min(places.len());
        places.rotate_left(served);
        found.known.places.insert(which, places);
        found.rows.extend(rows);
        Ok(())
    }
}

/// Looks through all queues, without a claim: what the next claims go on from.
pub(super) async fn look_through(
    db: &Db,
    rooms: Vec<Room>,
    before: Known,
) -> Result<Known, DbError> {
    let look = async move |c: &mut Connection| {
        let (mut known, began) = (Known::default(), Instant::now());
        // Before the rest: what is made ready later is found by its transaction.
        if let Connection::Postgres(_) = c {
            known.arrivals = Some(Arrivals::new(oldest_open(c).await?, Duration::ZERO));
        }
        for (at, queue) in look::ready(c, &rooms).await? {
            if let Some(room) = rooms.get(at) {
                let which = (room.spec.kind, queue);
                // Jobs of tenants that are left out here are found by no other way before the next look, and jobs of theirs
                // that become ready later would be claimed first.
                let most = match known.arrivals {
                    Some(_) => i64::try_from(MOST_TENANTS).unwrap_or(i64::MAX),
                    None => room.elsewhere.into(),
                };
                let places = places_of(c, &which, &before, most, &mut known).await?;
                known.places.insert(which, places);
            }
        }
        known.looked = Some((Instant::now(), began.elapsed()));
        Ok::<_, DbError>(known)
    };
    db.read("look for ready jobs", look).await
}

/// Where the jobs of the tenants are whose turn it is, at most so many; notes the tenant that the next look begins with.
async fn places_of(
    c: &mut Connection,
    which: &Which,
    before: &Known,
    most: i64,
    known: &mut Known,
) -> Result<Vec<Place>, DbError> {
    let begin = before.turns.get(which).copied().unwrap_or(SYSTEM);
    let lanes = look::lanes(c, which, begin, most).await?;
    if let Some(next) = lanes.next {
        known.turns.insert(which.clone(), next);
    }
    Ok(lanes.places)
}

/// Looks through all queues, and claims.
async fn claim_again(
    tx: &mut Tx,
    round: &Round,
    rooms: &[Room],
    before: Known,
) -> Result<Found, DbError> {
    let mut found = Found::default();
    let began = Instant::now();
    let ready = look::ready(tx, rooms).await?;
    let mut took = began.elapsed();
    for (at, queue) in ready {
        let Some(room) = rooms.get(at) else {
            continue;
        };
        let most = round.most(tx, room, &queue, &mut found).await?;
        if most == 0 {
            continue;
        }
        let which = (room.spec.kind, queue);
        let began = Instant::now();
        let places = places_of(tx, &which, &before, most, &mut found.known).await?;
        took += began.elapsed();
        round
            .take(tx, room, which.1, (places, most), &mut found)
            .await?;
    }
    found.known.looked = Some((Instant::now(), took));
    Ok(found)
}

/// The names of queues that are paused.
async fn paused(tx: &mut Tx) -> Result<Vec<String>, DbError> {
    let query = job_queue::table
        .filter(job_queue::paused_at.is_not_null())
        .select(job_queue::name);
    on!(tx, |c| query.load(c).await)
}
