//! Recipients that nothing is sent to, and why.

use std::collections::BTreeSet;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    DbError, OptionalExtension as _, TenantId, TenantTx, on,
    types::{Id, Moment},
};

use super::schema::notification_suppression as suppression;
use crate::channel::{ANY, Channel};

/// A recipient that nothing is sent to; a mark for ids.
pub(crate) enum Suppression {}

pub(crate) type SuppressionId = Id<Suppression>;

/// The version of each: it is made and deleted, and never changed in between.
pub(crate) const UNCHANGED: i64 = 1;

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = suppression, treat_none_as_default_value = false)]
pub(crate) struct SuppressionRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: SuppressionId,
    pub(crate) channel: Channel,
    pub(crate) recipient: String,
    pub(crate) recipient_key: String,
    /// `*` for all.
    pub(crate) category: String,
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
    pub(crate) created_at: Moment,
}

/// Stores it; 0 if there is one for the same recipient, channel and category.
pub(crate) async fn insert(tx: &mut TenantTx, row: SuppressionRow) -> Result<usize, DbError> {
    let insert = diesel::insert_into(suppression::table).values(row);
    let insert = insert
        .on_conflict((
            suppression::tenant_id,
            suppression::channel,
            suppression::recipient_key,
            suppression::category,
        ))
        .do_nothing();
    on!(tx, |c| insert.execute(c).await)
}

/// Recipients of messages, and what these are about.
#[derive(Debug, Default)]
pub(crate) struct Recipients {
    pub(crate) channels: BTreeSet<Channel>,
    pub(crate) keys: BTreeSet<String>,
    pub(crate) categories: BTreeSet<String>,
}

impl Recipients {
    /// Adds one.
    pub(crate) fn add(&mut self, channel: Channel, key: &str, category: &str) {
        self.channels.insert(channel);
        self.keys.insert(key.to_owned());
        self.categories.insert(category.to_owned());
    }
}

/// Those that may keep messages from recipients: for one of them, by one of the channels, of one of the categories or of all.
pub(crate) async fn of_recipients(
    tx: &mut TenantTx,
    recipients: Recipients,
) -> Result<Vec<SuppressionRow>, DbError> {
    let Recipients {
        channels,
        keys,
        mut categories,
    } = recipients;
    categories.insert(ANY.to_owned());
    let these = suppression::tenant_id
        .eq(tx.tenant())
        .and(suppression::channel.eq_any(Vec::from_iter(channels)))
        .and(suppression::recipient_key.eq_any(Vec::from_iter(keys)))
        .and(suppression::category.eq_any(Vec::from_iter(categories)));
    on!(tx, |c| {
        let query = suppression::table.filter(these);
        query.select(SuppressionRow::as_select()).load(c).await
    })
}

/// At most `limit`, the newest first, those before `after`; of one recipient if it is given.
pub(crate) async fn page(
    tx: &mut TenantTx,
    recipient_key: Option<String>,
    after: Option<SuppressionId>,
    limit: i64,
) -> Result<Vec<SuppressionRow>, DbError> {
    let of_tenant = suppression::tenant_id.eq(tx.tenant());
    on!(tx, |c| {
        let mut page = suppression::table
            .filter(of_tenant)
            .order(suppression::id.desc())
            .limit(limit)
            .into_boxed();
        if let Some(after) = after {
            page = page.filter(suppression::id.lt(after));
        }
        if let Some(key) = recipient_key {
            page = page.filter(suppression::recipient_key.eq(key));
        }
        page.select(SuppressionRow::as_select()).load(c).await
    })
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: SuppressionId,
) -> Result<Option<SuppressionRow>, DbError> {
    let this_one = (tx.tenant(), id);
    on!(tx, |c| {
        let query = suppression::table.find(this_one);
        query.select(SuppressionRow::as_select()).first(c).await
    })
    .optional()
}

/// Deletes it; how many that were.
pub(crate) async fn delete(tx: &mut TenantTx, id: SuppressionId) -> Result<usize, DbError> {
    let this_one = suppression::table.find((tx.tenant(), id));
    on!(tx, |c| diesel::delete(this_one).execute(c).await)
}
