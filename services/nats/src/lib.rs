//! Passes the events of the program on to NATS JetStream, for consumers that are not part of it.
//!
//! The log stays the truth, and NATS is never the only copy. docs/services/events.md has the section about it; the rules of
//! the relay are the platform's (`dotmac_platform::events::relay`).

mod broker;
mod durability;
mod settings;

use dotmac_platform::prelude::*;

use broker::{Credentials, JetStream};
pub use settings::NatsSettings;

/// The module.
pub struct Nats;

impl Module for Nats {
    const NAME: &'static str = "nats";
    type Settings = NatsSettings;

    fn manifest() -> Manifest {
        Manifest::new("Passes events on to NATS JetStream.")
    }

    fn mount(settings: NatsSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let Some(url) = settings.server() else {
            return Ok(());
        };
        let credentials = Credentials {
            token: on.secret(&settings.token),
            username: on.secret(&settings.username),
            password: on.secret(&settings.password),
            signed: on.secret(&settings.credentials),
        };
        let mut tried = JetStream::new(url.clone(), settings.clone(), credentials.clone());
        on.check_connection("nats", move || async move { tried.describe().await });
        on.relay("relay", JetStream::new(url, settings, credentials))
            .optional()
            .add()?;
        Ok(())
    }
}
