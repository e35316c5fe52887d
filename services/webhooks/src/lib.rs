//! Outgoing webhooks: events that are sent to the endpoints of tenants, signed, tried again, and shown attempt by attempt.
//!
//! An event becomes deliveries in `fan_out`, by one transaction; a worker of each instance, `sender`, claims those that are due and
//! sends them. A request goes down once, from `routes` over `rules` to `store`, and comes up once.
//! docs/services/webhooks.md is the page about it.

mod audit;
mod bodies;
mod command;
mod error;
mod events;
mod fan_out;
mod metrics;
mod patterns;
mod payload;
mod routes;
mod rules;
mod sender;
mod service;
mod settings;
mod signing;
mod store;
mod watch;
mod workers;

use std::time::Duration;

use dotmac_platform::{
    db::Tx, events::StoredEvent, migrations, permissions, prelude::*, supervision::Schedule,
};

use command::WebhooksCommand;
pub use error::WebhooksError;
use events::EndpointDisabled;
use service::{Full, Inner, Service};
pub use settings::WebhooksSettings;

permissions! {
    /// Read the tenant's webhook endpoints.
    pub Read = "webhooks.endpoints.read";
    /// Make, change, test, pause and delete the tenant's webhook endpoints, and rotate their secrets.
    pub Write = "webhooks.endpoints.write";
    /// Read the tenant's webhook deliveries, with what was sent and answered.
    pub ReadDeliveries = "webhooks.deliveries.read";
    /// Restart the tenant's webhook deliveries.
    pub WriteDeliveries = "webhooks.deliveries.write";
}

/// Wakes the senders of all instances.
const SENDER: &str = "webhooks.send";

/// How often what is over is taken away.
const SWEEP: Duration = Duration::from_secs(60);

/// Longest that the sender goes without progress: the time that its transactions may take.
const PROGRESS_WITHIN: Duration = Duration::from_secs(180);

/// The module.
pub struct Webhooks;

impl Module for Webhooks {
    const NAME: &'static str = "webhooks";
    type Settings = WebhooksSettings;

    fn manifest() -> Manifest {
        Manifest::new("Sends events to the endpoints of tenants.")
            .migrations(migrations!("migrations"))
            .permissions(PERMISSIONS)
            .emits::<EndpointDisabled>()
            .audits(audit::ACTS)
            .seals()
            .command::<WebhooksCommand>()
    }

    fn mount(settings: WebhooksSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        metrics::register();
        let full = Full::default();
        let most = i64::from(settings.max_waiting);
        watch::add(on, settings.status_interval, (most, full.clone()))?;
        let service = Service::new(Inner {
            db: on.db(),
            sealer: on.sealer()?,
            egress: on.egress(),
            catalogue: on.events(),
            settings,
        });
        // No list of types: all of them, those that tenants make up among them.
        on.subscribe_across_tenants(
            "fan_out",
            &[],
            async move |tx: &mut Tx, event: StoredEvent| fan_out::deliver(tx, &full, event).await,
        )
        .add()?;
        let sending = service.clone();
        on.worker("send", Schedule::Continuous, move |context| {
            sender::run(sending.clone(), context)
        })
        .progress_within(PROGRESS_WITHIN)
        .add()?;
        let swept = service.clone();
        on.single_worker("sweep", Schedule::Every(SWEEP), move |context, _| {
            workers::sweep(swept.clone(), context)
        })
        .add()?;
        on.provide(service);
        routes::mount(on);
        Ok(())
    }
}
