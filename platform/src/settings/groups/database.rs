//! Which database, and how it is used.

use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;

use crate::settings::types::{
    DatabaseUrl, MigrateMode, MountPath, PostgresUrl, SecretSetting, ServerHost, SslMode,
    is_loopback,
};
use crate::settings::{Facts, Setting as _, between, computed, fallback, fixed, lasting};

crate::settings! {
    title: "Database", prefix: "DATABASE_";
    /// The database: a SQLite file or a PostgreSQL server, given by one URL or by its parts.
    pub struct DatabaseSettings {
        /// `sqlite:PATH` or `postgres://USER:PASSWORD@HOST:PORT/NAME?sslmode=MODE`. User and password may be left out
        /// and given by their own keys; only these two are live. `DATABASE_URL` does not count where
        /// `DOTMAC_DATABASE_HOST` or `DOTMAC_DATABASE_NAME` is set.
        url: DatabaseUrl {
            default: fixed("sqlite:dotmac.db"),
            fallbacks: &[fallback("DATABASE_URL")],
            fallbacks_yield_to: &["host", "name"],
        }

        /// PostgreSQL server, instead of a URL: a name, an address, or the directory of its Unix
        /// socket, as `/var/run/postgresql`.
        host: Option<ServerHost> {}

        /// Port of the PostgreSQL server, with `DOTMAC_DATABASE_HOST`.
        port: u16 { default: fixed("5432"), range: between::<u16>("1", "65535") }

        /// Name of the database, with `DOTMAC_DATABASE_HOST`.
        name: Option<String> {}

        /// User for PostgreSQL.
        username: SecretSetting {
            vault: "database/username",
            optional: true,
            guessable: true,
        }

        /// Password for PostgreSQL.
        password: SecretSetting { vault: "database/password", optional: true }

        /// Role of Vault's database engine, dynamic or static, as the source of user and password. The daemon renews
        /// them, replaces them before their end and revokes them at the stop.
        vault_role: Option<MountPath> {}

        /// Where Vault's database engine is mounted.
        vault_mount: MountPath { default: fixed("database") }

        /// Encryption of the connection to PostgreSQL, in libpq's words. `disable` and `prefer` may send everything in
        /// the clear; production refuses them except on loopback. `require` encrypts without authentication of the
        /// server, unless `DOTMAC_DATABASE_CA_CERT` is set: then it is `verify-ca`, which requires a certificate of
        /// those authorities for any host.
        sslmode: SslMode {
            default: computed(
                "`sslmode` of the URL; else `prefer` on loopback, `verify-full` to other hosts",
                sslmode,
            ),
        }

        /// PEM file with the authorities that may have signed the server's certificate. Unset means
        /// those of the system.
        ca_cert: Option<PathBuf> {}

        /// PEM file with the client certificate, for a server that requires one.
        client_cert: Option<PathBuf> {}

        /// PEM file with the private key of `DOTMAC_DATABASE_CLIENT_CERT`.
        client_key: Option<PathBuf> {}

        /// Connections kept open at most. With SQLite one of them writes and the others read.
        pool_size: usize { default: fixed("10"), range: between::<usize>("1", "1000"), live: true }

        /// Connections kept open even if they are idle.
        pool_min_idle: usize { default: fixed("1"), range: between::<usize>("0", "1000") }

        /// Longest wait for a free connection. Then the request is answered with 503.
        pool_timeout: Duration { default: fixed("5s"), range: lasting("1ms", "5m") }

        /// Longest time that opening a connection may take.
        connect_timeout: Duration { default: fixed("5s"), range: lasting("1ms", "5m") }

        /// Longest time that one statement may run; on PostgreSQL at most 9/10 of `DOTMAC_DATABASE_TRANSACTION_TIMEOUT`.
        statement_timeout: Duration { default: fixed("30s"), range: lasting("1ms", "24h") }

        /// Longest time that a transaction may be open: an old one keeps dead rows from being removed, and events from
        /// their readers.
        transaction_timeout: Duration { default: fixed("10s"), range: lasting("1ms", "24h") }

        /// Longest time that a statement may wait for a lock of PostgreSQL, that of a migration included.
        lock_timeout: Duration { default: fixed("10s"), range: lasting("1ms", "24h") }

        /// Longest time that a transaction of PostgreSQL may be idle.
        idle_in_transaction_timeout: Duration {
            default: fixed("60s"),
            range: lasting("1ms", "24h"),
        }

        /// A connection of this age is replaced by a new one, or up to 15 % earlier, so that not all are replaced at
        /// once.
        max_lifetime: Duration { default: fixed("30m"), range: lasting("1s", "7d") }

        /// A statement that takes longer is logged as slow.
        slow_query: Duration { default: fixed("500ms"), range: lasting("1ms", "1h") }

        /// The schema at start: `auto` runs pending migrations, `check` runs none and does not start while
        /// one is missing (exit 69), `off` does not check. The first two refuse a schema that is newer than the program
        /// and not marked as compatible.
        migrate: MigrateMode { default: fixed("auto") }

        /// Whether SQLite may be used in production.
        allow_sqlite: bool { default: fixed("false") }
    }
}

/// The database that the settings name, URL and parts brought together.
#[derive(Debug, Clone)]
pub enum DatabaseTarget {
    /// A SQLite file.
    Sqlite {
        /// Relative to the working directory unless absolute.
        path: PathBuf,
    },
    /// A PostgreSQL server.
    Postgres(PostgresTarget),
}

/// How to reach a PostgreSQL server.
#[derive(Debug, Clone)]
pub struct PostgresTarget {
    /// Name or address of the server, or the directory of its socket.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub name: String,
    /// Who connects; not given if Vault is to tell.
    pub username: SecretSetting,
    /// Their password; not given if there is none or Vault is to tell.
    pub password: SecretSetting,
    /// How the connection is encrypted.
    pub sslmode: SslMode,
}

impl PostgresTarget {
    /// Whether the server is on this machine: on loopback or behind a socket.
    pub fn is_local(&self) -> bool {
        is_loopback(&self.host)
    }
}

impl DatabaseSettings {
    /// The one database that is meant. Keys of their own win over parts of the URL.
    pub fn target(&self) -> DatabaseTarget {
        let (username, password) = (self.username.clone(), self.password.clone());
        let sslmode = self.sslmode;
        if let Some(host) = &self.host {
            return DatabaseTarget::Postgres(PostgresTarget {
                host: host.to_string(),
                port: self.port,
                name: self.name.clone().unwrap_or_default(),
                username,
                password,
                sslmode,
            });
        }
        match &self.url {
            DatabaseUrl::Sqlite { path } => DatabaseTarget::Sqlite { path: path.clone() },
            DatabaseUrl::Postgres(url) => DatabaseTarget::Postgres(PostgresTarget {
                host: url.host.to_string(),
                port: url.port.unwrap_or(5432),
                name: url.name.clone(),
                username: username.or_literal(url.username.clone().map(SecretString::from)),
                password: password.or_literal(url.password.clone()),
                sslmode,
            }),
        }
    }

    /// Whether the database needs a user name and a password, and which of both is not set.
    pub(crate) fn lacks(&self) -> (bool, bool) {
        match self.target() {
            _ if self.vault_role.is_some() => (false, false),
            DatabaseTarget::Sqlite { .. } => (false, false),
            DatabaseTarget::Postgres(target) => {
                (!target.username.is_given(), !target.password.is_given())
            }
        }
    }
}

fn sslmode(facts: &Facts<'_>) -> String {
    let default_for = |host: &str| {
        if is_loopback(host) {
            SslMode::Prefer
        } else {
            SslMode::VerifyFull
        }
    };
    let mode = match facts.given("DOTMAC_DATABASE_HOST") {
        Some(host) => default_for(host),
        None => match facts.given("DOTMAC_DATABASE_URL").map(DatabaseUrl::parse) {
            Some(Ok(DatabaseUrl::Postgres(PostgresUrl {
                sslmode: Some(mode),
                ..
            }))) => mode,
            Some(Ok(DatabaseUrl::Postgres(url))) => default_for(&url.host),
            // A file needs no encryption on the way; the value is not used.
            _ => SslMode::Prefer,
        },
    };
    mode.to_string()
}
