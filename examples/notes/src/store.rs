//! The tables of notes, and every query on them.

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

    note (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        text -> Text,
        created_at -> Timestamp,
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
    id: Id<Note>,
    #[serde(skip)]
    tenant: TenantId,
    /// The text.
    text: String,
    /// Its tags, sorted.
    tags: Vec<String>,
    created_at: Moment,
}

/// What notes can be sorted by.
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
    id: Id<Note>,
    tenant_id: TenantId,
    text: String,
    created_at: Moment,
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
        Self {
            id: Id::new(),
            tenant,
            text,
            tags,
            created_at: Moment::now(),
        }
    }

    pub(crate) fn id(&self) -> Id<Self> {
        self.id
    }

    fn from_row(row: NoteRow, tags: Vec<String>) -> Self {
        let NoteRow {
            id,
            tenant_id,
            text,
            created_at,
        } = row;
        Self {
            id,
            tenant: tenant_id,
            text,
            tags,
            created_at,
        }
    }
}

pub(crate) async fn insert(tx: &mut TenantTx, new: &Note) -> Result<(), DbError> {
    let Note {
        id,
        tenant,
        text,
        tags,
        created_at,
    } = new.clone();
    let row = NoteRow {
        id,
        tenant_id: tenant,
        text,
        created_at,
    };
    on!(tx, |c| diesel::insert_into(note::table)
        .values(&row)
        .execute(c)
        .await)?;
    let tags = tags.into_iter().map(|tag| TagRow {
        tenant_id: tenant,
        note_id: id,
        tag,
    });
    insert_all!(tx, note_tag::table, tags.collect()).map(drop)
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
    let this_one = note::tenant_id.eq(tx.tenant()).and(note::id.eq(id));
    let row = on!(tx, |c| {
        let query = note::table.filter(this_one).select(NoteRow::as_select());
        query.first(c).await
    });
    let Some(row) = row.optional()? else {
        return Ok(None);
    };
    let tags = tags(tx, id).await?;
    Ok(Some(Note::from_row(row, tags)))
}

/// At most `limit` notes in the order of `sort`, those that come after the note `after`. Ids sort by the time of their
/// making.
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
    let mut notes = Vec::with_capacity(rows.len());
    for row in rows {
        let tags = tags(tx, row.id).await?;
        notes.push(Note::from_row(row, tags));
    }
    Ok(notes)
}

pub(crate) async fn delete(tx: &mut TenantTx, id: Id<Note>) -> Result<usize, DbError> {
    let this_one = note::tenant_id.eq(tx.tenant()).and(note::id.eq(id));
    on!(tx, |c| diesel::delete(note::table.filter(this_one))
        .execute(c)
        .await)
}

/// Deletes what was made before `time`, whoever's it is; how many that were.
pub(crate) async fn delete_older(tx: &mut Tx, time: Moment) -> Result<usize, DbError> {
    let old = note::created_at.lt(time);
    on!(tx, |c| diesel::delete(note::table.filter(old))
        .execute(c)
        .await)
}

/// How many there are, whoever's they are.
pub(crate) async fn count_all(tx: &mut Tx) -> Result<i64, DbError> {
    on!(tx, |c| note::table.count().get_result(c).await)
}

async fn tags(tx: &mut TenantTx, id: Id<Note>) -> Result<Vec<String>, DbError> {
    let of_note = note_tag::tenant_id
        .eq(tx.tenant())
        .and(note_tag::note_id.eq(id));
    let query = note_tag::table
        .filter(of_note)
        .order(note_tag::tag)
        .select(note_tag::tag);
    on!(tx, |c| query.load(c).await)
}
