//! Looking for ready jobs: in which queues there are any, and of which tenants.

use diesel::{
    QueryableByName, sql_query,
    sql_types::{BigInt, Text},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, Querying, TenantId, Tx, on, types::sql::Uuid};

use super::{Room, SYSTEM, known::Which};

#[derive(QueryableByName)]
struct Ready {
    #[diesel(sql_type = Text)]
    queue: String,
    #[diesel(sql_type = Text)]
    kind: String,
}

/// In which queues which of the kinds have ready jobs; in an order that all instances have, since they lock the rows of
/// kinds in it.
pub(super) async fn ready(tx: &mut Tx, rooms: &[Room]) -> Result<Vec<(usize, String)>, DbError> {
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
pub(super) struct Lanes {
    pub(super) tenants: Vec<TenantId>,
    /// The one after them, if there are more.
    pub(super) next: Option<TenantId>,
}

#[derive(QueryableByName)]
struct Lane {
    #[diesel(sql_type = Uuid)]
    tenant_id: TenantId,
}

/// At most `most` tenants with ready jobs, from `begin` on and then from the first, found by one step through the index for each.
pub(super) async fn lanes(
    tx: &mut Tx,
    which: &Which,
    begin: TenantId,
    most: i64,
) -> Result<Lanes, DbError> {
    let mut tenants = lanes_from(tx, which, begin, most + 1).await?;
    let more = most + 1 - i64::try_from(tenants.len()).unwrap_or(most);
    if more > 0 && begin != SYSTEM {
        let first = lanes_from(tx, which, SYSTEM, more).await?;
        tenants.extend(first.into_iter().take_while(|tenant| *tenant < begin));
    }
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let next = (tenants.len() > most).then(|| tenants.pop()).flatten();
    Ok(Lanes { tenants, next })
}

async fn lanes_from(
    tx: &mut Tx,
    (kind, queue): &Which,
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
        .bind::<Text, _>(queue.clone())
        .bind::<Text, _>(*kind)
        .bind::<Uuid, _>(begin)
        .bind::<BigInt, _>(most);
    let lanes: Vec<Lane> = on!(tx, |c| query.load(c).await)?;
    Ok(lanes.into_iter().map(|lane| lane.tenant_id).collect())
}
