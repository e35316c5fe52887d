//! Bytes in the store, from before the first one is written until after the last one is deleted.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Moment},
};

use super::{files::FileId, schema::file_blob, usage::OwnerId};

/// A mark for ids.
pub(crate) enum Blob {}

pub(crate) type BlobId = Id<Blob>;

/// They arrive.
pub(crate) const WRITING: &str = "writing";
/// Files have them.
pub(crate) const KEPT: &str = "kept";
/// An upload that is not whole yet has them.
pub(crate) const PART: &str = "part";
/// They are to be deleted.
pub(crate) const DROPPING: &str = "dropping";

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file_blob)]
pub(crate) struct BlobRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: BlobId,
    pub(crate) owner_id: OwnerId,
    pub(crate) state: String,
    pub(crate) size: i64,
    pub(crate) refs: i64,
    pub(crate) reserved: i64,
    pub(crate) lease_until: Moment,
    pub(crate) created_at: Moment,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: BlobRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(file_blob::table)
        .values(&row)
        .execute(c)
        .await)
    .map(drop)
}

/// Goes on writing until then, with `reserved` bytes more; whether the blob is still being written.
pub(crate) async fn renew(
    tx: &mut TenantTx,
    id: BlobId,
    until: Moment,
    reserved: i64,
) -> Result<bool, DbError> {
    let row = file_blob::table
        .find((tx.tenant(), id))
        .filter(file_blob::state.eq(WRITING));
    let values = (
        file_blob::lease_until.eq(until),
        file_blob::reserved.eq(file_blob::reserved + reserved),
    );
    let renewed = on!(tx, |c| diesel::update(row).set(values).execute(c).await)?;
    Ok(renewed > 0)
}

/// The blob has arrived, and holds nothing any more of what was reserved for it; whether it was still being written with exactly
/// that reserved.
pub(crate) async fn keep(
    tx: &mut TenantTx,
    id: BlobId,
    size: i64,
    reserved: i64,
) -> Result<bool, DbError> {
    let values = (
        file_blob::state.eq(KEPT),
        file_blob::size.eq(size),
        file_blob::refs.eq(1_i64),
        file_blob::reserved.eq(0_i64),
    );
    let row = file_blob::table
        .find((tx.tenant(), id))
        .filter(file_blob::state.eq(WRITING))
        .filter(file_blob::reserved.eq(reserved));
    Ok(on!(tx, |c| diesel::update(row).set(values).execute(c).await)? > 0)
}

/// Gives up what is being written; whose it is and what was reserved for it, or `None` if it is not being written any more.
pub(crate) async fn give_up(
    tx: &mut TenantTx,
    id: BlobId,
) -> Result<Option<(OwnerId, i64)>, DbError> {
    let tenant = tx.tenant();
    let row = file_blob::table
        .find((tenant, id))
        .filter(file_blob::state.eq(WRITING));
    let update = diesel::update(row).set(file_blob::state.eq(DROPPING));
    if on!(tx, |c| update.execute(c).await)? == 0 {
        return Ok(None);
    }
    // The row is this transaction's since the update.
    let row = || file_blob::table.find((tenant, id));
    let columns = (file_blob::owner_id, file_blob::reserved);
    let held = on!(tx, |c| row().select(columns).first(c).await)?;
    let none = diesel::update(row()).set(file_blob::reserved.eq(0_i64));
    on!(tx, |c| none.execute(c).await)?;
    Ok(Some(held))
}

/// One file more has the blob; whether it is kept still.
pub(crate) async fn share(tx: &mut TenantTx, id: BlobId) -> Result<bool, DbError> {
    let row = file_blob::table
        .find((tx.tenant(), id))
        .filter(file_blob::state.eq(KEPT));
    let update = diesel::update(row).set(file_blob::refs.eq(file_blob::refs + 1_i64));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// Keeps others from dropping the blob until the end of the transaction; whether files have it.
pub(crate) async fn hold(tx: &mut TenantTx, id: BlobId) -> Result<bool, DbError> {
    let row = file_blob::table
        .find((tx.tenant(), id))
        .filter(file_blob::state.eq(KEPT));
    let update = diesel::update(row).set(file_blob::refs.eq(file_blob::refs));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// The blob of a rendition is to be deleted.
pub(crate) async fn drop_rendition(
    tx: &mut Tx,
    tenant: TenantId,
    id: BlobId,
) -> Result<(), DbError> {
    let row = file_blob::table
        .find((tenant, id))
        .filter(file_blob::state.eq(KEPT));
    let values = (file_blob::state.eq(DROPPING), file_blob::refs.eq(0_i64));
    on!(tx, |c| diesel::update(row).set(values).execute(c).await).map(drop)
}

/// One file less has it. If it was the last one, the blob is to be deleted.
pub(crate) async fn unshare(tx: &mut TenantTx, id: BlobId) -> Result<(), DbError> {
    let tenant = tx.tenant();
    let row = || file_blob::table.find((tenant, id));
    let less = diesel::update(row()).set(file_blob::refs.eq(file_blob::refs - 1_i64));
    on!(tx, |c| less.execute(c).await)?;
    let unused = row().filter(file_blob::refs.le(0_i64));
    let drop_it = diesel::update(unused).set(file_blob::state.eq(DROPPING));
    on!(tx, |c| drop_it.execute(c).await).map(drop)
}

/// Blobs that no instance writes any more, of all tenants.
pub(crate) async fn left_behind(
    c: &mut Connection,
    now: Moment,
    most: i64,
) -> Result<Vec<(TenantId, BlobId)>, DbError> {
    let query = file_blob::table
        .filter(
            file_blob::state
                .eq(WRITING)
                .and(file_blob::lease_until.lt(now)),
        )
        .order(file_blob::lease_until)
        .limit(most)
        .select((file_blob::tenant_id, file_blob::id));
    on!(c, |c| query.load(c).await)
}

/// Blobs that are to be deleted from the store, of all tenants.
pub(crate) async fn to_drop(
    c: &mut Connection,
    now: Moment,
    most: i64,
) -> Result<Vec<(TenantId, BlobId)>, DbError> {
    let query = file_blob::table
        .filter(file_blob::state.eq(DROPPING))
        .filter(
            file_blob::url_until
                .is_null()
                .or(file_blob::url_until.lt(now)),
        )
        .order(file_blob::lease_until)
        .limit(most)
        .select((file_blob::tenant_id, file_blob::id));
    on!(c, |c| query.load(c).await)
}

/// The store did not delete it: it is tried again after all others whose lease ends before `until`.
pub(crate) async fn postpone(
    tx: &mut Tx,
    tenant: TenantId,
    id: BlobId,
    until: Moment,
) -> Result<(), DbError> {
    let row = file_blob::table
        .find((tenant, id))
        .filter(file_blob::state.eq(DROPPING));
    let update = diesel::update(row).set(file_blob::lease_until.eq(until));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// The store has deleted it; whether that is all. What a client can still write by a signed address is deleted again later.
pub(crate) async fn forget(
    tx: &mut Tx,
    tenant: TenantId,
    id: BlobId,
    now: Moment,
) -> Result<bool, DbError> {
    let row = file_blob::table
        .find((tenant, id))
        .filter(file_blob::state.eq(DROPPING))
        .filter(
            file_blob::url_until
                .is_null()
                .or(file_blob::url_until.lt(now)),
        );
    let delete = diesel::delete(row);
    Ok(on!(tx, |c| delete.execute(c).await)? > 0)
}

/// As [`forget`], of several that are the source of no rendition; how many are gone.
pub(crate) async fn forget_all(
    tx: &mut Tx,
    tenant: TenantId,
    ids: Vec<BlobId>,
    now: Moment,
) -> Result<usize, DbError> {
    let rows = file_blob::table
        .filter(file_blob::tenant_id.eq(tenant))
        .filter(file_blob::id.eq_any(ids))
        .filter(file_blob::state.eq(DROPPING))
        .filter(
            file_blob::url_until
                .is_null()
                .or(file_blob::url_until.lt(now)),
        );
    let delete = diesel::delete(rows);
    on!(tx, |c| delete.execute(c).await)
}

/// Those of the ids that are blobs, in any state.
pub(crate) async fn known(c: &mut Connection, ids: Vec<BlobId>) -> Result<Vec<BlobId>, DbError> {
    let query = file_blob::table
        .filter(file_blob::id.eq_any(ids))
        .select(file_blob::id);
    on!(c, |c| query.load(c).await)
}

/// Blobs that files or uploads have, by id, of all tenants.
pub(crate) async fn stored_after(
    c: &mut Connection,
    after: Option<BlobId>,
    most: i64,
) -> Result<Vec<BlobRow>, DbError> {
    on!(c, |c| {
        // What a client is to write may not be there yet.
        let is_written_part = file_blob::state
            .eq(PART)
            .and(file_blob::url_until.is_null());
        let mut query = file_blob::table
            .filter(file_blob::state.eq(KEPT).or(is_written_part))
            .order(file_blob::id)
            .limit(most)
            .select(BlobRow::as_select())
            .into_boxed();
        if let Some(after) = after {
            query = query.filter(file_blob::id.gt(after));
        }
        query.load(c).await
    })
}

pub(crate) async fn find(
    c: &mut Connection,
    tenant: TenantId,
    id: BlobId,
) -> Result<Option<BlobRow>, DbError> {
    let row = file_blob::table.find((tenant, id));
    on!(c, |c| row.select(BlobRow::as_select()).first(c).await).optional()
}

/// What is reserved for uploads, by tenant and owner.
pub(crate) async fn reserved(c: &mut Connection) -> Result<Vec<(TenantId, OwnerId, i64)>, DbError> {
    let query = file_blob::table
        .filter(file_blob::state.eq(WRITING))
        .select((
            file_blob::tenant_id,
            file_blob::owner_id,
            file_blob::reserved,
        ));
    on!(c, |c| query.load(c).await)
}

/// A part of an upload has arrived: its place and its size; whether it was being written still.
pub(crate) async fn become_part(
    tx: &mut TenantTx,
    id: BlobId,
    upload: FileId,
    (start, size): (i64, i64),
) -> Result<bool, DbError> {
    let row = file_blob::table
        .find((tx.tenant(), id))
        .filter(file_blob::state.eq(WRITING));
    let values = (
        file_blob::state.eq(PART),
        file_blob::size.eq(size),
        file_blob::upload_id.eq(upload),
        file_blob::start_at.eq(start),
    );
    Ok(on!(tx, |c| diesel::update(row).set(values).execute(c).await)? > 0)
}

/// Clients can write the parts of an upload by signed addresses, until then.
pub(crate) async fn sign_parts(
    tx: &mut TenantTx,
    upload: FileId,
    until: Moment,
) -> Result<(), DbError> {
    let parts = file_blob::table
        .filter(file_blob::tenant_id.eq(tx.tenant()))
        .filter(file_blob::upload_id.eq(upload));
    let update = diesel::update(parts).set(file_blob::url_until.eq(until));
    on!(tx, |c| update.execute(c).await).map(drop)
}

/// The parts of an upload in their order, each with its size.
pub(crate) async fn parts(
    tx: &mut TenantTx,
    upload: FileId,
) -> Result<Vec<(BlobId, i64)>, DbError> {
    let query = file_blob::table
        .filter(file_blob::tenant_id.eq(tx.tenant()))
        .filter(file_blob::upload_id.eq(upload))
        .filter(file_blob::state.eq(PART))
        .order(file_blob::start_at)
        .select((file_blob::id, file_blob::size));
    on!(tx, |c| query.load(c).await)
}

/// How many parts an upload has.
pub(crate) async fn count_parts(tx: &mut TenantTx, upload: FileId) -> Result<i64, DbError> {
    let query = file_blob::table
        .filter(file_blob::tenant_id.eq(tx.tenant()))
        .filter(file_blob::upload_id.eq(upload))
        .filter(file_blob::state.eq(PART))
        .count();
    on!(tx, |c| query.get_result(c).await)
}

/// The parts of an upload are to be deleted.
pub(crate) async fn drop_parts(tx: &mut TenantTx, upload: FileId) -> Result<(), DbError> {
    let parts = file_blob::table
        .filter(file_blob::tenant_id.eq(tx.tenant()))
        .filter(file_blob::upload_id.eq(upload))
        .filter(file_blob::state.eq(PART));
    let update = diesel::update(parts).set(file_blob::state.eq(DROPPING));
    on!(tx, |c| update.execute(c).await).map(drop)
}
