//! The inbox of each user.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, OptionalExtension as _, TenantId, TenantTx, insert_all, on, types::Moment,
};

use super::{
    deliveries::{DeliveryId, UserId},
    schema::notification_inbox as inbox,
};

/// The most that is counted.
pub(crate) const MOST_COUNTED: i64 = 1000;

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = inbox, treat_none_as_default_value = false)]
pub(crate) struct ItemRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: DeliveryId,
    pub(crate) user_id: UserId,
    pub(crate) category: String,
    pub(crate) title: String,
    pub(crate) body: String,
    pub(crate) data: Option<String>,
    pub(crate) created_at: Moment,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) read_at: Option<Moment>,
    pub(crate) archived_at: Option<Moment>,
}

pub(crate) async fn insert(tx: &mut TenantTx, rows: Vec<ItemRow>) -> Result<(), DbError> {
    insert_all!(tx, inbox::table, rows).map(drop)
}

/// At most `limit` of a user that are not archived and not expired, the newest first, those before `after`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    user: UserId,
    (is_unread, after): (bool, Option<DeliveryId>),
    limit: i64,
) -> Result<Vec<ItemRow>, DbError> {
    let now = Moment::now();
    let mine = inbox::tenant_id
        .eq(tx.tenant())
        .and(inbox::user_id.eq(user))
        .and(inbox::archived_at.is_null());
    on!(tx, |c| {
        let mut page = inbox::table
            .filter(mine)
            .filter(inbox::expires_at.is_null().or(inbox::expires_at.gt(now)))
            .order(inbox::id.desc())
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            page = page.filter(inbox::id.lt(after));
        }
        if is_unread {
            page = page.filter(inbox::read_at.is_null());
        }
        page.select(ItemRow::as_select()).load(c).await
    })
}

/// How many a user has not read, up to [`MOST_COUNTED`].
pub(crate) async fn count_unread(tx: &mut TenantTx, user: UserId) -> Result<i64, DbError> {
    let unread = page(tx, user, (true, None), MOST_COUNTED).await?;
    Ok(i64::try_from(unread.len()).unwrap_or(MOST_COUNTED))
}

/// What becomes of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Read,
    Archive,
}

/// Reads or archives one of a user's, once; the item, if the user has it.
pub(crate) async fn act(
    tx: &mut TenantTx,
    user: UserId,
    id: DeliveryId,
    act: Act,
) -> Result<Option<ItemRow>, DbError> {
    let tenant = tx.tenant();
    let mine = || {
        let of_user = inbox::tenant_id.eq(tenant).and(inbox::user_id.eq(user));
        inbox::table.filter(of_user.and(inbox::id.eq(id)))
    };
    let now = Some(Moment::now());
    let unread = mine().filter(inbox::read_at.is_null());
    let read = diesel::update(unread).set(inbox::read_at.eq(now));
    on!(tx, |c| read.execute(c).await)?;
    if act == Act::Archive {
        let open = mine().filter(inbox::archived_at.is_null());
        let archive = diesel::update(open).set(inbox::archived_at.eq(now));
        on!(tx, |c| archive.execute(c).await)?;
    }
    let query = mine();
    on!(tx, |c| query.select(ItemRow::as_select()).first(c).await).optional()
}

/// Reads all of a user's; how many that were.
pub(crate) async fn read_all(tx: &mut TenantTx, user: UserId) -> Result<usize, DbError> {
    let unread = inbox::tenant_id
        .eq(tx.tenant())
        .and(inbox::user_id.eq(user))
        .and(inbox::archived_at.is_null())
        .and(inbox::read_at.is_null());
    let update = diesel::update(inbox::table.filter(unread));
    let update = update.set(inbox::read_at.eq(Some(Moment::now())));
    on!(tx, |c| update.execute(c).await)
}
