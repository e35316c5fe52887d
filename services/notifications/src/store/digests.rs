//! Mails that several messages to a recipient become.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, OptionalExtension as _, TenantId, TenantTx, insert_all, on, types::Moment,
};

use super::{
    deliveries::{DeliveryId, DeliveryRow},
    schema::{
        notification_delivery as delivery, notification_digest as digest,
        notification_digest_member as member,
    },
};
use crate::channel::State;

/// The most messages of a mail: what follows from them has its place in one transaction.
const MOST: i32 = 50;
/// Others may open and close digests while one is joined.
const TRIES: u32 = 5;

#[derive(Clone, Insertable)]
#[diesel(table_name = digest)]
pub(crate) struct DigestRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) recipient_key: String,
    pub(crate) category: String,
    pub(crate) digest_key: String,
    pub(crate) delivery_id: DeliveryId,
    pub(crate) due_at: Moment,
    pub(crate) size: i32,
}

/// Has the delivery of `row` join the digest that is open, or open one: the first delivery of it, and when it is due. Its row
/// stays locked until the transaction ends, so that it is not closed before.
pub(crate) async fn join(
    tx: &mut TenantTx,
    row: DigestRow,
    now: Moment,
) -> Result<(DeliveryId, Moment), DbError> {
    let this_one = || {
        let of_recipient = digest::tenant_id
            .eq(row.tenant_id)
            .and(digest::recipient_key.eq(row.recipient_key.clone()));
        of_recipient
            .and(digest::category.eq(row.category.clone()))
            .and(digest::digest_key.eq(row.digest_key.clone()))
    };
    let mine = (row.delivery_id, row.due_at);
    for _ in 0..TRIES {
        let insert = diesel::insert_into(digest::table)
            .values(row.clone())
            .on_conflict_do_nothing();
        if on!(tx, |c| insert.execute(c).await)? > 0 {
            return Ok(mine);
        }
        let open = this_one()
            .and(digest::due_at.gt(now))
            .and(digest::size.lt(MOST));
        let joining =
            diesel::update(digest::table.filter(open)).set(digest::size.eq(digest::size + 1));
        if on!(tx, |c| joining.execute(c).await)? > 0 {
            let joined = digest::table
                .filter(this_one())
                .select((digest::delivery_id, digest::due_at));
            let joined = on!(tx, |c| joined.first(c).await).optional()?;
            if let Some(joined) = joined {
                return Ok(joined);
            }
        }
        // It is due, or full: this one is the first of another.
        let over = this_one().and(digest::due_at.le(now).or(digest::size.ge(MOST)));
        let opening = diesel::update(digest::table.filter(over)).set((
            digest::delivery_id.eq(row.delivery_id),
            digest::due_at.eq(row.due_at),
            digest::size.eq(1),
        ));
        if on!(tx, |c| opening.execute(c).await)? > 0 {
            return Ok(mine);
        }
    }
    // Its own mail, without a digest that others could find.
    Ok(mine)
}

/// Has nothing join the digest of this delivery any more. Waits for those that are joining it.
pub(crate) async fn close(tx: &mut TenantTx, first: DeliveryId) -> Result<(), DbError> {
    let this_one = digest::tenant_id
        .eq(tx.tenant())
        .and(digest::delivery_id.eq(first));
    let delete = diesel::delete(digest::table.filter(this_one));
    on!(tx, |c| delete.execute(c).await).map(drop)
}

#[derive(Clone, Insertable)]
#[diesel(table_name = member)]
struct MemberRow {
    tenant_id: TenantId,
    delivery_id: DeliveryId,
    first_id: DeliveryId,
}

/// Notes with which delivery each is sent.
pub(crate) async fn add(
    tx: &mut TenantTx,
    members: &BTreeMap<DeliveryId, DeliveryId>,
) -> Result<(), DbError> {
    let tenant_id = tx.tenant();
    let rows = members.iter().map(|(delivery, first)| MemberRow {
        tenant_id,
        delivery_id: *delivery,
        first_id: *first,
    });
    let rows: Vec<_> = rows.collect();
    insert_all!(tx, member::table, rows).map(drop)
}

/// The delivery with which this one is sent, if it is one of several.
pub(crate) async fn first_of(
    tx: &mut TenantTx,
    id: DeliveryId,
) -> Result<Option<DeliveryId>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = member::table.find(this_one);
        query.select(member::first_id).first(c).await
    })
    .optional()
}

/// The ids of what is sent with `first`, without itself, in whatever state.
async fn ids(tx: &mut TenantTx, first: DeliveryId) -> Result<Vec<DeliveryId>, DbError> {
    let these = member::tenant_id
        .eq(tx.tenant())
        .and(member::first_id.eq(first))
        .and(member::delivery_id.ne(first));
    let query = member::table.filter(these).select(member::delivery_id);
    on!(tx, |c| query.load(c).await)
}

/// What waits to be sent with `first`, the oldest first, without itself.
pub(crate) async fn members(
    tx: &mut TenantTx,
    first: DeliveryId,
) -> Result<Vec<DeliveryRow>, DbError> {
    let ids = ids(tx, first).await?;
    let these = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq_any(ids))
        .and(delivery::state.eq(State::Queued));
    on!(tx, |c| {
        let query = delivery::table.filter(these).order(delivery::id.asc());
        query.select(DeliveryRow::as_select()).load(c).await
    })
}

/// Writes down that a relay is about to be given what is sent with `first`; how many deliveries that are.
pub(crate) async fn begin_sending(
    tx: &mut TenantTx,
    first: DeliveryId,
    now: Moment,
) -> Result<usize, DbError> {
    let ids = ids(tx, first).await?;
    let these = delivery::tenant_id
        .eq(tx.tenant())
        .and(delivery::id.eq_any(ids))
        .and(delivery::state.eq(State::Queued))
        .and(delivery::sending_since.is_null());
    let update = diesel::update(delivery::table.filter(these)).set((
        delivery::sending_since.eq(now),
        delivery::updated_at.eq(now),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Has what was to be sent with `first` be sent with `next`.
pub(crate) async fn pass_on(
    tx: &mut TenantTx,
    first: DeliveryId,
    next: DeliveryId,
) -> Result<(), DbError> {
    let these = member::tenant_id
        .eq(tx.tenant())
        .and(member::first_id.eq(first))
        .and(member::delivery_id.ne(first));
    let update = diesel::update(member::table.filter(these)).set(member::first_id.eq(next));
    on!(tx, |c| update.execute(c).await).map(drop)
}
