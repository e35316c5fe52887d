//! Takes requests apart, calls rules, puts answers together.

mod deliveries;
mod endpoints;

use std::time::Duration;

use dotmac_platform::{
    module::Mount,
    routing::{InvalidRequest, RateLimit},
};

/// Requests of one caller that change something.
const CHANGES: RateLimit = RateLimit::per_principal(600, Duration::from_secs(60));

/// Largest body of a request: its headers have 20 KiB at the most.
const BODY: usize = 64 * 1024;

pub(crate) fn mount(on: &mut Mount<'_>) {
    on.routes("/webhooks", endpoints::declare);
    on.routes("/webhook-deliveries", deliveries::declare);
    on.routes("/webhook-events", deliveries::declare_events);
}

/// A parameter of the query as what it should be.
fn parsed<T: std::str::FromStr>(
    name: &'static str,
    text: Option<&str>,
    wanted: impl Fn() -> String,
) -> Result<Option<T>, InvalidRequest> {
    let read = text.map(|text| text.parse());
    read.transpose()
        .map_err(|_| InvalidRequest::query(name, wanted()))
}
