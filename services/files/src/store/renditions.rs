//! The table of renditions of blobs: images in other sizes, texts and metadata.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, Tx, on,
    types::{Id, Moment},
};

use super::{
    blobs::{self, BlobId},
    schema::file_rendition,
};

/// A mark for ids.
pub(crate) enum Rendition {}

pub(crate) type RenditionId = Id<Rendition>;

/// A job makes it.
pub(crate) const PENDING: &str = "pending";
/// It can be read.
pub(crate) const READY: &str = "ready";
/// It cannot be made.
pub(crate) const FAILED: &str = "failed";

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file_rendition)]
pub(crate) struct RenditionRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: RenditionId,
    pub(crate) source_id: BlobId,
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) blob_id: Option<BlobId>,
    pub(crate) size: i64,
    pub(crate) sha256: String,
    pub(crate) fault: Option<String>,
    pub(crate) created_at: Moment,
}

/// Adds one, if its source has none of that name; whether it was added.
pub(crate) async fn insert(tx: &mut TenantTx, row: RenditionRow) -> Result<bool, DbError> {
    let insert = diesel::insert_into(file_rendition::table)
        .values(row)
        .on_conflict_do_nothing();
    Ok(on!(tx, |c| insert.execute(c).await)? > 0)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    id: RenditionId,
) -> Result<Option<RenditionRow>, DbError> {
    let row = file_rendition::table.find((tx.tenant(), id));
    on!(tx, |c| row.select(RenditionRow::as_select()).first(c).await).optional()
}

/// That of a name, of a blob.
pub(crate) async fn named(
    tx: &mut TenantTx,
    source: BlobId,
    name: String,
) -> Result<Option<RenditionRow>, DbError> {
    let query = file_rendition::table.filter(
        file_rendition::tenant_id
            .eq(tx.tenant())
            .and(file_rendition::source_id.eq(source))
            .and(file_rendition::name.eq(name)),
    );
    on!(tx, |c| query
        .select(RenditionRow::as_select())
        .first(c)
        .await)
    .optional()
}

/// How many there are of a blob, but for those of these names.
pub(crate) async fn count_but(
    tx: &mut TenantTx,
    source: BlobId,
    names: Vec<String>,
) -> Result<i64, DbError> {
    let query = file_rendition::table.filter(
        file_rendition::tenant_id
            .eq(tx.tenant())
            .and(file_rendition::source_id.eq(source))
            .and(file_rendition::name.ne_all(names)),
    );
    on!(tx, |c| query.count().get_result(c).await)
}

/// It can be read from now on; whether a job was still to make it.
pub(crate) async fn complete(
    tx: &mut TenantTx,
    id: RenditionId,
    blob: BlobId,
    size: i64,
    sha256: String,
) -> Result<bool, DbError> {
    let values = (
        file_rendition::state.eq(READY),
        file_rendition::blob_id.eq(blob),
        file_rendition::size.eq(size),
        file_rendition::sha256.eq(sha256),
        file_rendition::created_at.eq(Moment::now()),
    );
    let row = file_rendition::table
        .find((tx.tenant(), id))
        .filter(file_rendition::state.eq(PENDING));
    Ok(on!(tx, |c| diesel::update(row).set(values).execute(c).await)? > 0)
}

/// It cannot be made.
pub(crate) async fn fail(
    tx: &mut TenantTx,
    id: RenditionId,
    fault: &'static str,
) -> Result<(), DbError> {
    let values = (
        file_rendition::state.eq(FAILED),
        file_rendition::fault.eq(fault),
        file_rendition::created_at.eq(Moment::now()),
    );
    let row = file_rendition::table
        .find((tx.tenant(), id))
        .filter(file_rendition::state.eq(PENDING));
    on!(tx, |c| diesel::update(row).set(values).execute(c).await).map(drop)
}

/// Forgets one, and has its bytes deleted.
pub(crate) async fn remove(tx: &mut Tx, row: &RenditionRow) -> Result<(), DbError> {
    let own = file_rendition::table.find((row.tenant_id, row.id));
    on!(tx, |c| diesel::delete(own).execute(c).await)?;
    match row.blob_id {
        Some(blob) => blobs::drop_rendition(tx, row.tenant_id, blob).await,
        None => Ok(()),
    }
}

/// All of a blob.
pub(crate) async fn of_source(
    c: &mut Connection,
    tenant: TenantId,
    source: BlobId,
) -> Result<Vec<RenditionRow>, DbError> {
    let query = file_rendition::table.filter(
        file_rendition::tenant_id
            .eq(tenant)
            .and(file_rendition::source_id.eq(source)),
    );
    on!(c, |c| query.select(RenditionRow::as_select()).load(c).await)
}

/// Those of all tenants that were made before `made`, and those that were not made and asked for before `asked`.
pub(crate) async fn expired(
    c: &mut Connection,
    made: Moment,
    asked: Moment,
    most: i64,
) -> Result<Vec<RenditionRow>, DbError> {
    let is_old = file_rendition::created_at.lt(made);
    let is_left = file_rendition::state
        .ne(READY)
        .and(file_rendition::created_at.lt(asked));
    let query = file_rendition::table
        .filter(is_old.or(is_left))
        .order(file_rendition::created_at)
        .limit(most);
    on!(c, |c| query.select(RenditionRow::as_select()).load(c).await)
}

/// How many have a blob as their own bytes.
pub(crate) async fn count_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<i64, DbError> {
    let query = file_rendition::table.filter(
        file_rendition::tenant_id
            .eq(tenant)
            .and(file_rendition::blob_id.eq(blob)),
    );
    on!(c, |c| query.count().get_result(c).await)
}

/// The hash of one that has a blob as its own bytes.
pub(crate) async fn hash_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<Option<String>, DbError> {
    let query = file_rendition::table
        .filter(
            file_rendition::tenant_id
                .eq(tenant)
                .and(file_rendition::blob_id.eq(blob)),
        )
        .select(file_rendition::sha256);
    on!(c, |c| query.first(c).await).optional()
}
