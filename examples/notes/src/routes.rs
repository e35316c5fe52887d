//! Takes requests apart, calls rules, puts answers together.

use dotmac_platform::{db::types::Id, prelude::*, routing::Idempotency};
use garde::Validate;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use crate::{NotesError, Read, Service, Write, rules, store, store::Note};

/// A note to be.
#[derive(Deserialize, Validate, ToSchema)]
struct NewNote {
    /// What to remember.
    #[garde(length(chars, min = 1))]
    text: String,
    /// At most ten words to find it by.
    #[serde(default)]
    #[garde(length(max = 10), inner(length(chars, min = 1, max = 40)))]
    tags: Vec<String>,
}

#[derive(Deserialize, IntoParams)]
struct Newest {
    /// How many, 20 unless said otherwise, at most 200.
    limit: Option<u8>,
}

pub(crate) fn declare(routes: &mut Routes) {
    routes.post("", add).summary("Add a note");
    routes.get("", list).summary("The newest notes");
    routes.get("/{id}", find).summary("One note");
    routes.delete("/{id}", delete).summary("Delete a note");
}

async fn add(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewNote>,
    once: Idempotency,
) -> Result<Created<Note>, NotesError> {
    let (NewNote { text, tags }, settings) = (new.into_inner(), on.settings.get());
    let db = on.db.tenant(&who.scope());
    let added = db.transaction("add note", async move |tx| {
        let note = rules::add(tx, &settings, text, tags).await?;
        let location = format!("/api/v1/notes/{}", note.id());
        let body = note;
        Ok(once.keep(tx, Created { location, body }))
    });
    added.await
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    asked: Query<Newest>,
) -> Result<Json<Vec<Note>>, NotesError> {
    let limit = i64::from(asked.limit.unwrap_or(20).min(200));
    let db = on.db.tenant(&who.scope());
    let newest = db.read("list notes", async move |tx| store::newest(tx, limit).await);
    Ok(Json(newest.await?))
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<Id<Note>>,
) -> Result<Json<Note>, NotesError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find note", async move |tx| rules::find(tx, *id).await);
    Ok(Json(found.await?))
}

async fn delete(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<Id<Note>>,
) -> Result<NoContent, NotesError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.transaction("delete note", async move |tx| rules::delete(tx, *id).await);
    deleted.await?;
    Ok(NoContent)
}
