//! The event log as a service: what happened, over HTTP; the types of events; how far subscribers are, and sending them
//! back.
//!
//! The log itself is a part of the platform (`dotmac_platform::events`) and there without this module. What this one adds
//! is for clients and operators. docs/services/events.md is the page about it.

mod acts;
mod bodies;
mod command;
mod error;
mod routes;
mod rules;
mod settings;
mod watch;

use dotmac_platform::{access::Permission as _, events::EventCatalogue, permissions, prelude::*};

use command::EventsCommand;
pub use error::EventsError;
pub use settings::EventsSettings;

permissions! {
    /// Read the tenant's events.
    pub Read = "events.events.read";
    /// Emit events of the tenant's own types.
    pub Write = "events.events.write";
    /// See how far subscribers are; they work for all tenants.
    pub ReadSubscribers = "events.subscribers.read";
    /// Send subscribers back; they work for all tenants.
    pub WriteSubscribers = "events.subscribers.write";
}

/// The module.
pub struct Events;

/// The state of handlers.
#[derive(Clone)]
struct Service {
    db: ModuleDb,
    catalogue: EventCatalogue,
}

impl Module for Events {
    const NAME: &'static str = "events";
    type Settings = EventsSettings;

    fn manifest() -> Manifest {
        Manifest::new("The event log, and its subscribers.")
            .permissions(PERMISSIONS)
            .operator_permissions(&[ReadSubscribers::SPEC, WriteSubscribers::SPEC])
            .audits(acts::ACTS)
            .command::<EventsCommand>()
    }

    fn mount(settings: EventsSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let (db, catalogue) = (on.db(), on.events());
        on.keep_events(settings.retention);
        watch::add(on, &catalogue, settings.status_interval)?;
        on.provide(Service { db, catalogue });
        on.routes("/events", routes::declare);
        Ok(())
    }
}
