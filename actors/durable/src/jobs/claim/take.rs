//! Claiming jobs of one kind and queue, from where their tenants are.

use std::collections::HashMap;

use diesel::{
    sql_query,
    sql_types::{BigInt, Integer, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, Querying, TenantId, Tx, on, types::sql::Uuid};

use super::{
    CLAIMED, Round, Row,
    known::{Place, Which},
    returning,
};

const IS_READY: &str = "state = 'ready' AND crashes = 0";

/// Claims at most `most` jobs from `places` on, as many of each tenant.
pub(super) async fn take(
    tx: &mut Tx,
    round: &Round,
    which: &Which,
    places: &[Place],
    most: i64,
) -> Result<Vec<Row>, DbError> {
    let tenants = i64::try_from(places.len()).unwrap_or(most).max(1);
    let each = most.div_euclid(tenants) + i64::from(most % tenants > 0);
    let rows = match tx.connection() {
        Connection::Postgres(_) => of_all(tx, round, which, places, (each, most)).await?,
        Connection::Sqlite(_) => one_by_one(tx, round, which, places, (each, most)).await?,
    };
    Ok(in_turns(places, rows))
}

async fn of_all(
    tx: &mut Tx,
    round: &Round,
    (kind, queue): &Which,
    places: &[Place],
    (each, most): (i64, i64),
) -> Result<Vec<Row>, DbError> {
    let query = sql_query(format!(
        "WITH picked AS MATERIALIZED (SELECT found.id FROM json_to_recordset($1::json) \
         AS place (tenant_id uuid, priority integer, run_at timestamp, id uuid) \
         CROSS JOIN LATERAL (SELECT id FROM job WHERE {IS_READY} AND queue = $2 AND kind = $3 \
         AND tenant_id = place.tenant_id AND (priority, run_at, id) >= (place.priority, place.run_at, place.id) \
         ORDER BY priority, run_at, id LIMIT $4 FOR UPDATE SKIP LOCKED) AS found \
         LIMIT $5) UPDATE job SET worker = $6, started_at = $7, {CLAIMED} FROM picked WHERE job.id = picked.id \
         RETURNING {}",
        returning("job."),
    ));
    let places = serde_json::to_string(places).unwrap_or_default();
    let query = query
        .bind::<Text, _>(places)
        .bind::<Text, _>(queue.clone())
        .bind::<Text, _>(*kind)
        .bind::<BigInt, _>(each)
        .bind::<BigInt, _>(most)
        .bind::<Uuid, _>(round.me)
        .bind::<Timestamp, _>(round.now);
    on!(tx, |c| query.load(c).await)
}

async fn one_by_one(
    tx: &mut Tx,
    round: &Round,
    (kind, queue): &Which,
    places: &[Place],
    (each, most): (i64, i64),
) -> Result<Vec<Row>, DbError> {
    let mut rows: Vec<Row> = Vec::new();
    for place in places {
        let left = most - i64::try_from(rows.len()).unwrap_or(most);
        if left <= 0 {
            break;
        }
        let query = sql_query(format!(
            "UPDATE job SET worker = $1, started_at = $2, {CLAIMED} WHERE id IN (SELECT id FROM job \
             WHERE {IS_READY} AND queue = $3 AND kind = $4 AND tenant_id = $5 \
             AND (priority, run_at, id) >= ($6, $7, $8) ORDER BY priority, run_at, id LIMIT $9) RETURNING {}",
            returning(""),
        ));
        let query = query
            .bind::<Uuid, _>(round.me)
            .bind::<Timestamp, _>(round.now)
            .bind::<Text, _>(queue.clone())
            .bind::<Text, _>(*kind)
            .bind::<Uuid, _>(place.tenant_id)
            .bind::<Integer, _>(place.priority)
            .bind::<Timestamp, _>(place.run_at)
            .bind::<Uuid, _>(place.id)
            .bind::<BigInt, _>(each.min(left));
        let found: Vec<Row> = on!(tx, |c| query.load(c).await)?;
        rows.extend(found);
    }
    Ok(rows)
}

/// The order in which jobs begin: tenants take turns, those of each by priority, then by time.
fn in_turns(places: &[Place], mut rows: Vec<Row>) -> Vec<Row> {
    let tenants = places.iter().enumerate();
    let tenants: HashMap<TenantId, usize> = tenants.map(|(at, it)| (it.tenant_id, at)).collect();
    rows.sort_by_key(|row| (row.priority, row.run_at, row.id));
    let mut taken: HashMap<TenantId, usize> = HashMap::new();
    let mut ordered: Vec<_> = rows
        .into_iter()
        .map(|row| {
            let turn = taken.entry(row.tenant_id).or_default();
            *turn += 1;
            ((*turn, tenants.get(&row.tenant_id).copied()), row)
        })
        .collect();
    ordered.sort_by_key(|(turn, _)| *turn);
    ordered.into_iter().map(|(_, row)| row).collect()
}
