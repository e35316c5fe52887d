//! The tables of notes, and every query on them.

use std::collections::HashMap;

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        DbError, OptionalExtension, TenantId, TenantTx, Tx, insert_all, on,
        types::{Id, Moment},
    },
    routing::{Sort, SortColumn},
};
use serde::Serialize;
use utoipa::ToSchema;

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    note (tenant_id, id) {
        tenant_id -> Uuid,
        id -> Uuid,
        text -> Text,
        version -> BigInt,
        created_at -> Timestamp,
        updated_at -> Timestamp,
    }
}

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    note_tag (tenant_id, note_id, tag) {
        tenant_id -> Uuid,
        note_id -> Uuid,
        tag -> Text,
    }
}

/// A note with its tags.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Note {
    pub(crate) id: Id<Note>,
    #[serde(skip)]
    tenant: TenantId,
    /// The text.
    pub(crate) text: String,
    /// Its tags, sorted.
    pub(crate) tags: Vec<String>,
    /// Grows with each change; clients see it as `ETag`.
    #[serde(skip)]
    pub(crate) version: i64,
    created_at: Moment,
    updated_at: Moment,
}

/// The sort keys of notes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NoteColumn {
    CreatedAt,
}

impl SortColumn for NoteColumn {
    const COLUMNS: &'static [(&'static str, Self)] = &[("created_at", Self::CreatedAt)];
    const DEFAULT: Sort<Self> = Sort::descending(Self::CreatedAt);
}

#[derive(Clone, Insertable, Queryable, Selectable)]
#[diesel(table_name = note)]
struct NoteRow {
    tenant_id: TenantId,
    id: Id<Note>,
    text: String,
    version: i64,
    created_at: Moment,
    updated_at: Moment,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = note_tag)]
struct TagRow {
    tenant_id: TenantId,
    note_id: Id<Note>,
    tag: String,
}

impl Note {
    pub(crate) fn new(tenant: TenantId, text: String, tags: Vec<String>) -> Self {
        let now = Moment::now();
        Self {
            id: Id::new(),
            tenant,
            text,
            tags,
            version: 1,
            created_at: now,
            updated_at: now,
        }
    }

    fn from_row(row: NoteRow, tags: Vec<String>) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant_id,
            text: row.text,
            tags,
            version: row.version,
            created_at: row.created_at,
            updated_at: row.updated_at,
        }
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, new: &Note) -> Result<(), DbError> {
    let row = NoteRow {
        tenant_id: new.tenant,
        id: new.id,
        text: new.text.clone(),
        version: new.version,
        created_at: new.created_at,
        updated_at: new.updated_at,
    };
    on!(tx, |c| diesel::insert_into(note::table)
        .values(&row)
        .execute(c)
        .await)?;
    insert_tags(tx, new).await
}

pub(crate) async fn count(tx: &mut TenantTx) -> Result<i64, DbError> {
    let of_tenant = note::tenant_id.eq(tx.tenant());
    on!(tx, |c| note::table
        .filter(of_tenant)
        .count()
        .get_result(c)
        .await)
}

pub(crate) async fn find(tx: &mut TenantTx, id: Id<Note>) -> Result<Option<Note>, DbError> {
    let this_one = (tx.tenant(), id);
    let row = on!(tx, |c| {
        let query = note::table.find(this_one).select(NoteRow::as_select());
        query.first(c).await
    });
    let Some(row) = row.optional()? else {
        return Ok(None);
    };
    let tags = tags_of(tx, vec![id]).await?.remove(&id);
    Ok(Some(Note::from_row(row, tags.unwrap_or_default())))
}

/// At most `limit` notes in the order of `sort`, those that come after the note `after`. Ids sort by the time of their
/// making. Two queries, however many notes there are.
pub(crate) async fn page(
    tx: &mut TenantTx,
    sort: Sort<NoteColumn>,
    after: Option<Id<Note>>,
    limit: i64,
) -> Result<Vec<Note>, DbError> {
    let of_tenant = note::tenant_id.eq(tx.tenant());
    let rows: Vec<NoteRow> = on!(tx, |c| {
        let page = note::table.filter(of_tenant).limit(limit).into_boxed();
        let page = match (sort.is_descending, after) {
            (true, Some(after)) => page.filter(note::id.lt(after)),
            (false, Some(after)) => page.filter(note::id.gt(after)),
            (_, None) => page,
        };
        let page = match sort.is_descending {
            true => page.order(note::id.desc()),
            false => page.order(note::id.asc()),
        };
        page.select(NoteRow::as_select()).load(c).await
    })?;
    let mut tags = tags_of(tx, rows.iter().map(|row| row.id).collect()).await?;
    let notes = rows.into_iter().map(|row| {
        let tags = tags.remove(&row.id).unwrap_or_default();
        Note::from_row(row, tags)
    });
    Ok(notes.collect())
}

/// Stores a changed note as its next version, if it is still in the one that was read; its new state, or `None` if another
/// transaction changed or deleted it meanwhile.
pub(crate) async fn update(tx: &mut TenantTx, changed: Note) -> Result<Option<Note>, DbError> {
    let next = Note {
        version: changed.version + 1,
        updated_at: Moment::now(),
        ..changed
    };
    let as_read = note::table
        .find((next.tenant, next.id))
        .filter(note::version.eq(changed.version));
    let row = (
        note::text.eq(next.text.clone()),
        note::version.eq(next.version),
        note::updated_at.eq(next.updated_at),
    );
    let updated = on!(tx, |c| diesel::update(as_read).set(row).execute(c).await)?;
    if updated == 0 {
        return Ok(None);
    }
    let old = note_tag::tenant_id
        .eq(next.tenant)
        .and(note_tag::note_id.eq(next.id));
    on!(tx, |c| diesel::delete(note_tag::table.filter(old))
        .execute(c)
        .await)?;
    insert_tags(tx, &next).await?;
    Ok(Some(next))
}

/// Deletes the note and its tags if it is still in that version; how many notes that were.
pub(crate) async fn delete(
    tx: &mut TenantTx,
    id: Id<Note>,
    version: i64,
) -> Result<usize, DbError> {
    let as_read = note::table
        .find((tx.tenant(), id))
        .filter(note::version.eq(version));
    on!(tx, |c| diesel::delete(as_read).execute(c).await)
}

/// Deletes at most `most` notes that were made before `time`, whosever they are; how many that were.
pub(crate) async fn delete_older(tx: &mut Tx, time: Moment, most: i64) -> Result<usize, DbError> {
    let old = || note::table.filter(note::created_at.lt(time));
    let ids = old().order(note::created_at).limit(most).select(note::id);
    let ids: Vec<Id<Note>> = on!(tx, |c| ids.load(c).await)?;
    let delete = diesel::delete(old().filter(note::id.eq_any(ids)));
    on!(tx, |c| delete.execute(c).await)
}

/// How many there are, whosever they are.
pub(crate) async fn count_all(tx: &mut Tx) -> Result<i64, DbError> {
    on!(tx, |c| note::table.count().get_result(c).await)
}

async fn insert_tags(tx: &mut TenantTx, of: &Note) -> Result<(), DbError> {
    let tags = of.tags.iter().map(|tag| TagRow {
        tenant_id: of.tenant,
        note_id: of.id,
        tag: tag.clone(),
    });
    insert_all!(tx, note_tag::table, tags.collect()).map(drop)
}

/// The tags of each of these notes, sorted.
async fn tags_of(
    tx: &mut TenantTx,
    notes: Vec<Id<Note>>,
) -> Result<HashMap<Id<Note>, Vec<String>>, DbError> {
    let of_notes = note_tag::tenant_id
        .eq(tx.tenant())
        .and(note_tag::note_id.eq_any(notes));
    let query = note_tag::table
        .filter(of_notes)
        .order(note_tag::tag)
        .select((note_tag::note_id, note_tag::tag));
    let rows: Vec<(Id<Note>, String)> = on!(tx, |c| query.load(c).await)?;
    let mut tags: HashMap<_, Vec<_>> = HashMap::new();
    for (note, tag) in rows {
        tags.entry(note).or_default().push(tag);
    }
    Ok(tags)
}
