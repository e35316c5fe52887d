//! The platform that suffers: the daemon with an actor and routes that can be broken. This program in that role.

use std::{process::ExitCode, time::Duration};

use diesel_async::RunQueryDsl;
use dotmac_platform::{on, prelude::*};
use serde::Deserialize;
use utoipa::IntoParams;

use crate::subject::{Ask, Subject};

/// Variable that turns this program into the platform.
pub const ASKED: &str = "FAULTY_PLATFORM";

pub fn asked_for() -> bool {
    std::env::var_os(ASKED).is_some()
}

pub fn serve() -> ExitCode {
    Platform::new("faulty", env!("CARGO_PKG_VERSION"))
        .module::<Faults>()
        .main()
}

struct Faults;

impl Module for Faults {
    const NAME: &'static str = "faults";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("An actor and routes that can be broken.").required()
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.provide(Store(on.db()));
        on.actor("subject", Needs::none(), |life, ()| Subject(life))
            .add()?;
        on.root_routes("/faults", |routes| {
            routes.post("/actor/{what}", ask);
            routes.post("/panic", panic);
            routes.post("/ledger", write);
        });
        Ok(())
    }
}

#[derive(Deserialize, IntoParams)]
struct Asked {
    #[serde(default)]
    ms: u64,
}

/// Asks the actor to do what the path says.
async fn ask(
    _: Public,
    subject: Supervised<Subject>,
    what: Path<String>,
    asked: Query<Asked>,
) -> Result<Json<u64>, Problem> {
    let what = match what.as_str() {
        "ping" => Ask::Ping,
        "panic" => Ask::Panic,
        "stop" => Ask::Stop,
        "hang" => Ask::Hang(Duration::from_millis(asked.ms)),
        _ => return Err(Problem::not_found("ping, panic, stop and hang are there")),
    };
    Ok(Json(subject.call(what).await?))
}

/// Panics in the request's own handler.
async fn panic(_: Public) -> Result<NoContent, Problem> {
    panic!("asked to");
}

#[derive(Deserialize, IntoParams)]
struct Entry {
    id: i64,
    #[serde(default)]
    ms: u64,
}

/// The state of handlers.
#[derive(Clone)]
struct Store(ModuleDb);

/// Writes a row in a transaction that stays open for some time.
async fn write(_: Public, store: Use<Store>, entry: Query<Entry>) -> Result<NoContent, Problem> {
    let Entry { id, ms } = entry.into_inner();
    let db = store.0.0.system("the ledger has no tenants");
    let written = db.transaction("write ledger", async move |tx| {
        on!(tx, |c| diesel::sql_query(format!(
            "INSERT INTO ledger VALUES ({id})"
        ))
        .execute(c)
        .await)?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok::<_, DbError>(())
    });
    written.await?;
    Ok(NoContent)
}
