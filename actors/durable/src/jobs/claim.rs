//! Claiming: which jobs an instance runs next.
//!
//! Jobs of one queue and kind are claimed in batches. Within them tenants take turns: a claim gives each tenant with ready
//! jobs the same number, up to as many tenants as there are slots, and the next claim begins with the tenant after the
//! last. The jobs of a tenant are claimed by priority, then by time.

use std::collections::HashMap;

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool, Integer, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, Db, DbError, OptionalExtension, Querying, TenantId, Tx, on,
    types::{Moment, sql::Uuid},
};
use serde_json::Value;

use super::{
    JobId, KindSpec, SYSTEM, bounds, liveness,
    liveness::WorkerId,
    settle::Lease,
    tables::{job, job_payload, job_queue},
};
use crate::clock::now;

/// What an instance has room for.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) spec: KindSpec,
    /// Free slots by queue; a queue that is not named has all of the kind's.
    pub(super) free: HashMap<String, u32>,
    /// With which tenant the next claim begins, by queue.
    pub(super) turns: HashMap<String, TenantId>,
}

/// A claim to be.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) rooms: Vec<Room>,
    /// Whether a job may be claimed that is suspect of having ended a process.
    pub(super) takes_suspect: bool,
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
    pub(super) jobs: Vec<Claimed>,
    /// With which tenant the next claim begins, by kind and queue; those that are not here begin with the first.
    pub(super) turns: HashMap<(&'static str, String), TenantId>,
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
    #[diesel(sql_type = BigInt)]
    lease: i64,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Integer)]
    max_attempts: i32,
    #[diesel(sql_type = Integer)]
    crashes: i32,
}

const CLAIMED: &str = "state = 'running', attempt = attempt + 1, lease = lease + 1";
const COLUMNS: [&str; 8] = [
    "id",
    "tenant_id",
    "kind",
    "queue",
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
        if !liveness::hold(tx, me).await? {
            return Ok(None);
        }
        let now = now(tx).await?;
        let mut claims = Claims::default();
        let mut rows = Vec::new();
        let paused = paused(tx).await?;
        if wanted.takes_suspect {
            let kinds: Vec<_> = wanted.rooms.iter().map(|room| room.spec.kind).collect();
            rows.extend(suspect(tx, me, &kinds, &paused, now).await?);
        }
        for (at, queue) in ready(tx, &wanted.rooms).await? {
            let Some(room) = wanted.rooms.get(at) else {
                continue;
            };
            let free = room
                .free
                .get(&queue)
                .copied()
                .unwrap_or(room.spec.rules.slots);
            if free == 0 || paused.contains(&queue) {
                continue;
            }
            let free = i64::from(free);
            let most = bounds::bound(tx, &room.spec, free, now).await?;
            claims.is_bounded |= most < free;
            if most == 0 {
                continue;
            }
            let lanes = lanes(tx, room, &queue, most).await?;
            if let Some(next) = lanes.next {
                claims.turns.insert((room.spec.kind, queue.clone()), next);
            }
            let which = (room.spec.kind, queue);
            let found = take(tx, me, which, lanes.tenants, most, now).await?;
            bounds::spend(tx, &room.spec, found.len()).await?;
            rows.extend(found);
        }
        claims.jobs = with_payloads(tx, rows, now).await?;
        Ok(Some(claims))
    };
    db.transaction("claim jobs", claim).await
}

/// The names of queues that are paused.
async fn paused(tx: &mut Tx) -> Result<Vec<String>, DbError> {
    let query = job_queue::table
        .filter(job_queue::paused_at.is_not_null())
        .select(job_queue::name);
    on!(tx, |c| query.load(c).await)
}

#[derive(QueryableByName)]
struct Ready {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// In which queues which of the kinds have ready jobs; in an order that all instances have, since they lock the rows of
/// kinds in it.
async fn ready(tx: &mut Tx, rooms: &[Room]) -> Result<Vec<(usize, String)>, DbError> {
    let kinds: Vec<_> = rooms.iter().map(|room| room.spec.kind).collect();
    let kinds = serde_json::to_string(&kinds).unwrap_or_default();
    let listed = match tx.connection() {
        Connection::Postgres(_) => "json_array_elements_text($1::json) AS known (kind)",
        Connection::Sqlite(_) => "(SELECT value AS kind FROM json_each($1)) AS known",
    };
    let query = sql_query(format!(
        "SELECT job_queue.name AS queue, known.kind AS kind FROM job_queue CROSS JOIN {listed} \
         WHERE EXISTS (SELECT 1 FROM job WHERE job.state = 'ready' AND job.crashes = 0 \
         AND job.queue = job_queue.name AND job.kind = known.kind) ORDER BY known.kind, job_queue.name"
    ));
    let found: Vec<Ready> = on!(tx, |c| query.bind::<Text, _>(kinds).load(c).await)?;
    let place = |found: Ready| {
        let at = rooms.iter().position(|room| room.spec.kind == found.kind)?;
        Some((at, found.queue))
    };
    Ok(found.into_iter().filter_map(place).collect())
}

/// The tenants whose turn it is.
struct Lanes {
    tenants: Vec<TenantId>,
    /// Who comes after them, if there are more.
    next: Option<TenantId>,
}

#[derive(QueryableByName)]
struct Lane {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
}

/// At most `most` tenants with ready jobs, found by one step through the index for each.
async fn lanes(tx: &mut Tx, room: &Room, queue: &str, most: i64) -> Result<Lanes, DbError> {
    let begin = room.turns.get(queue).copied().unwrap_or(SYSTEM);
    let mut tenants = lanes_from(tx, room.spec.kind, queue, begin, most + 1).await?;
    if tenants.is_empty() && begin != SYSTEM {
        tenants = lanes_from(tx, room.spec.kind, queue, SYSTEM, most + 1).await?;
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let next = (tenants.len() > most).then(|| tenants.pop()).flatten();
    Ok(Lanes { tenants, next })
}

async fn lanes_from(
    tx: &mut Tx,
    kind: &'static str,
    queue: &str,
    begin: TenantId,
    most: i64,
) -> Result<Vec<TenantId>, DbError> {
    let step = |condition: &str| {
        format!(
            "(SELECT tenant_id FROM job WHERE state = 'ready' AND crashes = 0 AND queue = $1 AND kind = $2 \
             AND tenant_id {condition} ORDER BY tenant_id LIMIT 1)"
        )
    };
    let query = sql_query(format!(
        "WITH RECURSIVE lane (tenant_id, number) AS (SELECT {}, 1 UNION ALL SELECT {}, number + 1 FROM lane \
         WHERE tenant_id IS NOT NULL AND number < $4) SELECT tenant_id FROM lane WHERE tenant_id IS NOT NULL",
        step(">= $3"),
        step("> lane.tenant_id"),
    ));
    let query = query
        .bind::<Text, _>(queue.to_owned())
        .bind::<Text, _>(kind)
        .bind::<Uuid, _>(begin)
        .bind::<BigInt, _>(most);
    let lanes: Vec<Lane> = on!(tx, |c| query.load(c).await)?;
    Ok(lanes.into_iter().map(|lane| lane.tenant_id).collect())
}

/// Claims at most `most` jobs of the tenants, as many of each.
async fn take(
    tx: &mut Tx,
    me: WorkerId,
    (kind, queue): (&'static str, String),
    tenants: Vec<TenantId>,
    most: i64,
    now: Moment,
) -> Result<Vec<Row>, DbError> {
    let lanes = i64::try_from(tenants.len()).unwrap_or(most).max(1);
    let each = most.div_euclid(lanes) + i64::from(most % lanes > 0);
    if matches!(tx.connection(), Connection::Postgres(_)) {
        let query = sql_query(format!(
            "WITH picked AS MATERIALIZED (SELECT found.id FROM json_array_elements_text($1::json) AS lane (tenant_id) \
             CROSS JOIN LATERAL (SELECT id FROM job WHERE state = 'ready' AND crashes = 0 AND queue = $2 AND kind = $3 \
             AND tenant_id = lane.tenant_id::uuid ORDER BY priority, run_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) AS found \
             LIMIT $5) UPDATE job SET worker = $6, started_at = $7, {CLAIMED} FROM picked WHERE job.id = picked.id \
             RETURNING {}",
            returning("job."),
        ));
        let tenants = serde_json::to_string(&tenants).unwrap_or_default();
        let query = query
            .bind::<Text, _>(tenants)
            .bind::<Text, _>(queue)
            .bind::<Text, _>(kind)
            .bind::<BigInt, _>(each)
            .bind::<BigInt, _>(most)
            .bind::<Uuid, _>(me)
            .bind::<Timestamp, _>(now);
        return on!(tx, |c| query.load(c).await);
    }
    let mut rows = Vec::new();
    for tenant in tenants {
        let left = most - i64::try_from(rows.len()).unwrap_or(most);
        if left <= 0 {
            break;
        }
        let query = sql_query(format!(
            "UPDATE job SET worker = $1, started_at = $2, {CLAIMED} WHERE id IN (SELECT id FROM job \
             WHERE state = 'ready' AND crashes = 0 AND queue = $3 AND kind = $4 AND tenant_id = $5 \
             ORDER BY priority, run_at, id LIMIT $6) RETURNING {}",
            returning(""),
        ));
        let query = query
            .bind::<Uuid, _>(me)
            .bind::<Timestamp, _>(now)
            .bind::<Text, _>(queue.clone())
            .bind::<Text, _>(kind)
            .bind::<Uuid, _>(tenant)
            .bind::<BigInt, _>(each.min(left));
        let found: Vec<Row> = on!(tx, |c| query.load(c).await)?;
        rows.extend(found);
    }
    Ok(rows)
}

/// Claims one job that is suspect of having ended a process.
async fn suspect(
    tx: &mut Tx,
    me: WorkerId,
    kinds: &[&'static str],
    paused: &[String],
    now: Moment,
) -> Result<Option<Row>, DbError> {
    // In this order, and without bindings, so that the index of suspects is all that is read.
    let is_suspect = diesel::dsl::sql::<Bool>("state = 'ready' AND crashes > 0");
    let query = job::table
        .filter(is_suspect)
        .filter(job::kind.eq_any(kinds.to_vec()))
        .filter(job::queue.ne_all(paused.to_vec()))
        .order((job::run_at, job::id))
        .select(job::id);
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.for_update().skip_locked();
            query.first::<JobId>(&mut **c).await
        }
        Connection::Sqlite(c) => query.first::<JobId>(&mut **c).await,
    };
    let Some(id) = tx.classified(found).optional()? else {
        return Ok(None);
    };
    let query = sql_query(format!(
        "UPDATE job SET worker = $1, started_at = $2, {CLAIMED} WHERE id = $3 RETURNING {}",
        returning(""),
    ));
    let query = query
        .bind::<Uuid, _>(me)
        .bind::<Timestamp, _>(now)
        .bind::<Uuid, _>(id);
    on!(tx, |c| query.get_result(c).await).optional()
}

/// Adds what the jobs are to be done with.
async fn with_payloads(tx: &mut Tx, rows: Vec<Row>, at: Moment) -> Result<Vec<Claimed>, DbError> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
    let query = job_payload::table
        .filter(job_payload::job_id.eq_any(ids))
        .select((
            job_payload::job_id,
            job_payload::args,
            job_payload::traceparent,
        ));
    let payloads: Vec<(JobId, Value, Option<String>)> = on!(tx, |c| query.load(c).await)?;
    let payloads = payloads
        .into_iter()
        .map(|(id, args, trace)| (id, (args, trace)));
    let mut payloads: HashMap<_, _> = payloads.collect();
    let claimed = rows.into_iter().map(|row| {
        let (args, traceparent) = payloads.remove(&row.id).unwrap_or_default();
        Claimed {
            lease: Lease {
                id: row.id,
                tenant: row.tenant_id,
                number: row.lease,
            },
            kind: row.kind,
            queue: row.queue,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            crashes: row.crashes,
            at,
            args,
            traceparent,
        }
    });
    Ok(claimed.collect())
}
