//! A program whose events are passed on to NATS: `curl -X POST localhost:8000/api/v1/ticks/1` emits one.

use std::process::ExitCode;

use dotmac_nats::Nats;
use dotmac_platform::{
    Platform,
    db::{TenantId, TenantScope, TenantTx},
    events::{Emit as _, Event},
    prelude::*,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// It ticked.
#[derive(Serialize, Deserialize, ToSchema)]
struct Ticked {
    /// The number that the client gave.
    number: i64,
}

impl Event for Ticked {
    const TYPE: &'static str = "clock.ticked.v1";

    fn subject(&self) -> String {
        format!("ticks/{}", self.number)
    }
}

#[derive(Clone)]
struct Service(ModuleDb);

async fn tick(_: Public, on: Use<Service>, number: Path<i64>) -> Result<NoContent, DbError> {
    let tenant = TenantId::from_uuid(uuid::Uuid::from_u128(1));
    let scope = TenantScope::system(tenant, "the clock ticks");
    let number = *number;
    let tick = async move |tx: &mut TenantTx| {
        tx.emit(&Ticked { number })?;
        Ok::<_, DbError>(())
    };
    on.0.0.tenant(&scope).transaction("tick", tick).await?;
    Ok(NoContent)
}

struct Clock;

impl Module for Clock {
    const NAME: &'static str = "clock";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("Ticks at each request.").emits::<Ticked>()
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.provide(Service(on.db()));
        on.routes("/ticks", |routes| {
            routes.post("/{number}", tick).summary("Tick once");
        });
        Ok(())
    }
}

fn main() -> ExitCode {
    Platform::new("relayed", env!("CARGO_PKG_VERSION"))
        .module::<Clock>()
        .module::<Nats>()
        .main()
}
