//! Notifications: what is to be said, for what, and until when.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        DbError, OptionalExtension as _, TenantId, TenantTx, Tx, on,
        types::{Id, Moment},
    },
    sealing::{Sealed, SealedColumn},
};

use super::schema::notification;
use crate::store::templates::TemplateId;

/// Something that is said to recipients; a mark for ids.
pub(crate) enum Notification {}

pub(crate) type NotificationId = Id<Notification>;

/// What the mail of a service says.
pub(crate) const SEALED: SealedColumn = SealedColumn::new("notification", "sealed");

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = notification, treat_none_as_default_value = false)]
pub(crate) struct NotificationRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: NotificationId,
    pub(crate) category: String,
    pub(crate) purpose: Option<String>,
    pub(crate) cause: Option<String>,
    pub(crate) template_id: Option<TemplateId>,
    pub(crate) template_version: Option<i64>,
    pub(crate) priority: i32,
    pub(crate) content: Option<String>,
    pub(crate) sealed: Option<Sealed<str>>,
    pub(crate) is_secret: bool,
    pub(crate) send_at: Option<Moment>,
    pub(crate) expires_at: Option<Moment>,
    pub(crate) created_at: Moment,
}

impl NotificationRow {
    /// Whether it goes before others, and at any time.
    pub(crate) const fn is_urgent(&self) -> bool {
        self.priority < 0
    }
}

/// Stores one; 0 if there is another with its cause.
pub(crate) async fn insert(tx: &mut Tx, row: NotificationRow) -> Result<usize, DbError> {
    let insert = diesel::insert_into(notification::table).values(row);
    let insert = insert
        .on_conflict((notification::tenant_id, notification::cause))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await)
}

/// The notification that has this cause.
pub(crate) async fn caused_by(
    tx: &mut Tx,
    tenant: TenantId,
    cause: String,
) -> Result<Option<NotificationId>, DbError> {
    let this_one = notification::tenant_id
        .eq(tenant)
        .and(notification::cause.eq(cause));
    let query = notification::table
        .filter(this_one)
        .select(notification::id);
    on!(tx, |c| query.first(c).await).optional()
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: NotificationId,
) -> Result<Option<NotificationRow>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = notification::table.find(this_one);
        query.select(NotificationRow::as_select()).first(c).await
    })
    .optional()
}

/// Those of `ids`.
pub(crate) async fn all(
    tx: &mut TenantTx,
    ids: Vec<NotificationId>,
) -> Result<Vec<NotificationRow>, DbError> {
    let these = notification::tenant_id
        .eq(tx.tenant())
        .and(notification::id.eq_any(ids));
    on!(tx, |c| {
        let query = notification::table.filter(these);
        query.select(NotificationRow::as_select()).load(c).await
    })
}

/// Deletes what a secret one says; its rows stay.
pub(crate) async fn forget(tx: &mut TenantTx, id: NotificationId) -> Result<(), DbError> {
    let this_one = notification::tenant_id
        .eq(tx.tenant())
        .and(notification::id.eq(id))
        .and(notification::is_secret.eq(true));
    let update = diesel::update(notification::table.filter(this_one)).set((
        notification::content.eq(None::<String>),
        notification::sealed.eq(None::<Sealed<str>>),
    ));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// Deletes the content of secret ones whose time is over, of any tenants; how many that were.
pub(crate) async fn forget_expired(tx: &mut Tx, now: Moment) -> Result<usize, DbError> {
    let is_there = notification::content
        .is_not_null()
        .or(notification::sealed.is_not_null());
    let over = notification::is_secret
        .eq(true)
        .and(notification::expires_at.lt(now))
        .and(is_there);
    let update = diesel::update(notification::table.filter(over)).set((
        notification::content.eq(None::<String>),
        notification::sealed.eq(None::<Sealed<str>>),
    ));
    on!(tx, |c| update.execute(c).await)
}

/// Deletes at most `most` that were made before `time`, with their deliveries, of any tenants; how many that were.
pub(crate) async fn delete_older(tx: &mut Tx, time: Moment, most: i64) -> Result<usize, DbError> {
    let old = || notification::table.filter(notification::created_at.lt(time));
    let ids = old()
        .order(notification::created_at)
        .limit(most)
        .select(notification::id);
    let ids: Vec<NotificationId> = on!(tx, |c| ids.load(c).await)?;
    if ids.is_empty() {
        return Ok(0);
    }
    let delete = diesel::delete(old().filter(notification::id.eq_any(ids)));
    on!(tx, |c| delete.execute(c).await)
}
