//! Turns settings into the configuration of each part; the only place that knows both.

mod secrets;
mod telemetry;

use std::sync::Arc;

use dotmac_db as db;
use dotmac_supervision::Policy;
use dotmac_telemetry::{Telemetry, watch_runtime_of};

pub(crate) use self::{
    secrets::{secrets, wanted},
    telemetry::{collector_headers, telemetry},
};
use crate::{
    MIGRATIONS,
    about::About,
    descriptors, egress, http,
    settings::{
        CorsSettings, DatabaseTarget, Environment, PostgresTarget, Settings, SupervisionSettings,
    },
};

pub(crate) const OTLP_HEADERS: &str = "DOTMAC_TELEMETRY_OTLP_HEADERS";

pub(crate) fn policy(settings: &SupervisionSettings) -> Policy {
    Policy {
        intensity: settings.intensity,
        period: settings.period,
        backoff_min: settings.backoff_min,
        backoff_max: settings.backoff_max,
        heartbeat: settings.heartbeat,
        hang_after: settings.hang_after,
        start_timeout: settings.start_timeout,
        stop_timeout: settings.stop_timeout,
        call_timeout: settings.call_timeout,
        max_leaked_threads: settings.max_leaked_threads,
        ..Policy::default()
    }
}

/// The source of `/metrics`.
pub(crate) fn scrape(telemetry: &Telemetry) -> http::Scrape {
    let scrape = telemetry.scrape();
    Arc::new(move |format| scrape.render(format).map_err(|error| error.to_string()))
}

/// The listener for operators, if there is one: without TLS and for any host, few connections, no cross-origin calls.
pub(crate) fn management(settings: &Settings, about: About) -> Option<http::Config> {
    let app = &settings.app;
    let port = app.management_port?;
    let all = http(settings, about);
    Some(http::Config {
        surface: http::Surface::Management,
        host: app
            .management_host
            .as_ref()
            .unwrap_or(&app.host)
            .to_string(),
        port,
        workers: 1,
        tls: None,
        hsts: false,
        max_connections: descriptors::MANAGEMENT,
        trusted_hosts: Vec::new(),
        cors: CorsSettings {
            enabled: false,
            ..all.cors.clone()
        },
        ..all
    })
}

pub(crate) fn http(settings: &Settings, about: About) -> http::Config {
    let (app, limits) = (&settings.app, &settings.http);
    let tls = app.tls_cert.clone().zip(app.tls_key.clone());
    http::Config {
        surface: match app.management_port {
            Some(_) => http::Surface::Api,
            None => http::Surface::All,
        },
        host: app.host.to_string(),
        port: app.port,
        workers: app.workers,
        hsts: tls.is_some(),
        tls: tls.map(|(certificates, key)| http::TlsFiles { certificates, key }),
        body_limit: usize::try_from(limits.body_limit.bytes()).unwrap_or(usize::MAX),
        request_timeout: limits.request_timeout,
        header_timeout: limits.header_timeout,
        write_timeout: limits.write_timeout,
        tls_handshake_timeout: limits.tls_handshake_timeout,
        tls_handshakes_per_address: limits.tls_handshakes_per_address,
        keep_alive: limits.keep_alive,
        max_connections: limits.max_connections,
        shutdown_timeout: settings.shutdown.timeout,
        trusted_proxies: limits.trusted_proxies.clone(),
        trusted_hosts: limits.trusted_hosts.clone(),
        cors: settings.cors.clone(),
        docs_enabled: app.docs_enabled,
        environment: app.environment.to_string(),
        app_name: app.app_name.clone(),
        version: about.version.to_owned(),
        build: about.build,
    }
}

/// The rules of outgoing calls.
pub(crate) fn egress(settings: &Settings) -> egress::Config {
    let (given, environment) = (&settings.egress, settings.app.environment);
    egress::Config {
        policy: egress::Policy {
            allow: given.allow.clone(),
            ports: given.ports.clone(),
            allows_loopback: matches!(environment, Environment::Development | Environment::Test),
            allows_plain_http: environment != Environment::Production,
        },
        timeout: given.timeout,
        answer_limit: usize::try_from(given.answer_limit.bytes()).unwrap_or(usize::MAX),
        per_host: given.per_host,
        concurrency: given.concurrency,
        proxy: given.proxy.clone(),
        ca_cert: given.ca_cert.clone(),
    }
}

/// Where the database is and how to use it, logged in to with what `credentials` offer.
///
/// Its size and its migrations are the platform's to change: see [`Platform`](crate::Platform) and `Reload`.
pub(crate) fn database(settings: &Settings, credentials: db::Credentials) -> db::Config {
    let given = &settings.database;
    db::Config {
        target: match given.target() {
            DatabaseTarget::Sqlite { path } => db::Target::Sqlite(path.into()),
            DatabaseTarget::Postgres(target) => {
                db::Target::Postgres(postgres(target, settings, credentials))
            }
        },
        pool_size: db::PoolSize::new(given.pool_size),
        min_idle: given.pool_min_idle,
        pool_timeout: given.pool_timeout,
        connect_timeout: given.connect_timeout,
        statement_timeout: given.statement_timeout,
        transaction_timeout: given.transaction_timeout,
        lock_timeout: given.lock_timeout,
        idle_in_transaction_timeout: given.idle_in_transaction_timeout,
        max_lifetime: given.max_lifetime,
        slow_query: given.slow_query,
        migrate: given.migrate,
        migrations: vec![MIGRATIONS],
        application_name: settings.app.app_name.clone(),
        observe_runtime: Some(|runtime| watch_runtime_of(runtime, "database")),
    }
}

fn postgres(
    target: PostgresTarget,
    settings: &Settings,
    credentials: db::Credentials,
) -> db::Postgres {
    db::Postgres {
        host: target.host,
        port: target.port,
        database: target.name,
        credentials,
        ssl_mode: target.sslmode,
        ca_cert: settings.database.ca_cert.clone(),
        client_cert: {
            let (certificates, key) = (
                &settings.database.client_cert,
                &settings.database.client_key,
            );
            let both = certificates.clone().zip(key.clone());
            both.map(|(certificates, key)| db::ClientCert { certificates, key })
        },
    }
}
