//! Links: addresses by which a file is read without credentials.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Moment},
};

use super::{files::FileId, schema::file_link, usage::OwnerId};

/// A mark for ids.
pub(crate) enum Link {}

pub(crate) type LinkId = Id<Link>;

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file_link)]
pub(crate) struct LinkRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: LinkId,
    pub(crate) file_id: FileId,
    pub(crate) token_hash: String,
    pub(crate) created_by: OwnerId,
    pub(crate) expires_at: Moment,
    pub(crate) max_downloads: Option<i64>,
    pub(crate) downloads: i64,
    /// When the last download that counts began.
    pub(crate) downloaded_at: Option<Moment>,
    pub(crate) revoked_at: Option<Moment>,
    pub(crate) created_at: Moment,
}

impl LinkRow {
    /// 1, and 2 once it is revoked. Downloads do not count, so that a link in use can be revoked.
    pub(crate) fn version(&self) -> i64 {
        1 + i64::from(self.revoked_at.is_some())
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, row: LinkRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(file_link::table)
        .values(&row)
        .execute(c)
        .await)
    .map(drop)
}

/// A link of a file.
pub(crate) async fn find(
    tx: &mut TenantTx,
    file: FileId,
    id: LinkId,
) -> Result<Option<LinkRow>, DbError> {
    let row = file_link::table
        .find((tx.tenant(), id))
        .filter(file_link::file_id.eq(file));
    on!(tx, |c| row.select(LinkRow::as_select()).first(c).await).optional()
}

/// How many links a file has, including those that have ended.
pub(crate) async fn count(tx: &mut TenantTx, file: FileId) -> Result<i64, DbError> {
    let of_file = file_link::tenant_id
        .eq(tx.tenant())
        .and(file_link::file_id.eq(file));
    let query = file_link::table.filter(of_file).count();
    on!(tx, |c| query.get_result(c).await)
}

/// At most `limit` links of a file, the newest first, those before the link `before`.
pub(crate) async fn page(
    tx: &mut TenantTx,
    file: FileId,
    before: Option<LinkId>,
    limit: i64,
) -> Result<Vec<LinkRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let mut page = file_link::table
            .filter(file_link::tenant_id.eq(tenant))
            .filter(file_link::file_id.eq(file))
            .order(file_link::id.desc())
            .limit(limit)
            .select(LinkRow::as_select())
            .into_boxed();
        if let Some(before) = before {
            page = page.filter(file_link::id.lt(before));
        }
        page.load(c).await
    })
}

/// Ends a link of a file; whether there is such a one.
pub(crate) async fn revoke(
    tx: &mut TenantTx,
    file: FileId,
    id: LinkId,
    now: Moment,
) -> Result<bool, DbError> {
    let row = file_link::table
        .find((tx.tenant(), id))
        .filter(file_link::file_id.eq(file));
    let update = diesel::update(row).set(file_link::revoked_at.eq(now));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// The link that a token opens, of any tenant.
pub(crate) async fn find_by_hash(
    c: &mut Connection,
    hash: String,
) -> Result<Option<LinkRow>, DbError> {
    let query = file_link::table.filter(file_link::token_hash.eq(hash));
    on!(c, |c| query.select(LinkRow::as_select()).first(c).await).optional()
}

/// Counts a download, if the link allows one more; whether it does.
pub(crate) async fn count_download(
    tx: &mut Tx,
    link: &LinkRow,
    now: Moment,
) -> Result<bool, DbError> {
    let has_one_more = file_link::max_downloads
        .is_null()
        .or(file_link::max_downloads.gt(file_link::downloads.nullable()));
    let row = file_link::table
        .find((link.tenant_id, link.id))
        .filter(file_link::revoked_at.is_null())
        .filter(has_one_more);
    let values = (
        file_link::downloads.eq(file_link::downloads + 1_i64),
        file_link::downloaded_at.eq(now),
    );
    let update = diesel::update(row).set(values);
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// Deletes links of all tenants that expired before `time`; how many.
pub(crate) async fn delete_over(tx: &mut Tx, time: Moment) -> Result<usize, DbError> {
    let over = file_link::table.filter(file_link::expires_at.lt(time));
    let delete = diesel::delete(over);
    on!(tx, |c| delete.execute(c).await)
}
