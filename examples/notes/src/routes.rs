//! Takes requests apart, calls rules, puts answers together.

use std::time::Duration;

use dotmac_platform::{audit::Acts as _, prelude::*, routing::not_null};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::{
    NotesError, Read, Service, Write, rules, store,
    store::{Note, NoteColumn},
    tags::{self, TagCount},
};

const MINUTE: Duration = Duration::from_secs(60);

/// The most tags that a note has, and characters that a tag has.
const MOST_TAGS: usize = 10;
const LONGEST_TAG: usize = 40;

/// A note to be.
#[derive(Deserialize, Validate, ToSchema)]
struct NewNote {
    /// What to remember.
    #[garde(length(chars, min = 1))]
    text: String,
    /// At most ten words to find it by.
    #[serde(default)]
    #[garde(length(max = MOST_TAGS), inner(length(chars, min = 1, max = LONGEST_TAG)))]
    tags: Vec<String>,
}

/// The changes of a note; other fields stay.
#[derive(Deserialize, Validate, ToSchema)]
struct NotePatch {
    /// The new text.
    #[serde(default)]
    #[garde(custom(not_null), inner(length(chars, min = 1)))]
    text: Change<String>,
    /// The new tags in place of all old ones; `null` for none.
    #[serde(default)]
    #[garde(inner(length(max = MOST_TAGS), inner(length(chars, min = 1, max = LONGEST_TAG))))]
    tags: Change<Vec<String>>,
}

pub(crate) fn declare(routes: &mut Routes) {
    routes
        .post("", add)
        .summary("Add a note")
        .rate_limit(RateLimit::per_principal(6000, MINUTE));
    routes.get("", list).summary("All notes, in pages");
    routes
        .get("/tags", tags)
        .summary("The 200 tags that were given most often");
    routes.get("/{id}", find).summary("One note");
    routes.patch("/{id}", change).summary("Change a note");
    routes.delete("/{id}", delete).summary("Delete a note");
}

async fn add(
    who: Can<Write>,
    on: Use<Service>,
    new: Valid<NewNote>,
    once: Idempotency,
) -> Result<Created<Versioned<Note>>, NotesError> {
    let (NewNote { text, tags }, settings) = (new.into_inner(), on.settings.get());
    let db = on.db.tenant(&who.scope());
    let added = db.act("add note", async move |tx| {
        let added = rules::add(tx, &settings, text, tags).await?;
        Ok(added.map(|note| {
            let location = format!("/api/v1/notes/{}", note.id);
            let body = versioned(note);
            once.keep(tx, Created { location, body })
        }))
    });
    added.await
}

async fn list(
    who: Can<Read>,
    on: Use<Service>,
    sort: Sort<NoteColumn>,
    paging: Paging,
) -> Result<Page<Note>, Problem> {
    let order = sort.to_string();
    let scope = CursorScope {
        tenant: who.tenant,
        list: "notes",
        sort: &order,
        filter: "",
    };
    let (window, db) = (paging.window(&scope)?, on.db.tenant(&who.scope()));
    let found = db.read("list notes", async move |tx| {
        rows!(window, |after, limit| store::page(tx, sort, after, limit))
    });
    Ok(paging.page(&scope, found.await?, |note| note.id))
}

async fn tags(who: Can<Read>, on: Use<Service>) -> Result<Page<TagCount>, NotesError> {
    let db = on.db.tenant(&who.scope());
    let counted = db.read("list tags", async |tx| tags::most_given(tx, 200).await);
    Ok(Page::whole(counted.await?))
}

async fn find(
    who: Can<Read>,
    on: Use<Service>,
    id: Path<Id<Note>>,
) -> Result<Versioned<Note>, NotesError> {
    let db = on.db.tenant(&who.scope());
    let found = db.read("find note", async move |tx| rules::find(tx, *id).await);
    Ok(versioned(found.await?))
}

async fn change(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<Id<Note>>,
    seen: IfMatch,
    patch: Valid<NotePatch>,
) -> Result<Versioned<Note>, NotesError> {
    let (NotePatch { text, tags }, settings) = (patch.into_inner(), on.settings.get());
    let db = on.db.tenant(&who.scope());
    let changed = db.act("change note", async move |tx| {
        rules::change(tx, &settings, *id, &seen, (text, tags)).await
    });
    Ok(versioned(changed.await?))
}

async fn delete(
    who: Can<Write>,
    on: Use<Service>,
    id: Path<Id<Note>>,
    seen: IfMatch,
) -> Result<NoContent, NotesError> {
    let db = on.db.tenant(&who.scope());
    let deleted = db.act("delete note", async move |tx| {
        rules::delete(tx, *id, &seen).await
    });
    deleted.await?;
    Ok(NoContent)
}

fn versioned(note: Note) -> Versioned<Note> {
    let (version, body) = (note.version, note);
    Versioned { version, body }
}
