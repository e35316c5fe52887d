//! Lanes: how each endpoint has done so far.
//!
//! A transaction that changes a lane and its endpoint locks the lane first.

use std::collections::HashMap;

use diesel::{prelude::*, sql_query, sql_types::Text};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, OptionalExtension, Querying as _, TenantId, TenantTx, Tx, on,
        prepared, records, types::Moment,
    },
    delivery::{Lane, LaneColumns},
};
use serde::Serialize;

use super::{endpoints::EndpointId, schema::webhook_lane as lane};

#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = lane)]
pub(crate) struct LaneRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) endpoint_id: EndpointId,
    narrowed: i32,
    failures: i32,
    failing_since: Option<Moment>,
    held_until: Option<Moment>,
    pub(crate) last_success_at: Option<Moment>,
    pub(crate) last_failure_at: Option<Moment>,
}

impl LaneRow {
    pub(crate) fn lane(&self) -> Lane {
        let columns = LaneColumns {
            narrowed: self.narrowed,
            failures: self.failures,
            failing_since: self.failing_since,
            held_until: self.held_until,
        };
        columns.into()
    }

    pub(crate) fn set(&mut self, lane: Lane) {
        let lane = LaneColumns::from(lane);
        self.narrowed = lane.narrowed;
        self.failures = lane.failures;
        self.failing_since = lane.failing_since;
        self.held_until = lane.held_until;
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, endpoint: EndpointId) -> Result<(), DbError> {
    let row = (
        lane::tenant_id.eq(tx.tenant()),
        lane::endpoint_id.eq(endpoint),
    );
    let insert = diesel::insert_into(lane::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    endpoint: EndpointId,
) -> Result<Option<LaneRow>, DbError> {
    let this_one = lane::tenant_id
        .eq(tx.tenant())
        .and(lane::endpoint_id.eq(endpoint));
    let query = lane::table.filter(this_one);
    on!(tx, |c| {
        let query = query.select(LaneRow::as_select());
        query.first(c).await
    })
    .optional()
}

/// Locks the lanes until the end of the transaction, in an order that all transactions have.
pub(crate) async fn lock(
    tx: &mut Tx,
    endpoints: Vec<EndpointId>,
) -> Result<HashMap<EndpointId, LaneRow>, DbError> {
    let query = lane::table
        .filter(lane::endpoint_id.eq_any(endpoints))
        .order(lane::endpoint_id);
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = query.select(LaneRow::as_select()).for_update();
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

/// Forgets failures: the endpoint is changed or used again. How many lanes that were.
pub(crate) async fn reset(tx: &mut TenantTx, endpoint: EndpointId) -> Result<usize, DbError> {
    let this_one = lane::table.find(endpoint);
    let this_one = this_one.filter(lane::tenant_id.eq(tx.tenant()));
    let row = (
        lane::narrowed.eq(0),
        lane::failures.eq(0),
        lane::failing_since.eq(None::<Moment>),
        lane::held_until.eq(None::<Moment>),
    );
    on!(tx, |c| diesel::update(this_one).set(row).execute(c).await)
}

#[derive(Serialize)]
struct Written {
    endpoint_id: EndpointId,
    narrowed: i32,
    failures: i32,
    failing_since: Option<String>,
    held_until: Option<String>,
    last_success_at: Option<String>,
    last_failure_at: Option<String>,
}

/// Writes lanes that the transaction has locked.
pub(crate) async fn write(
    tx: &mut Tx,
    lanes: impl IntoIterator<Item = &LaneRow>,
) -> Result<(), DbError> {
    let text = |at: Option<Moment>| at.map(records::moment);
    let written: Vec<_> = lanes
        .into_iter()
        .map(|it| Written {
            endpoint_id: it.endpoint_id,
            narrowed: it.narrowed,
            failures: it.failures,
            failing_since: text(it.failing_since),
            held_until: text(it.held_until),
            last_success_at: text(it.last_success_at),
            last_failure_at: text(it.last_failure_at),
        })
        .collect();
    let fields = [
        ("endpoint_id", "uuid"),
        ("narrowed", "integer"),
        ("failures", "integer"),
        ("failing_since", "timestamp"),
        ("held_until", "timestamp"),
        ("last_success_at", "timestamp"),
        ("last_failure_at", "timestamp"),
    ];
    let query = sql_query(format!(
        "UPDATE webhook_lane SET narrowed = r.narrowed, failures = r.failures, failing_since = r.failing_since, \
         held_until = r.held_until, last_success_at = r.last_success_at, last_failure_at = r.last_failure_at \
         FROM {} WHERE webhook_lane.endpoint_id = r.endpoint_id",
        records::relation(tx.connection(), "$1", &fields)
    ));
    let rows = serde_json::to_string(&written).unwrap_or_default();
    let query = query.bind::<Text, _>(rows);
    on!(tx, |c| prepared(query).execute(c).await).map(drop)
}

/// How many lanes of all tenants are held at `now`.
pub(crate) async fn count_held(c: &mut Connection, now: Moment) -> Result<i64, DbError> {
    let query = lane::table.filter(lane::held_until.gt(now)).count();
    on!(c, |c| query.get_result(c).await)
}
