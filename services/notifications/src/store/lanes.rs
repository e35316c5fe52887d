//! Lanes: how each URL that is called has done so far, and the calls that are under way, on any instance.
//!
//! A transaction that changes a lane locks it first.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Connection, DbError, Querying as _, TenantId, TenantTx, Tx, on, types::Moment},
    delivery::{Lane, LaneColumns},
};

use super::{
    deliveries::DeliveryId,
    schema::{notification_call as call, notification_lane as lane},
};

#[derive(Clone, AsChangeset, Queryable, Selectable)]
#[diesel(table_name = lane, primary_key(tenant_id, receiver), treat_none_as_null = true)]
pub(crate) struct LaneRow {
    tenant_id: TenantId,
    receiver: String,
    narrowed: i32,
    failures: i32,
    failing_since: Option<Moment>,
    held_until: Option<Moment>,
    /// When the last of those has its turn that found no room.
    pub(crate) turn_at: Option<Moment>,
    updated_at: Moment,
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

/// A call that is under way.
#[derive(Clone, Insertable)]
#[diesel(table_name = call)]
pub(crate) struct CallRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) delivery_id: DeliveryId,
    pub(crate) receiver: String,
    pub(crate) host: String,
    pub(crate) ends_at: Moment,
}

/// The lane of a receiver, made if there is none, and locked until the end of the transaction.
pub(crate) async fn lock(
    tx: &mut TenantTx,
    receiver: String,
    now: Moment,
) -> Result<LaneRow, DbError> {
    let tenant = tx.tenant();
    let fresh = (
        lane::tenant_id.eq(tenant),
        lane::receiver.eq(receiver.clone()),
        lane::updated_at.eq(now),
    );
    let insert = diesel::insert_into(lane::table).values(fresh);
    let insert = insert
        .on_conflict((lane::tenant_id, lane::receiver))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await)?;
    let this_one = lane::table.find((tenant, receiver));
    let found = match tx.connection() {
        Connection::Postgres(c) => {
            let query = this_one.select(LaneRow::as_select()).for_update();
            query.first(&mut **c).await
        }
        // The transaction has the only write lock there is.
        Connection::Sqlite(c) => {
            let query = this_one.select(LaneRow::as_select());
            query.first(&mut **c).await
        }
    };
    tx.classified(found)
}

/// Writes a lane that the transaction has locked.
pub(crate) async fn write(tx: &mut TenantTx, row: LaneRow, now: Moment) -> Result<(), DbError> {
    let row = LaneRow {
        updated_at: now,
        ..row
    };
    let this_one = lane::table.find((row.tenant_id, row.receiver.clone()));
    let update = diesel::update(this_one).set(row);
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// Calls that are under way.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct UnderWay {
    pub(crate) to_receiver: u32,
    /// The receiver's among them.
    pub(crate) to_host: u32,
    /// When the oldest of them counts no more.
    pub(crate) first_ends_at: Option<Moment>,
}

/// The calls but that of `delivery` that are under way to a receiver and to its host.
pub(crate) async fn under_way(
    tx: &mut TenantTx,
    delivery: DeliveryId,
    (receiver, host): (&str, String),
    now: Moment,
) -> Result<UnderWay, DbError> {
    let to_host = call::tenant_id
        .eq(tx.tenant())
        .and(call::host.eq(host))
        .and(call::ends_at.gt(now))
        .and(call::delivery_id.ne(delivery));
    let query = call::table
        .filter(to_host)
        .select((call::receiver, call::ends_at));
    let found: Vec<(String, Moment)> = on!(tx, |c| query.load(c).await)?;
    let count = |it: usize| u32::try_from(it).unwrap_or(u32::MAX);
    let of_receiver = found.iter().filter(|(it, _)| *it == receiver);
    Ok(UnderWay {
        to_receiver: count(of_receiver.count()),
        to_host: count(found.len()),
        first_ends_at: found.iter().map(|(_, at)| *at).min(),
    })
}

/// Notes that a call is under way.
pub(crate) async fn enter(tx: &mut TenantTx, row: CallRow) -> Result<(), DbError> {
    let ends_at = row.ends_at;
    let insert = diesel::insert_into(call::table).values(row);
    let insert = insert
        .on_conflict((call::tenant_id, call::delivery_id))
        .do_update()
        .set(call::ends_at.eq(ends_at));
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// Notes that the call of a delivery is over.
pub(crate) async fn leave(tx: &mut TenantTx, delivery: DeliveryId) -> Result<(), DbError> {
    let this_one = call::table.find((tx.tenant(), delivery));
    on!(tx, |c| diesel::delete(this_one).execute(c).await).map(drop)
}

/// Deletes calls that ended before then, and lanes that were not used since; how many lanes. For all tenants.
pub(crate) async fn delete_unused(tx: &mut Tx, before: Moment) -> Result<usize, DbError> {
    let calls = call::table.filter(call::ends_at.lt(before));
    on!(tx, |c| diesel::delete(calls).execute(c).await)?;
    let lanes = lane::table.filter(lane::updated_at.lt(before));
    on!(tx, |c| diesel::delete(lanes).execute(c).await)
}
