//! Notes in the database: the table, its rows, and all queries on it.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Db, DbError, OptionalExtension as _,
        types::{Id, Json, Moment},
    },
    on,
};
use serde::{Deserialize, Serialize};

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    note (id) {
        id -> Uuid,
        text -> Text,
        tags -> Json,
        at -> Timestamp,
    }
}

#[derive(Clone, Insertable, Queryable, Selectable, Serialize)]
#[diesel(table_name = note)]
pub(crate) struct Note {
    id: Id<Note>,
    text: String,
    tags: Json<Vec<String>>,
    at: Moment,
}

#[derive(Deserialize, utoipa::ToSchema)]
pub(crate) struct NewNote {
    text: String,
    #[serde(default)]
    tags: Vec<String>,
}

pub(crate) async fn add(db: &Db, new: NewNote) -> Result<Note, DbError> {
    let note = Note {
        id: Id::new(),
        text: new.text,
        tags: Json(new.tags),
        at: Moment::now(),
    };
    let row = note.clone();
    db.run("add note", async move |c| {
        on!(c, |c| diesel::insert_into(note::table)
            .values(&row)
            .execute(c)
            .await)
    })
    .await?;
    Ok(note)
}

pub(crate) async fn find(db: &Db, id: Id<Note>) -> Result<Option<Note>, DbError> {
    db.read("find note", async move |c| {
        on!(c, |c| note::table
            .find(id)
            .select(Note::as_select())
            .first(c)
            .await)
        .optional()
    })
    .await
}

pub(crate) async fn newest(db: &Db, count: i64) -> Result<Vec<Note>, DbError> {
    db.read("list notes", async move |c| {
        on!(c, |c| note::table
            .order(note::at.desc())
            .limit(count)
            .select(Note::as_select())
            .load(c)
            .await)
    })
    .await
}
