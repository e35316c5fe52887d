//! The table of files.

use std::collections::BTreeMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Connection, DbError, OptionalExtension, TenantId, TenantTx, on,
        types::{Id, Json, Moment},
    },
    routing::{Sort, SortColumn},
};

use serde::{Deserialize, Serialize};

use super::{
    blobs::BlobId,
    schema::file,
    usage::{OwnerId, Usage},
};

/// A mark for ids.
pub(crate) enum File {}

pub(crate) type FileId = Id<File>;

/// All of it was checked, and it can be read.
pub(crate) const READY: &str = "ready";
/// It is to be scanned for viruses.
pub(crate) const SCANNING: &str = "scanning";
/// It has a virus.
pub(crate) const QUARANTINED: &str = "quarantined";
/// It cannot be scanned to its end.
pub(crate) const REJECTED: &str = "rejected";
/// What clients see of a file in the trash.
pub(crate) const DELETED: &str = "deleted";

/// What is only shown.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Details {
    pub(crate) metadata: BTreeMap<String, String>,
    /// What the sender said that the file is.
    pub(crate) type_declared: Option<String>,
    /// Which content it has, if that has replaced another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) content: Option<Replacement>,
}

/// A content that has replaced the first one.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Replacement {
    /// 2 for the second content, one more for each after it.
    pub(crate) number: i64,
    /// Its sender.
    pub(crate) by: OwnerId,
    /// When it came.
    pub(crate) at: Moment,
}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = file)]
pub(crate) struct FileRow {
    pub(crate) tenant_id: TenantId,
    pub(crate) id: FileId,
    pub(crate) blob_id: BlobId,
    pub(crate) name: String,
    pub(crate) name_folded: String,
    pub(crate) folder: String,
    pub(crate) size: i64,
    pub(crate) sha256: String,
    pub(crate) media_type: String,
    pub(crate) state: String,
    pub(crate) details: Json<Details>,
    pub(crate) owner_id: OwnerId,
    pub(crate) version: i64,
    pub(crate) created_at: Moment,
    pub(crate) updated_at: Moment,
    pub(crate) deleted_at: Option<Moment>,
}

impl FileRow {
    /// The number of its content, its sender and its time.
    pub(crate) fn content(&self) -> Replacement {
        self.details.0.content.unwrap_or(Replacement {
            number: 1,
            by: self.owner_id,
            at: self.created_at,
        })
    }

    /// Its state as clients see it.
    pub(crate) fn shown_state(&self) -> &str {
        match self.deleted_at {
            Some(_) => DELETED,
            None => &self.state,
        }
    }
}

/// What files can be sorted by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum FileColumn {
    CreatedAt,
}

impl SortColumn for FileColumn {
    const COLUMNS: &'static [(&'static str, Self)] = &[("created_at", Self::CreatedAt)];
    const DEFAULT: Sort<Self> = Sort::descending(Self::CreatedAt);
}

/// Which media types.
#[derive(Clone, Debug)]
pub(crate) enum MediaTypes {
    One(String),
    /// All of a family, by what they begin with: `image/`.
    Family(String),
}

/// Which files.
#[derive(Clone, Debug, Default)]
pub(crate) struct Filter {
    pub(crate) folder: Option<String>,
    pub(crate) media_types: Option<MediaTypes>,
    /// A pattern for the folded name.
    pub(crate) name: Option<String>,
    pub(crate) owner: Option<OwnerId>,
    /// As clients see it; those that are not deleted unless it is given.
    pub(crate) state: Option<String>,
}

pub(crate) async fn insert(tx: &mut TenantTx, row: FileRow) -> Result<(), DbError> {
    on!(tx, |c| diesel::insert_into(file::table)
        .values(&row)
        .execute(c)
        .await)
    .map(drop)
}

pub(crate) async fn find(tx: &mut TenantTx, id: FileId) -> Result<Option<FileRow>, DbError> {
    let row = file::table.find((tx.tenant(), id));
    on!(tx, |c| row.select(FileRow::as_select()).first(c).await).optional()
}

/// At most `limit` files in the order of `sort`, those that come after the file `after`. Ids sort by the time of their making.
pub(crate) async fn page(
    tx: &mut TenantTx,
    filter: Filter,
    sort: Sort<FileColumn>,
    after: Option<FileId>,
    limit: i64,
) -> Result<Vec<FileRow>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| {
        let mut page = file::table
            .filter(file::tenant_id.eq(tenant))
            .limit(limit)
            .select(FileRow::as_select())
            .into_boxed();
        let Filter {
            folder,
            media_types,
            name,
            owner,
            state,
        } = filter;
        if let Some(folder) = folder {
            page = page.filter(file::folder.eq(folder));
        }
        page = match media_types {
            Some(MediaTypes::One(one)) => page.filter(file::media_type.eq(one)),
            Some(MediaTypes::Family(begin)) => page.filter(file::media_type.like(begin + "%")),
            None => page,
        };
        if let Some(name) = name {
            page = page.filter(file::name_folded.like(name).escape('\\'));
        }
        if let Some(owner) = owner {
            page = page.filter(file::owner_id.eq(owner));
        }
        page = match state.as_deref() {
            Some(DELETED) => page.filter(file::deleted_at.is_not_null()),
            Some(state) => page.filter(
                file::deleted_at
                    .is_null()
                    .and(file::state.eq(state.to_owned())),
            ),
            None => page.filter(file::deleted_at.is_null()),
        };
        page = match (sort.is_descending, after) {
            (true, Some(after)) => page.filter(file::id.lt(after)),
            (false, Some(after)) => page.filter(file::id.gt(after)),
            (_, None) => page,
        };
        page = match sort.is_descending {
            true => page.order(file::id.desc()),
            false => page.order(file::id.asc()),
        };
        page.load(c).await
    })
}

/// Stores a changed file as its next version, if it is still in the one that was read; its new state, or `None` if another
/// transaction changed it meanwhile.
pub(crate) async fn update(
    tx: &mut TenantTx,
    changed: FileRow,
) -> Result<Option<FileRow>, DbError> {
    let next = FileRow {
        version: changed.version + 1,
        updated_at: Moment::now(),
        ..changed
    };
    let as_read = file::table
        .find((next.tenant_id, next.id))
        .filter(file::version.eq(changed.version));
    let values = (
        file::name.eq(next.name.clone()),
        file::name_folded.eq(next.name_folded.clone()),
        file::folder.eq(next.folder.clone()),
        file::details.eq(next.details.clone()),
        file::version.eq(next.version),
        file::updated_at.eq(next.updated_at),
        file::deleted_at.eq(next.deleted_at),
        file::blob_id.eq(next.blob_id),
        file::size.eq(next.size),
        file::sha256.eq(next.sha256.clone()),
        file::media_type.eq(next.media_type.clone()),
    );
    let updated = on!(tx, |c| diesel::update(as_read).set(values).execute(c).await)?;
    Ok((updated > 0).then_some(next))
}

/// A file goes from one state to another, if it is in that state and has the bytes that were read. That is no other version of it.
pub(crate) async fn turn(
    tx: &mut TenantTx,
    row: &FileRow,
    (from, to): (&'static str, &'static str),
) -> Result<bool, DbError> {
    let as_read = file::table
        .find((tx.tenant(), row.id))
        .filter(file::blob_id.eq(row.blob_id))
        .filter(file::state.eq(from));
    let update = diesel::update(as_read).set(file::state.eq(to));
    Ok(on!(tx, |c| update.execute(c).await)? > 0)
}

/// Deletes a file in the version that was read; whether it was there.
pub(crate) async fn delete(tx: &mut TenantTx, row: &FileRow) -> Result<bool, DbError> {
    let as_read = file::table
        .find((row.tenant_id, row.id))
        .filter(file::version.eq(row.version));
    Ok(on!(tx, |c| diesel::delete(as_read).execute(c).await)? > 0)
}

/// Tenants that have files in the trash since before `time`.
pub(crate) async fn tenants_to_purge(
    c: &mut Connection,
    time: Moment,
    most: i64,
) -> Result<Vec<TenantId>, DbError> {
    let query = file::table
        .filter(file::deleted_at.lt(time))
        .select(file::tenant_id)
        .distinct()
        .limit(most);
    on!(c, |c| query.load(c).await)
}

/// Files of the tenant that are in the trash since before `time`.
pub(crate) async fn to_purge(
    tx: &mut TenantTx,
    time: Moment,
    most: i64,
) -> Result<Vec<FileRow>, DbError> {
    let query = file::table
        .filter(
            file::tenant_id
                .eq(tx.tenant())
                .and(file::deleted_at.lt(time)),
        )
        .order(file::deleted_at)
        .limit(most);
    on!(tx, |c| query.select(FileRow::as_select()).load(c).await)
}

/// How many files have a blob.
pub(crate) async fn count_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<i64, DbError> {
    let query = file::table.filter(file::tenant_id.eq(tenant).and(file::blob_id.eq(blob)));
    on!(c, |c| query.count().get_result(c).await)
}

/// Files and their bytes, by tenant and owner.
pub(crate) async fn used(c: &mut Connection) -> Result<Vec<(TenantId, OwnerId, Usage)>, DbError> {
    let query = file::table
        .group_by((file::tenant_id, file::owner_id))
        .select((
            file::tenant_id,
            file::owner_id,
            diesel::dsl::sql::<diesel::sql_types::BigInt>("CAST(sum(size) AS BIGINT)"),
            diesel::dsl::count_star(),
        ));
    let rows: Vec<(TenantId, OwnerId, i64, i64)> = on!(c, |c| query.load(c).await)?;
    let usage = |(tenant, owner, used, files)| {
        (
            tenant,
            owner,
            Usage {
                used,
                reserved: 0,
                files,
            },
        )
    };
    Ok(rows.into_iter().map(usage).collect())
}

/// The hash of a blob, as a file has it.
pub(crate) async fn hash_of(
    c: &mut Connection,
    tenant: TenantId,
    blob: BlobId,
) -> Result<Option<String>, DbError> {
    let query = file::table
        .filter(file::tenant_id.eq(tenant).and(file::blob_id.eq(blob)))
        .select(file::sha256);
    on!(c, |c| query.first(c).await).optional()
}
