//! Claims: which deliveries an instance sends next, and what comes of them.
//!
//! A claim walks from endpoint to endpoint with pending deliveries, by one step through an index for each, and begins where the
//! last one ended, so that no endpoint waits for the others. It locks their lanes, passing over those that another
//! transaction has, and takes as many due deliveries of each as its lane has room for.
//!
//! Of an endpoint that answers quickly an instance may claim more than the lane is wide, so that it need not come back to the
//! database for each few. Until they are written down no other instance claims any of that endpoint, so no more are under
//! way at once than the lane is wide.

use std::{collections::HashMap, sync::Arc};

use diesel::{
    prelude::*,
    sql_query,
    sql_types::{BigInt, Bool, Integer, Text, Timestamp},
};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, Querying as _, TenantId, Tx, on, prepared, records,
        types::{Moment, sql::Uuid},
    },
    delivery::{LaneRules, database_now},
};
use uuid::Uuid as PlainUuid;

use super::{
    deliveries::DeliveryId,
    endpoints::EndpointId,
    lanes::LaneRow,
    messages::MessageId,
    schema::{webhook_endpoint as endpoint, webhook_lane as lane},
    states::EndpointState,
};

/// A life of a sender; a mark for ids.
pub(crate) enum Worker {}

pub(crate) type WorkerId = dotmac_platform::db::types::Id<Worker>;

/// Endpoints that one claim looks at.
const LANES: i64 = 256;

/// A delivery that was claimed.
#[derive(Clone, Debug, QueryableByName)]
pub(crate) struct Claimed {
    #[diesel(sql_type = Uuid)]
    pub(crate) tenant_id: TenantId,
    #[diesel(sql_type = Uuid)]
    pub(crate) id: DeliveryId,
    #[diesel(sql_type = Uuid)]
    pub(crate) endpoint_id: EndpointId,
    #[diesel(sql_type = Uuid)]
    pub(crate) message_id: MessageId,
    #[diesel(sql_type = BigInt)]
    pub(crate) lease: i64,
    #[diesel(sql_type = Integer)]
    pub(crate) attempts: i32,
    #[diesel(sql_type = Integer)]
    pub(crate) tries: i32,
}

/// What an instance asks for.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) worker: WorkerId,
    /// How many attempts it has room for at once.
    pub(crate) most: u32,
    /// How many deliveries it takes of which endpoints beyond what may be under way at once.
    pub(crate) ahead: Arc<HashMap<EndpointId, u32>>,
    /// How many more it takes so of all endpoints together.
    pub(crate) ahead_in_all: u32,
    /// Behind which endpoint it begins.
    pub(crate) turn: EndpointId,
    pub(crate) rules: LaneRules,
    pub(crate) now: Moment,
    pub(crate) leased_until: Moment,
}

/// What it got.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    pub(crate) deliveries: Vec<Claimed>,
    /// How many attempts this instance may have under way at once to each of their endpoints.
    pub(crate) widths: HashMap<EndpointId, u32>,
    /// Behind which endpoint the next claim begins.
    pub(crate) turn: Option<EndpointId>,
}

#[derive(QueryableByName)]
struct EndpointFound {
    #[diesel(sql_type = Uuid)]
    endpoint_id: EndpointId,
}

#[derive(QueryableByName)]
struct UnderWay {
    #[diesel(sql_type = Uuid)]
    endpoint_id: EndpointId,
    #[diesel(sql_type = BigInt)]
    sending: i64,
    #[diesel(sql_type = BigInt)]
    mine: i64,
}

/// Deliveries of an endpoint that instances have claimed.
#[derive(Clone, Copy, Debug, Default)]
struct Taken {
    /// By this one.
    mine: u32,
    /// By others.
    others: u32,
}

const CLAIMED: &str = "state = 'sending', attempts = webhook_delivery.attempts + 1, tries = webhook_delivery.tries + 1, \
                       lease = webhook_delivery.lease + 1";
const RETURNED: &str = "webhook_delivery.tenant_id, webhook_delivery.id, webhook_delivery.endpoint_id, \
                        webhook_delivery.message_id, webhook_delivery.lease, webhook_delivery.attempts, webhook_delivery.tries";

/// What there is to do.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub(crate) struct Look {
    /// There are deliveries that wait, due or not.
    #[diesel(sql_type = Bool)]
    pub(crate) has_pending: bool,
    /// There are deliveries whose lease has expired.
    #[diesel(sql_type = Bool)]
    pub(crate) has_expired: bool,
}

/// Looks without a lock.
pub(crate) async fn look(c: &mut Connection) -> Result<Look, DbError> {
    let now = database_now(c).await?;
    let query = sql_query(
        "SELECT EXISTS (SELECT 1 FROM webhook_delivery WHERE state = 'pending') AS has_pending, \
         EXISTS (SELECT 1 FROM webhook_delivery WHERE state = 'sending' AND leased_until < $1) AS has_expired",
    );
    let query = query.bind::<Timestamp, _>(now);
    on!(c, |c| prepared(query).get_result(c).await)
}

/// Claims deliveries that are due.
pub(crate) async fn claim(tx: &mut Tx, wanted: Wanted) -> Result<Claims, DbError> {
    let found = endpoints_in_turn(tx, wanted.turn).await?;
    if found.is_empty() {
        return Ok(Claims::default());
    }
    let lanes = lock_open(tx, found.clone(), wanted.now).await?;
    let under_way = under_way(tx, lanes.keys().copied().collect(), wanted.worker).await?;
    let (mut rooms, mut widths) = (Vec::new(), HashMap::new());
    let (mut left, mut aheads) = (wanted.most, Vec::new());
    let mut turn = None;
    for endpoint in found {
        if left == 0 {
            break;
        }
        turn = Some(endpoint);
        let Some(row) = lanes.get(&endpoint) else {
            continue;
        };
        let taken = under_way.get(&endpoint).copied().unwrap_or_default();
        let lane = row.lane();
        let width = lane.room(&wanted.rules, taken.others, wanted.now);
        // The places that further ones of it would have, and how many may be claimed for them.
        let places = width.saturating_sub(taken.mine);
        let may_take_ahead = places <= left && width > 0 && taken.others == 0 && lane.is_well();
        let ahead = wanted.ahead.get(&endpoint).filter(|_| may_take_ahead);
        let most = width.saturating_add(ahead.copied().unwrap_or_default());
        let places = places.min(left);
        left -= places;
        rooms.push((endpoint, places));
        aheads.push(most.saturating_sub(taken.mine.max(width)));
        widths.insert(endpoint, width);
    }
    let shares = shared(wanted.ahead_in_all, aheads);
    let rooms = rooms.into_iter().zip(shares);
    let rooms = rooms.map(|((endpoint, places), ahead)| {
        let room = places.saturating_add(ahead);
        (endpoint, i64::from(room))
    });
    let rooms = rooms.filter(|(_, room)| *room > 0).collect();
    let deliveries = take(tx, rooms, &wanted).await?;
    Ok(Claims {
        deliveries,
        widths,
        turn,
    })
}

/// What each gets of `all`, at most what it wants: equal shares of what those before it left.
fn shared(mut all: u32, wants: Vec<u32>) -> Vec<u32> {
    let mut left = u32::try_from(wants.iter().filter(|it| **it > 0).count()).unwrap_or(u32::MAX);
    let shares = wants.into_iter().map(|want| {
        if want == 0 {
            return 0;
        }
        let share = want.min(all.div_ceil(left.max(1)));
        left -= 1;
        all -= share;
        share
    });
    shares.collect()
}

/// Endpoints with deliveries that wait, due or not: those behind `turn` first.
async fn endpoints_in_turn(tx: &mut Tx, turn: EndpointId) -> Result<Vec<EndpointId>, DbError> {
    let are_all = |found: &[_]| i64::try_from(found.len()).is_ok_and(|found| found < LANES);
    let mut first = endpoints_from(tx, EndpointId::from_uuid(PlainUuid::nil())).await?;
    let up_to_turn = first.partition_point(|it| *it <= turn);
    if are_all(&first) || up_to_turn == 0 {
        first.rotate_left(up_to_turn);
        return Ok(first);
    }
    let mut found = endpoints_from(tx, turn).await?;
    if are_all(&found) {
        found.extend(first.drain(..up_to_turn));
    }
    Ok(found)
}

/// Endpoints behind `turn` with deliveries that wait, due or not, in the order of their ids.
async fn endpoints_from(tx: &mut Tx, turn: EndpointId) -> Result<Vec<EndpointId>, DbError> {
    let step = |condition: &str| {
        format!(
            "(SELECT endpoint_id FROM webhook_delivery WHERE state = 'pending' AND endpoint_id > {condition} \
             ORDER BY endpoint_id LIMIT 1)"
        )
    };
    let query = sql_query(format!(
        "WITH RECURSIVE found (endpoint_id, number) AS (SELECT {}, 1 UNION ALL SELECT {}, number + 1 FROM found \
         WHERE endpoint_id IS NOT NULL AND number < $2) SELECT endpoint_id FROM found WHERE endpoint_id IS NOT NULL",
        step("$1"),
        step("found.endpoint_id"),
    ));
    let query = query.bind::<Uuid, _>(turn).bind::<BigInt, _>(LANES);
    let found: Vec<EndpointFound> = on!(tx, |c| prepared(query).load(c).await)?;
    Ok(found.into_iter().map(|it| it.endpoint_id).collect())
}

/// Locks those lanes of active endpoints that are not held, but for those that another transaction has.
async fn lock_open(
    tx: &mut Tx,
    endpoints: Vec<EndpointId>,
    now: Moment,
) -> Result<HashMap<EndpointId, LaneRow>, DbError> {
    let is_open = lane::held_until.is_null().or(lane::held_until.le(now));
    let active = endpoint::table
        .filter(endpoint::tenant_id.eq(lane::tenant_id))
        .filter(endpoint::id.eq(lane::endpoint_id))
        .filter(endpoint::state.eq(EndpointState::Active));
    let query = lane::table
        .filter(lane::endpoint_id.eq_any(endpoints))
        .filter(is_open)
        .filter(diesel::dsl::exists(active))
        .order(lane::endpoint_id);
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.select(LaneRow::as_select());
            let query = query.for_update().skip_locked();
            query.load(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => {
            let query = query.select(LaneRow::as_select());
            query.load(&mut **c).await
        }
    };
    let found: Vec<LaneRow> = tx.classified(found)?;
    Ok(found.into_iter().map(|it| (it.endpoint_id, it)).collect())
}

/// How many deliveries of each of these endpoints instances have claimed.
async fn under_way(
    tx: &mut Tx,
    endpoints: Vec<EndpointId>,
    worker: WorkerId,
) -> Result<HashMap<EndpointId, Taken>, DbError> {
    let fields = [("endpoint_id", "uuid")];
    let wanted: Vec<_> = endpoints
        .into_iter()
        .map(|endpoint_id| serde_json::json!({ "endpoint_id": endpoint_id }))
        .collect();
    let query = sql_query(format!(
        "SELECT d.endpoint_id, count(*) AS sending, count(*) FILTER (WHERE d.worker = $1) AS mine FROM {} \
         JOIN webhook_delivery AS d ON d.endpoint_id = r.endpoint_id AND d.state = 'sending' GROUP BY d.endpoint_id",
        records::relation(tx.connection(), "$2", &fields)
    ));
    let wanted = serde_json::to_string(&wanted).unwrap_or_default();
    let query = query.bind::<Uuid, _>(worker).bind::<Text, _>(wanted);
    let found: Vec<UnderWay> = on!(tx, |c| prepared(query).load(c).await)?;
    let counted = found.into_iter().map(|it| {
        let number = |it| u32::try_from(it).unwrap_or(u32::MAX);
        let taken = Taken {
            mine: number(it.mine),
            others: number(it.sending - it.mine),
        };
        (it.endpoint_id, taken)
    });
    Ok(counted.collect())
}

/// Claims at most so many due deliveries of each endpoint. Their lanes are locked.
async fn take(
    tx: &mut Tx,
    rooms: Vec<(EndpointId, i64)>,
    wanted: &Wanted,
) -> Result<Vec<Claimed>, DbError> {
    if rooms.is_empty() {
        return Ok(Vec::new());
    }
    if matches!(tx.connection(), Connection::Postgres(_)) {
        let query = sql_query(format!(
            "WITH picked AS MATERIALIZED (SELECT found.tenant_id, found.id FROM {} CROSS JOIN LATERAL \
             (SELECT d.tenant_id, d.id FROM webhook_delivery AS d WHERE d.state = 'pending' AND d.endpoint_id = r.endpoint_id \
             AND d.due_at <= $2 ORDER BY d.due_at LIMIT r.room) AS found) \
             UPDATE webhook_delivery SET started_at = $2, worker = $3, leased_until = $4, {CLAIMED} FROM picked \
             WHERE webhook_delivery.tenant_id = picked.tenant_id AND webhook_delivery.id = picked.id \
             AND webhook_delivery.state = 'pending' RETURNING {RETURNED}",
            records::relation(
                tx.connection(),
                "$1",
                &[("endpoint_id", "uuid"), ("room", "bigint")]
            )
        ));
        let rooms: Vec<_> = rooms
            .into_iter()
            .map(|(endpoint_id, room)| serde_json::json!({ "endpoint_id": endpoint_id, "room": room }))
            .collect();
        let query = query
            .bind::<Text, _>(serde_json::to_string(&rooms).unwrap_or_default())
            .bind::<Timestamp, _>(wanted.now)
            .bind::<Uuid, _>(wanted.worker)
            .bind::<Timestamp, _>(wanted.leased_until);
        return on!(tx, |c| prepared(query).load(c).await);
    }
    let mut claimed = Vec::new();
    for (endpoint, room) in rooms {
        let query = sql_query(format!(
            "UPDATE webhook_delivery SET started_at = $1, worker = $2, leased_until = $3, {CLAIMED} \
             WHERE rowid IN (SELECT rowid FROM webhook_delivery WHERE state = 'pending' AND endpoint_id = $4 AND due_at <= $1 \
             ORDER BY due_at LIMIT $5) RETURNING {}",
            RETURNED.replace("webhook_delivery.", "")
        ));
        let query = query
            .bind::<Timestamp, _>(wanted.now)
            .bind::<Uuid, _>(wanted.worker)
            .bind::<Timestamp, _>(wanted.leased_until)
            .bind::<Uuid, _>(endpoint)
            .bind::<BigInt, _>(room);
        let found: Vec<Claimed> = on!(tx, |c| prepared(query).load(c).await)?;
        claimed.extend(found);
    }
    Ok(claimed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_ahead_is_shared() {
        for (all, wants, expected) in [
            (100, vec![10, 20], vec![10, 20]),
            (100, vec![200, 200, 0, 200], vec![34, 33, 0, 33]),
            (100, vec![1, 200, 200], vec![1, 50, 49]),
            (2, vec![9, 9, 9], vec![1, 1, 0]),
            (0, vec![9], vec![0]),
            (9, vec![], vec![]),
        ] {
            assert_eq!(shared(all, wants.clone()), expected, "{all}, {wants:?}");
        }
    }
}
