//! The collectors of telemetry: whether anything listens where signals go.

use std::{net::ToSocketAddrs, time::Duration};

use url::Url;

use super::table::{Outcome, Table};
use crate::settings::Settings;

/// Whether each endpoint that a signal goes to accepts connections. Whether it accepts exports, the daemon's `/ready` shows.
pub(super) async fn try_collectors(settings: &Settings, table: &mut Table) {
    let mut tried = Vec::new();
    for export in settings.exports.each() {
        let given = &export.settings;
        if let Some(endpoint) = given
            .otlp_endpoint
            .as_ref()
            .filter(|it| !tried.contains(it))
        {
            try_collector(endpoint, given.export_timeout, table).await;
            tried.push(endpoint);
        }
    }
    if tried.is_empty() {
        let none = "none is set: nothing is exported";
        table.note("collector", Outcome::Absent, none);
    }
}

async fn try_collector(endpoint: &Url, limit: Duration, table: &mut Table) {
    let host = endpoint.host_str().unwrap_or_default().to_owned();
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = endpoint.port_or_known_default().unwrap_or(4317);
    let connect = async {
        let resolved = tokio::task::spawn_blocking(move || {
            (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
        });
        let addresses = resolved.await.map_err(std::io::Error::other)??;
        let connecting = tokio::net::TcpStream::connect(addresses.as_slice());
        let connected = tokio::time::timeout(limit, connecting).await;
        connected.map_err(|_| std::io::Error::other(format!("no answer within {limit:?}")))??;
        Ok::<_, std::io::Error>(((), format!("{endpoint} accepts connections")))
    };
    table
        .attempt("collector", connect, |error| {
            format!(
                "no connection to {endpoint} ({error}); check DOTMAC_TELEMETRY_OTLP_ENDPOINT and that the collector runs"
            )
        })
        .await;
}
