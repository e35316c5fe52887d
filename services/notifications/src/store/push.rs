//! Browsers that take push messages.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        DbError, OptionalExtension as _, TenantId, TenantTx, on,
        types::{Id, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::{deliveries::UserId, schema::notification_push_subscription as subscription};

/// A browser that takes push messages; a mark for ids.
pub(crate) enum Subscription {}

pub(crate) type SubscriptionId = Id<Subscription>;

/// Address and keys of the browser.
pub(crate) const SUBSCRIPTION: SealedColumn =
    SealedColumn::new("notification_push_subscription", "subscription_enc");

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = subscription, treat_none_as_default_value = false)]
pub(crate) struct SubscriptionRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: SubscriptionId,
    pub(crate) user_id: UserId,
    pub(crate) endpoint_key: String,
    pub(crate) push_service: String,
    pub(crate) subscription_enc: Sealed<str>,
    pub(crate) label: Option<String>,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) created_at: Moment,
    /// Grows each time that the browser subscribes again.
    pub(crate) version: i64,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: SubscriptionRow) -> Result<usize, DbError> {
    let insert = diesel::insert_into(subscription::table).values(row);
    on!(tx, |c| insert.execute(c).await)
}

/// The one of that address, of any user.
pub(crate) async fn find_by_endpoint(
    tx: &mut TenantTx,
    endpoint_key: String,
) -> Result<Option<SubscriptionRow>, DbError> {
    let this_one = subscription::tenant_id
        .eq(tx.tenant())
        .and(subscription::endpoint_key.eq(endpoint_key));
    on!(tx, |c| {
        let query = subscription::table.filter(this_one);
        query.select(SubscriptionRow::as_select()).first(c).await
    })
    .optional()
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: SubscriptionId,
) -> Result<Option<SubscriptionRow>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = subscription::table.find(this_one);
        query.select(SubscriptionRow::as_select()).first(c).await
    })
    .optional()
}

/// Those of `users`, the oldest first.
pub(crate) async fn of_users(
    tx: &mut TenantTx,
    users: Vec<UserId>,
) -> Result<Vec<SubscriptionRow>, DbError> {
    let theirs = subscription::tenant_id
        .eq(tx.tenant())
        .and(subscription::user_id.eq_any(users));
    on!(tx, |c| {
        let query = subscription::table
            .filter(theirs)
            .order(subscription::id.asc());
        query.select(SubscriptionRow::as_select()).load(c).await
    })
}

/// Deletes one; of a user, if that is given. How many that were.
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: SubscriptionId,
    user: Option<UserId>,
) -> Result<usize, DbError> {
    let this_one = subscription::tenant_id
        .eq(tx.tenant())
        .and(subscription::id.eq(id));
    match user {
        Some(user) => {
            let this_one = this_one.and(subscription::user_id.eq(user));
            let delete = diesel::delete(subscription::table.filter(this_one));
            on!(tx, |c| delete.execute(c).await)
        }
        None => {
            let delete = diesel::delete(subscription::table.filter(this_one));
            on!(tx, |c| delete.execute(c).await)
        }
    }
}
