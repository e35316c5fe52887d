//! From settings to what each part is told: the only place that knows both.

use std::{io::IsTerminal, sync::Arc};

use dotmac_db as db;
use dotmac_secrets::{self as secrets, SecretStore, Wanted, WantedSource};
use dotmac_supervision::Policy;
use dotmac_telemetry::{self as telemetry, Telemetry};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    MIGRATIONS,
    credentials::{PASSWORD, USERNAME},
    descriptors, egress, http,
    program::About,
    settings::{
        DatabaseTarget, Environment, Export, KvVersion, LogFormat, Migrate, OtlpCompression,
        OtlpProtocol, PostgresTarget, Settings, SslMode, SupervisionSettings, VaultAuth,
        otlp_headers,
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

pub(crate) fn telemetry(settings: &Settings, about: About) -> telemetry::Config {
    let given = &settings.telemetry;
    telemetry::Config {
        log_filter: given.log_level.to_string(),
        log_limit: given.log_limit,
        log_format: match given.log_format {
            LogFormat::Json => telemetry::LogFormat::Json,
            LogFormat::Pretty => telemetry::LogFormat::Pretty {
                color: std::io::stdout().is_terminal(),
            },
        },
        otlp: telemetry::Destinations {
            traces: collector(&settings.exports.traces).filter(|_| given.traces),
            metrics: collector(&settings.exports.metrics).filter(|_| given.metrics),
            logs: collector(&settings.exports.logs).filter(|_| given.logs),
        },
        sample_ratio: given.sample_ratio,
        sample_parent_based: given.sample_parent_based,
        span_queue: telemetry::Queue {
            size: given.span_queue,
            batch: given.span_batch,
            delay: given.span_delay,
        },
        log_queue: telemetry::Queue {
            size: given.log_queue,
            batch: given.log_batch,
            delay: given.log_delay,
        },
        metric_interval: given.metric_interval,
        service_name: given.service_name.clone(),
        service_name_is_given: settings.is_given("TELEMETRY_SERVICE_NAME"),
        instance_id: uuid::Uuid::now_v7().to_string(),
        service_version: about.version.to_owned(),
        environment: settings.app.environment.to_string(),
        // Of two with one name the later counts, so an operator's wins.
        resource_attributes: [about.attributes(), given.resource_attributes.clone()].concat(),
        build_info: about.labels(),
    }
}

/// Where one signal goes, if it goes anywhere.
fn collector(export: &Export) -> Option<telemetry::Otlp> {
    let given = &export.settings;
    let endpoint = given.otlp_endpoint.as_ref()?.to_string();
    let client = given
        .otlp_client_cert
        .clone()
        .zip(given.otlp_client_key.clone());
    Some(telemetry::Otlp {
        endpoint,
        appends_path: !export.has_own_endpoint,
        protocol: match given.otlp_protocol {
            OtlpProtocol::Grpc => telemetry::Protocol::Grpc,
            OtlpProtocol::Http => telemetry::Protocol::Http,
        },
        headers: given
            .otlp_headers
            .literal()
            .map(headers)
            .unwrap_or_default(),
        compression: match given.otlp_compression {
            OtlpCompression::None => telemetry::Compression::None,
            OtlpCompression::Gzip => telemetry::Compression::Gzip,
        },
        tls: telemetry::Tls {
            ca_cert: given.otlp_ca_cert.clone(),
            client: client
                .map(|(certificate, key)| telemetry::ClientCertificate { certificate, key }),
        },
        export_timeout: given.export_timeout,
    })
}

/// The collector's headers out of `store`, where the settings leave them to it.
pub(crate) fn collector_headers(store: Option<&SecretStore>) -> Vec<(String, SecretString)> {
    store
        .and_then(|store| store.get(OTLP_HEADERS))
        .map(headers)
        .unwrap_or_default()
}

fn headers(text: &SecretString) -> Vec<(String, SecretString)> {
    otlp_headers(text.expose_secret()).unwrap_or_else(|| {
        tracing::error!(
            key = OTLP_HEADERS,
            "the secret is not a list of name=value whose values are percent-encoded; telemetry is sent without it"
        );
        Vec::new()
    })
}

/// What `/metrics` answers with.
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
        cors: http::CorsPolicy::default(),
        ..all
    })
}

pub(crate) fn http(settings: &Settings, about: About) -> http::Config {
    let (app, limits, cors) = (&settings.app, &settings.http, &settings.cors);
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
        version: about.version.to_owned(),
        build: about.build,
    }
}

/// What may be called outside, and how.
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

/// Which secrets to load, from where, and whether to go on without them.
pub(crate) fn secrets(settings: &Settings) -> secrets::Config {
    secrets::Config {
        vault: settings.vault.enabled.then(|| vault(settings)),
        wanted: wanted(settings),
        database_role: settings.database.vault_role.as_ref().and_then(|role| {
            Some(secrets::DatabaseRole {
                name: "database",
                mount: settings.database.vault_mount.as_str().parse().ok()?,
                role: role.as_str().parse().ok()?,
                username: USERNAME.to_owned(),
                password: PASSWORD.to_owned(),
            })
        }),
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
        // A moment is left to say that it was not enough.
        revoke_all_within: settings.supervision.stop_timeout.mul_f64(0.8),
    }
}

/// Every secret that is used, those included that the settings hold themselves.
pub(crate) fn wanted(settings: &Settings) -> Vec<Wanted> {
    let from_vault = settings.wanted_secrets().into_iter().map(|wanted| Wanted {
        key: wanted.key,
        source: if wanted.must_exist {
            WantedSource::Reference(wanted.reference)
        } else {
            WantedSource::DefaultPath(wanted.reference.path)
        },
    });
    from_vault.chain(literals(settings)).collect()
}

fn literals(settings: &Settings) -> impl Iterator<Item = Wanted> {
    let given = match settings.database.target() {
        DatabaseTarget::Sqlite { .. } => [None, None],
        DatabaseTarget::Postgres(target) => {
            [(USERNAME, target.username), (PASSWORD, target.password)].map(Some)
        }
    };
    let given = given.into_iter().flatten();
    let of_platform = given.filter_map(|(key, secret)| Some((key, secret.literal()?.clone())));
    let of_modules = settings.literals_of_modules();
    of_platform
        .chain(of_modules.map(|(key, value)| (key, value.clone())))
        .map(|(key, value)| Wanted {
            key: key.to_owned(),
            source: WantedSource::Literal(value),
        })
}

/// Where Kubernetes mounts the token of a pod's service account.
const SERVICE_ACCOUNT_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

pub(crate) fn vault(settings: &Settings) -> secrets::VaultConfig {
    let auth = auth(settings);
    let settings = &settings.vault;
    secrets::VaultConfig {
        address: settings
            .addr
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        namespace: settings.namespace.clone(),
        auth,
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

fn auth(settings: &Settings) -> secrets::Auth {
    let vault = &settings.vault;
    // What came from a file is read from it at each login.
    let credential = |name: &str, given: &Option<SecretString>| match settings.file_of(name) {
        Some(file) => secrets::Credential::File(file),
        None => secrets::Credential::Value(given.clone().unwrap_or_default()),
    };
    let mount = vault.auth_mount.as_ref();
    let mount = mount.map_or_else(|| vault.auth.to_string(), |it| it.as_str().to_owned());
    match vault.auth {
        VaultAuth::Token => secrets::Auth::Token(credential("VAULT_TOKEN", &vault.token)),
        VaultAuth::AppRole => secrets::Auth::AppRole {
            mount,
            role_id: credential("VAULT_ROLE_ID", &vault.role_id),
            secret_id: credential("VAULT_SECRET_ID", &vault.secret_id),
            wrapped: vault.secret_id_wrapped,
        },
        VaultAuth::Kubernetes => secrets::Auth::Kubernetes {
            mount,
            role: vault.role.clone().unwrap_or_default(),
            jwt: match &vault.jwt {
                Some(_) => credential("VAULT_JWT", &vault.jwt),
                None => secrets::Credential::File(SERVICE_ACCOUNT_TOKEN.into()),
            },
        },
        VaultAuth::Jwt => secrets::Auth::Jwt {
            mount,
            role: vault.role.clone(),
            jwt: credential("VAULT_JWT", &vault.jwt),
        },
        VaultAuth::Cert => secrets::Auth::Certificate {
            mount,
            role: vault.role.clone(),
            certificate: vault.client_cert.clone().unwrap_or_default(),
            key: vault.client_key.clone().unwrap_or_default(),
        },
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
        lock_timeout: given.lock_timeout,
        idle_in_transaction_timeout: given.idle_in_transaction_timeout,
        max_lifetime: given.max_lifetime,
        slow_query: given.slow_query,
        migrate: match given.migrate {
            Migrate::Auto => db::MigrateMode::Auto,
            Migrate::Check => db::MigrateMode::Check,
            Migrate::Off => db::MigrateMode::Off,
        },
        migrations: vec![MIGRATIONS],
        application_name: settings.app.app_name.clone(),
        observe_runtime: Some(|runtime| telemetry::watch_runtime_of(runtime, "database")),
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
