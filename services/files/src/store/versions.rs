//! Contents that files had before others replaced them.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::db::{
    Connection, DbError, OptionalExtension, TenantId, TenantTx, on, types::Moment,
};

use super::{
    blobs::BlobId,
    files::{FileId, FileRow},
    schema::file_version,
    usage::OwnerId,
};

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file_version)]
pub(crate) struct VersionRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) file_id: FileId,
    pub(crate) number: i64,
    pub(crate) blob_id: BlobId,
    pub(crate) size: i64,
    pub(crate) sha256: String,
    pub(crate) media_type: String,
    pub(crate) type_declared: Option<String>,
    pub(crate) created_by: OwnerId,
    pub(crate) created_at: Moment,
}

impl VersionRow {
    /// The content that a file has now.
    pub(crate) fn of(row: &FileRow) -> Self {
        let content = row.content();
        Self {
            tenant_id: row.tenant_id,
            file_id: row.id,
            number: content.number,
            blob_id: row.blob_id,
            size: row.size,
            sha256: row.sha256.clone(),
            media_type: row.media_type.clone(),
            type_declared: row.details.0.type_declared.clone(),
            created_by: content.by,
            created_at: content.at,
        }
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, row: VersionRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(file_version::table)
        .values(&row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(
    tx: &mut TenantTx,
    file: FileId,
    number: i64,
) -> Result<Option<VersionRow>, DbError> {
    let row = file_version::table.find((tx.tenant(), file, number));
    on!(tx, |c| row.select(VersionRow::as_select()).first(c).await).optional()
}

/// Former contents of a file, the newest first. Their number is bounded by the rule that keeps them.
pub(crate) async fn list(tx: &mut TenantTx, file: FileId) -> Result<Vec<VersionRow>, DbError> {
    let of_file = file_version::tenant_id
        .eq(tx.tenant())
        .and(file_version::file_id.eq(file));
    let query = file_version::table
        .filter(of_file)
        .order(file_version::number.desc());
    on!(tx, |c| query.select(VersionRow::as_select()).load(c).await)
}

/// Deletes a former content; whether it was there.
pub(crate) async fn delete(tx: &mut TenantTx, row: &VersionRow) -> Result<bool, DbError> {
    let row = file_version::table.find((row.tenant_id, row.file_id, row.number));
    let delete = diesel::delete(row);
    Ok(on!(tx, |c| delete.execute(c).await)? > 0)
}

/// How many former contents have a blob.
pub(crate) async fn count_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<i64, DbError> {
    let of_blob = file_version::tenant_id
        .eq(tenant)
        .and(file_version::blob_id.eq(blob));
    let query = file_version::table.filter(of_blob).count();
    on!(c, |c| query.get_result(c).await)
}

/// Bytes of former contents, by tenant and the owner of the file.
pub(crate) async fn used(c: &mut Connection) -> Result<Vec<(TenantId, OwnerId, i64)>, DbError> {
    use super::schema::file;

    let of_file = file::tenant_id
        .eq(file_version::tenant_id)
        .and(file::id.eq(file_version::file_id));
    let query = file_version::table
        .inner_join(file::table.on(of_file))
        .group_by((file::tenant_id, file::owner_id))
        .select((
            file::tenant_id,
            file::owner_id,
            diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(sum(file_version.size) AS BIGINT)"),
        ));
    on!(c, |c| query.load(c).await)
}

/// The hash of a blob, as a former content has it.
pub(crate) async fn hash_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<Option<String>, DbError> {
    let query = file_version::table
        .filter(
            file_version::tenant_id
                .eq(tenant)
                .and(file_version::blob_id.eq(blob)),
        )
        .select(file_version::sha256);
    on!(c, |c| query.first(c).await).optional()
}
