//! A service with a table of its own, on PostgreSQL and SQLite alike. The table and its queries are in
//! `store.rs`, its migrations beside it; here are the routes.

mod store;

use actix_web::{
    HttpResponse, get, post,
    web::{Json, Path},
};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use dotmac_platform::{
    Db, Platform,
    db::{Migrations, types::Id},
    http::Problem,
};

use store::{NewNote, Note};

static POSTGRES: EmbeddedMigrations = embed_migrations!("examples/notes/migrations/postgres");
static SQLITE: EmbeddedMigrations = embed_migrations!("examples/notes/migrations/sqlite");

#[utoipa::path(responses((status = 201, description = "The note, as it was kept.")))]
#[post("")]
async fn add(db: Db, new: Json<NewNote>) -> Result<HttpResponse, Problem> {
    let note = store::add(&db, new.into_inner()).await?;
    Ok(HttpResponse::Created().json(note))
}

#[utoipa::path(params(("id" = String, Path, description = "The note's id.")), responses((status = 200, description = "The note."), (status = 404, description = "There is none.")))]
#[get("/{id}")]
async fn find(db: Db, id: Path<Id<Note>>) -> Result<HttpResponse, Problem> {
    match store::find(&db, *id).await? {
        Some(note) => Ok(HttpResponse::Ok().json(note)),
        None => Ok(HttpResponse::NotFound().finish()),
    }
}

#[utoipa::path(responses((status = 200, description = "The newest notes.")))]
#[get("")]
async fn newest(db: Db) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(store::newest(&db, 20).await?))
}

#[actix_web::main]
async fn main() -> std::process::ExitCode {
    Platform::from_env()
        .migrations(Migrations {
            owner: "notes",
            postgres: &POSTGRES,
            sqlite: &SQLITE,
            after: &[],
        })
        .routes("/notes", |routes| {
            routes.service(add).service(find).service(newest);
        })
        .run()
        .await
}
