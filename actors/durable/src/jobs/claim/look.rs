//! Looking for ready jobs: in which queues there are any, and of which tenants.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Integer, Nullable, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, DbError, TenantId, Tx, on,
    types::{Moment, sql::Uuid},
};

use super::{
    JobId, Room, SYSTEM,
    known::{Place, Which},
};

#[derive(QueryableByName)]
struct Ready {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// In which queues which of the kinds have ready jobs; in an order that all instances have, since they lock the rows of
/// kinds in it.
pub(super) async fn ready(
    c: &mut Connection,
    rooms: &[Room],
) -> Result<Vec<(usize, String)>, DbError> {
    let kinds: Vec<_> = rooms.iter().map(|room| room.spec.kind).collect();
    let kinds = serde_json::to_string(&kinds).unwrap_or_default();
    let listed = match c {
        Connection::Postgres(_) => "json_array_elements_text($1::json) AS known (kind)",
        Connection::Sqlite(_) => "(SELECT value AS kind FROM json_each($1)) AS known",
    };
    let query = sql_query(format!(
        "SELECT job_queue.name AS queue, known.kind AS kind FROM job_queue CROSS JOIN {listed} \
         WHERE EXISTS (SELECT 1 FROM job WHERE job.state = 'ready' AND job.crashes = 0 \
         AND job.queue = job_queue.name AND job.kind = known.kind) ORDER BY known.kind, job_queue.name"
    ));
    let found: Vec<Ready> = on!(c, |c| query.bind::<Text, _>(kinds).load(c).await)?;
    let place = |found: Ready| {
        let at = rooms.iter().position(|room| room.spec.kind == found.kind)?;
        Some((at, found.queue))
    };
    Ok(found.into_iter().filter_map(place).collect())
}

/// What has become ready.
pub(super) struct Arrived {
    /// The oldest transaction that was open: what those below it made ready is known.
    pub(super) open: i64,
    /// The first job of each kind, queue and tenant.
    pub(super) firsts: Vec<(String, String, Place)>,
}

#[derive(QueryableByName)]
struct ArrivedRow {
    #[diesel(sql_type = BigInt)]
    open: i64,
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    queue: Option<String>,
    #[diesel(sql_type = Nullable<Uuid>)]
    tenant_id: Option<TenantId>,
    #[diesel(sql_type = Nullable<Integer>)]
    priority: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamp>)]
    run_at: Option<Moment>,
    #[diesel(sql_type = Nullable<Uuid>)]
    id: Option<JobId>,
}

/// The ready jobs that the transaction `floor` or later ones made so; on PostgreSQL. All that are older had ended before, so
/// their jobs were found then.
pub(super) async fn arrived(tx: &mut Tx, floor: i64) -> Result<Arrived, DbError> {
    // The condition on `finished_at` is that of its index, which no claim can use so.
    let query = sql_query(
        "WITH recent AS MATERIALIZED (SELECT kind, queue, tenant_id, priority, run_at, id FROM job \
         WHERE state = 'ready' AND crashes = 0 AND finished_at IS NULL AND ready_xid >= $1), \
         first AS (SELECT DISTINCT ON (kind, queue, tenant_id) * FROM recent \
         ORDER BY kind, queue, tenant_id, priority, run_at, id) \
         SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS open, first.* \
         FROM (SELECT 1) AS one LEFT JOIN first ON true",
    );
    let query = query.bind::<BigInt, _>(floor);
    let rows: Vec<ArrivedRow> = on!(tx, |c| query.load(c).await)?;
    let open = rows.as_slice().first().map_or(floor, |row| row.open);
    let firsts = rows.into_iter().filter_map(|row| {
        let place = Place {
            tenant_id: row.tenant_id?,
            priority: row.priority?,
            run_at: row.run_at?,
            id: row.id?,
        };
        Some((row.kind?, row.queue?, place))
    });
    Ok(Arrived {
        open,
        firsts: firsts.collect(),
    })
}

/// The tenants whose turn it is.
pub(super) struct Lanes {
    /// Where the first ready job of each is.
    pub(super) places: Vec<Place>,
    /// The tenant after them, if there are more.
    pub(super) next: Option<TenantId>,
}

#[derive(QueryableByName)]
struct First {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
    #[diesel(sql_type = Integer)]
    priority: i32,
    #[diesel(sql_type = Timestamp)]
    run_at: Moment,
    #[diesel(sql_type = Uuid)]
    id: JobId,
}

/// At most `most` tenants with ready jobs, from `begin` on and then from the first, found by one step through the index for each.
pub(super) async fn lanes(
    c: &mut Connection,
    which: &Which,
    begin: TenantId,
    most: i64,
) -> Result<Lanes, DbError> {
    let mut places = lanes_from(c, which, begin, most + 1).await?;
    let more = most + 1 - i64::try_from(places.len()).unwrap_or(most);
    if more > 0 && begin != SYSTEM {
        let first = lanes_from(c, which, SYSTEM, more).await?;
        places.extend(first.into_iter().take_while(|it| it.tenant_id < begin));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let next = (places.len() > most).then(|| places.pop()).flatten();
    Ok(Lanes {
        places,
        next: next.map(|place| place.tenant_id),
    })
}

async fn lanes_from(
    c: &mut Connection,
    (kind, queue): &Which,
    begin: TenantId,
    most: i64,
) -> Result<Vec<Place>, DbError> {
    let step = |condition: &str| {
        format!(
            "(SELECT id FROM job WHERE state = 'ready' AND crashes = 0 AND queue = $1 AND kind = $2 \
             AND tenant_id {condition} ORDER BY tenant_id, priority, run_at, id LIMIT 1)"
        )
    };
    let query = sql_query(format!(
        "WITH RECURSIVE lane (id, number) AS (SELECT {}, 1 UNION ALL SELECT {}, number + 1 FROM lane \
         WHERE id IS NOT NULL AND number < $4) SELECT job.tenant_id, job.priority, job.run_at, job.id \
         FROM lane JOIN job ON job.id = lane.id ORDER BY lane.number",
        step(">= $3"),
        step("> (SELECT last.tenant_id FROM job AS last WHERE last.id = lane.id)"),
    ));
    let query = query
        .bind::<Text, _>(queue.clone())
        .bind::<Text, _>(*kind)
        .bind::<Uuid, _>(begin)
        .bind::<BigInt, _>(most);
    let firsts: Vec<First> = on!(c, |c| query.load(c).await)?;
    let places = firsts.into_iter().map(|first| Place {
        tenant_id: first.tenant_id,
        priority: first.priority,
        run_at: first.run_at,
        id: first.id,
    });
    Ok(places.collect())
}
