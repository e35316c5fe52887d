//! From settings to what each part is told: the only place that knows both.

use std::{io::IsTerminal, sync::Arc};

use dotmac_actors::{
    db,
    secrets::{self, SecretStore, Wanted, WantedSource},
    supervision::Policy,
    telemetry::{self, Telemetry},
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    VERSION, http, migrations,
    settings::{
        DatabaseTarget, Environment, KvVersion, LogFormat, Migrate, OtlpProtocol, PostgresTarget,
        SecretSetting, Settings, SslMode, SupervisionSettings, VaultAuth, VaultSettings,
    },
};

const USERNAME: &str = "DOTMAC_DATABASE_USERNAME";
const PASSWORD: &str = "DOTMAC_DATABASE_PASSWORD";

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

pub(crate) fn telemetry(settings: &Settings) -> telemetry::Config {
    let given = &settings.telemetry;
    telemetry::Config {
        log_filter: given.log_level.to_string(),
        log_format: match given.log_format {
            LogFormat::Json => telemetry::LogFormat::Json,
            LogFormat::Pretty => telemetry::LogFormat::Pretty {
                color: std::io::stdout().is_terminal(),
            },
        },
        otlp: given
            .otlp_endpoint
            .as_ref()
            .map(|endpoint| telemetry::Otlp {
                endpoint: endpoint.to_string(),
                protocol: match given.otlp_protocol {
                    OtlpProtocol::Grpc => telemetry::Protocol::Grpc,
                    OtlpProtocol::Http => telemetry::Protocol::Http,
                },
                export_timeout: given.export_timeout,
            }),
        traces: given.traces,
        metrics: given.metrics,
        logs: given.logs,
        sample_ratio: given.sample_ratio,
        metric_interval: given.metric_interval,
        service_name: given.service_name.clone(),
        service_version: VERSION.to_owned(),
        environment: settings.app.environment.to_string(),
        resource_attributes: given.resource_attributes.clone(),
        build_info: Vec::new(),
    }
}

/// What `/metrics` answers with.
pub(crate) fn scrape(telemetry: &Telemetry) -> http::Scrape {
    let scrape = telemetry.scrape();
    Arc::new(move || scrape.render().map_err(|error| error.to_string()))
}

pub(crate) fn http(settings: &Settings) -> http::Config {
    let (app, limits, cors) = (&settings.app, &settings.http, &settings.cors);
    let tls = app.tls_cert.clone().zip(app.tls_key.clone());
    http::Config {
        host: app.host.to_string(),
        port: app.port,
        workers: app.workers,
        hsts: tls.is_some(),
        tls: tls.map(|(certificates, key)| http::TlsFiles { certificates, key }),
        body_limit: usize::try_from(limits.body_limit.bytes()).unwrap_or(usize::MAX),
        request_timeout: limits.request_timeout,
        header_timeout: limits.header_timeout,
        keep_alive: limits.keep_alive,
        max_connections: limits.max_connections,
        shutdown_timeout: settings.shutdown.timeout,
        trusted_proxies: limits.trusted_proxies.clone(),
        trusted_hosts: limits.trusted_hosts.clone(),
        cors: http::CorsPolicy {
            enabled: cors.enabled,
            origins: cors.origins.clone(),
            methods: cors.methods.clone(),
            headers: cors.headers.clone(),
            credentials: cors.credentials,
            max_age: cors.max_age,
        },
        docs_enabled: app.docs_enabled,
        environment: app.environment.to_string(),
        app_name: app.app_name.clone(),
        version: VERSION.to_owned(),
    }
}

/// Which secrets to load, from where, and whether to go on without them.
pub(crate) fn secrets(settings: &Settings) -> secrets::Config {
    secrets::Config {
        vault: settings.vault.enabled.then(|| vault(&settings.vault)),
        wanted: wanted(settings),
        strict: settings.app.environment == Environment::Production,
        refresh_interval: settings.vault.refresh_interval,
        retry_min: settings
            .supervision
            .backoff_min
            .max(std::time::Duration::from_millis(100)),
        retry_max: settings
            .supervision
            .backoff_max
            .max(std::time::Duration::from_millis(100)),
    }
}

fn wanted(settings: &Settings) -> Vec<Wanted> {
    settings
        .wanted_secrets()
        .into_iter()
        .map(|wanted| Wanted {
            key: wanted.key,
            source: if wanted.explicit {
                WantedSource::Reference(wanted.reference)
            } else {
                WantedSource::DefaultPath(wanted.reference.path)
            },
        })
        .collect()
}

fn vault(settings: &VaultSettings) -> secrets::VaultConfig {
    let secret = |given: &Option<SecretString>| given.clone().unwrap_or_default();
    secrets::VaultConfig {
        address: settings
            .addr
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        namespace: settings.namespace.clone(),
        auth: match settings.auth {
            VaultAuth::Token => secrets::Auth::Token(secret(&settings.token)),
            VaultAuth::AppRole => secrets::Auth::AppRole {
                mount: "approle".to_owned(),
                role_id: secret(&settings.role_id).expose_secret().to_owned(),
                secret_id: secret(&settings.secret_id),
            },
        },
        mount: settings.mount.as_str().to_owned(),
        kv_version: match settings.kv_version {
            KvVersion::Auto => secrets::KvVersion::Auto,
            KvVersion::V1 => secrets::KvVersion::V1,
            KvVersion::V2 => secrets::KvVersion::V2,
        },
        ca_cert: settings.ca_cert.clone(),
        timeout: settings.timeout,
        client: secrets::Client::default(),
    }
}

/// Where the database is and how to use it; credentials out of `store` where the settings leave them to it.
///
/// Its size and its migrations are the platform's to change: see [`Platform`](crate::Platform) and `Reload`.
pub(crate) fn database(settings: &Settings, store: Option<&SecretStore>) -> db::Config {
    let given = &settings.database;
    db::Config {
        target: match given.target() {
            DatabaseTarget::Sqlite { path } => db::Target::Sqlite(path),
            DatabaseTarget::Postgres(target) => {
                db::Target::Postgres(postgres(target, settings, store))
            }
        },
        pool_size: db::PoolSize::new(given.pool_size),
        min_idle: given.pool_min_idle,
        pool_timeout: given.pool_timeout,
        connect_timeout: given.connect_timeout,
        statement_timeout: given.statement_timeout,
        lock_timeout: given.lock_timeout,
        idle_in_transaction_timeout: given.idle_in_transaction_timeout,
        max_lifetime: given.max_lifetime,
        slow_query: given.slow_query,
        migrate: match given.migrate {
            Migrate::Auto => db::MigrateMode::Auto,
            Migrate::Check => db::MigrateMode::Check,
            Migrate::Off => db::MigrateMode::Off,
        },
        migrations: vec![migrations::ALL],
        application_name: settings.app.app_name.clone(),
    }
}

fn postgres(
    target: PostgresTarget,
    settings: &Settings,
    store: Option<&SecretStore>,
) -> db::Postgres {
    let credential = |key: &str, given: Option<SecretSetting>| match given {
        Some(SecretSetting::Literal(value)) => Some(value),
        Some(SecretSetting::Reference(_)) | None => store.and_then(|store| store.get(key)).cloned(),
    };
    db::Postgres {
        host: target.host,
        port: target.port,
        database: target.name,
        username: credential(USERNAME, target.username).map(|name| name.expose_secret().to_owned()),
        password: credential(PASSWORD, target.password),
        ssl_mode: match target.sslmode {
            SslMode::Disable => db::SslMode::Disable,
            SslMode::Prefer => db::SslMode::Prefer,
            SslMode::Require => db::SslMode::Require,
            SslMode::VerifyCa => db::SslMode::VerifyCa,
            SslMode::VerifyFull => db::SslMode::VerifyFull,
        },
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
