//! The platform that suffers: the daemon with an actor and routes that can be broken. This program,
//! told to be it.

use std::{process::ExitCode, time::Duration};

use actix_web::{HttpResponse, post, web};
use diesel_async::RunQueryDsl;
use dotmac_platform::{Db, Needs, Platform, Supervised, db::DbError, http::Problem, on};
use serde::Deserialize;
use utoipa_actix_web::service_config::ServiceConfig;

use crate::subject::{Ask, Subject};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "FAULTY_PLATFORM";

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    actix_web::rt::System::new().block_on(
        Platform::from_env()
            .actor("subject", Needs::none(), |life, ()| Subject(life))
            .routes("/faults", routes)
            .run(),
    )
}

fn routes(config: &mut ServiceConfig<'_>) {
    config.service(ask).service(panic).service(write);
}

#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    ms: u64,
}

/// Asks the actor to do what the path says.
#[utoipa::path]
#[post("/actor/{what}")]
async fn ask(
    subject: Supervised<Subject>,
    what: web::Path<String>,
    asked: web::Query<Asked>,
) -> Result<HttpResponse, Problem> {
    let what = match what.as_str() {
        "ping" => Ask::Ping,
        "panic" => Ask::Panic,
        "stop" => Ask::Stop,
        "hang" => Ask::Hang(Duration::from_millis(asked.ms)),
        _ => return Err(Problem::not_found("ping, panic, stop and hang are there")),
    };
    Ok(HttpResponse::Ok().json(subject.call(what).await?))
}

/// Panics in the request's own handler.
#[utoipa::path]
#[post("/panic")]
async fn panic() -> Result<HttpResponse, Problem> {
    panic!("asked to");
}

#[derive(Deserialize)]
struct Entry {
    id: i64,
    #[serde(default)]
    ms: u64,
}

/// Writes a row in a transaction that stays open for some time.
#[utoipa::path]
#[post("/ledger")]
async fn write(db: Db, entry: web::Query<Entry>) -> Result<HttpResponse, Problem> {
    let Entry { id, ms } = entry.into_inner();
    let written = db.transaction("write ledger", async move |connection| {
        on!(connection, |c| diesel::sql_query(format!(
            "INSERT INTO ledger VALUES ({id})"
        ))
        .execute(c)
        .await)?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, DbError>(())
    });
    written.await?;
    Ok(HttpResponse::Ok().finish())
}
