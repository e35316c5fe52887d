//! Uploads that continue with the next request.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
    types::{Json, Moment},
};

use super::{files::FileId, schema::file_upload, usage::OwnerId};

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file_upload)]
pub(crate) struct UploadRow {
    pub(crate) tenant_id: TenantId,
    /// Also that of the file that it becomes.
    pub(crate) id: FileId,
    pub(crate) owner_id: OwnerId,
    pub(crate) length: i64,
    pub(crate) received: i64,
    pub(crate) fence: i64,
    pub(crate) name: String,
    pub(crate) folder: String,
    pub(crate) metadata: Json<BTreeMap<String, String>>,
    pub(crate) type_declared: Option<String>,
    pub(crate) expires_at: Moment,
    /// When bytes last arrived, or a request last worked on its file.
    pub(crate) touched_at: Moment,
    /// What its client says that the hash is, if its parts go to the store.
    pub(crate) sha256: Option<String>,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: UploadRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(file_upload::table)
        .values(&row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut TenantTx, id: FileId) -> Result<Option<UploadRow>, DbError> {
    let row = file_upload::table.find((tx.tenant(), id));
    on!(tx, |c| row.select(UploadRow::as_select()).first(c).await).optional()
}

/// How many an owner has.
pub(crate) async fn count(tx: &mut TenantTx, owner: OwnerId) -> Result<i64, DbError> {
    let of_owner = file_upload::tenant_id
        .eq(tx.tenant())
        .and(file_upload::owner_id.eq(owner));
    let query = file_upload::table.filter(of_owner).count();
    on!(tx, |c| query.get_result(c).await)
}

/// Takes the upload from the request that has it, if it has received so many bytes; whether it has.
pub(crate) async fn take(tx: &mut TenantTx, id: FileId, received: i64) -> Result<bool, DbError> {
    let row = file_upload::table
        .find((tx.tenant(), id))
        .filter(file_upload::received.eq(received));
    let update = diesel::update(row).set(file_upload::fence.eq(file_upload::fence + 1_i64));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// Bytes more have come, if no other request has taken the upload; whether that is so.
pub(crate) async fn advance(tx: &mut TenantTx, seen: &UploadRow, to: i64) -> Result<bool, DbError> {
    let row = file_upload::table
        .find((seen.tenant_id, seen.id))
        .filter(file_upload::fence.eq(seen.fence))
        .filter(file_upload::received.eq(seen.received));
    let values = (
        file_upload::received.eq(to),
        file_upload::touched_at.eq(Moment::now()),
    );
    let update = diesel::update(row).set(values);
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// A request worked on its file at that time.
pub(crate) async fn touch(tx: &mut TenantTx, id: FileId, now: Moment) -> Result<(), DbError> {
    let row = file_upload::table.find((tx.tenant(), id));
    let update = diesel::update(row).set(file_upload::touched_at.eq(now));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// Claims a complete upload, to create its file, if it was not touched since `time`; whether it was claimed.
pub(crate) async fn claim(tx: &mut TenantTx, id: FileId, time: Moment) -> Result<bool, DbError> {
    let row = file_upload::table
        .find((tx.tenant(), id))
        .filter(file_upload::received.eq(file_upload::length))
        .filter(file_upload::touched_at.lt(time));
    let update = diesel::update(row).set(file_upload::touched_at.eq(Moment::now()));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// Ends the upload, if it has come as far as `received` says; whether it has.
pub(crate) async fn delete(tx: &mut TenantTx, id: FileId, received: i64) -> Result<bool, DbError> {
    let row = file_upload::table
        .find((tx.tenant(), id))
        .filter(file_upload::received.eq(received));
    let delete = diesel::delete(row);
    Ok(on!(tx, |c| delete.execute(c).await)? > 0)
}

/// Expired uploads of all tenants. A complete one expires only after `last_time`, if until then no file could
/// be made of it.
pub(crate) async fn expired(
    c: &mut Connection,
    (now, last_time): (Moment, Moment),
    most: i64,
) -> Result<Vec<UploadRow>, DbError> {
    let is_open = file_upload::received.lt(file_upload::length);
    let query = file_upload::table
        .filter(file_upload::expires_at.lt(now))
        .filter(is_open.or(file_upload::expires_at.lt(last_time)))
        .order(file_upload::expires_at)
        .limit(most);
    on!(c, |c| query.select(UploadRow::as_select()).load(c).await)
}

/// Complete uploads of all tenants that no request has touched since `time`.
pub(crate) async fn unfinished(
    c: &mut Connection,
    time: Moment,
    most: i64,
) -> Result<Vec<UploadRow>, DbError> {
    let query = file_upload::table
        .filter(file_upload::received.eq(file_upload::length))
        .filter(file_upload::touched_at.lt(time))
        .order(file_upload::touched_at)
        .limit(most);
    on!(c, |c| query.select(UploadRow::as_select()).load(c).await)
}

/// What uploads hold of the quotas, by tenant and owner.
pub(crate) async fn reserved(c: &mut Connection) -> Result<Vec<(TenantId, OwnerId, i64)>, DbError> {
    let query = file_upload::table.select((
        file_upload::tenant_id,
        file_upload::owner_id,
        file_upload::length,
    ));
    on!(c, |c| query.load(c).await)
}
