//! Opens single connections: to a SQLite file, to a PostgreSQL server.

use std::{path::Path, sync::Arc, time::Duration};

use diesel::{Connection as _, ConnectionError, SqliteConnection, connection::SimpleConnection};
use diesel_async::AsyncPgConnection;
use secrecy::ExposeSecret;
use tokio_postgres::{NoTls, config::SslMode as WireSslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    AUTHENTICATION_FAILED, Account, Config, OpenError, Postgres, SslMode, Target, credentials, tls,
};

/// Waiting for another connection's write lock; longer than any single write should take.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A transaction that does nothing for this long is ended by the server.
const IDLE_IN_TRANSACTION_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a connection that was refused waits for an account that is not.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(2);

/// A dead peer is noticed after this long without an acknowledgement.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens the file, makes it if it is not there, and sets it up: write-ahead log, every commit on the
/// disk before it is acknowledged, foreign keys enforced. Blocks.
///
/// # Errors
///
/// [`OpenError::File`] names the file and what to do.
pub(super) fn sqlite(path: &Path) -> Result<SqliteConnection, OpenError> {
    let file = path
        .to_str()
        .ok_or_else(|| refused(path, "its name is not valid UTF-8"))?;
    let mut connection = SqliteConnection::establish(file).map_err(|error| match error {
        ConnectionError::BadConnection(text) => refused(path, &text),
        other => refused(path, &other.to_string()),
    })?;
    connection
        .batch_execute(&format!(
            "PRAGMA busy_timeout = {};
             PRAGMA journal_mode = WAL;
             PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON;",
            SQLITE_BUSY_TIMEOUT.as_millis()
        ))
        .map_err(|error| refused(path, &error.to_string()))?;
    Ok(connection)
}

/// What SQLite said about a file, with what an operator can do about it.
pub(super) fn refused(path: &Path, problem: &str) -> OpenError {
    let problem = problem.to_lowercase();
    let transient = problem.contains("locked");
    let remedy = if problem.contains("not a database") || problem.contains("malformed") {
        "the file is something else or damaged: restore a backup, or move it away to begin with an empty database"
    } else if problem.contains("readonly") || problem.contains("read-only") {
        "let the user that runs this process write to the file and its directory"
    } else if problem.contains("unable to open") {
        "check that its directory exists and that the user that runs this process may write to it"
    } else if problem.contains("full") {
        "free space on its disk"
    } else if problem.contains("locked") {
        "another process holds it: stop that process, or give this one a file of its own"
    } else {
        "check the file and its disk"
    };
    OpenError::File {
        path: path.to_owned(),
        problem,
        remedy,
        transient,
    }
}

/// Opens one connection to a server, as the account in use. If the server refuses that one and another
/// comes at once (its password was changed in both places just now), it is tried too.
///
/// # Errors
///
/// [`OpenError`] tells refusal, silence and mistrust apart.
pub(super) async fn postgres(
    server: &Postgres,
    config: &Config,
) -> Result<AsyncPgConnection, OpenError> {
    let account = server.credentials.account().map_err(OpenError::NoAccount)?;
    match postgres_as(&account, server, config).await {
        Err(refused) if refused.reason() == AUTHENTICATION_FAILED => {
            let patience = (config.connect_timeout / 2).min(SUCCESSOR_LIMIT);
            let successor = server.credentials.instead_of(&account, patience).await;
            match successor {
                Some(successor) => postgres_as(&successor, server, config).await,
                None => Err(refused),
            }
        }
        answer => answer,
    }
}

/// Opens one connection to a server as `account`. Its driver runs on the runtime that this is called on.
///
/// # Errors
///
/// As [`postgres`].
pub(super) async fn postgres_as(
    account: &Arc<Account>,
    server: &Postgres,
    config: &Config,
) -> Result<AsyncPgConnection, OpenError> {
    let target = || Target::Postgres(server.clone()).to_string();
    let limit = config.connect_timeout;
    let wire = wire_config(account, server, config);
    let connect = async {
        let refused = |source| OpenError::Server {
            target: target(),
            source,
        };
        let established = if server.ssl_mode == SslMode::Disable {
            let (client, driver) = wire.connect(NoTls).await.map_err(refused)?;
            AsyncPgConnection::try_from_client_and_connection(client, driver).await
        } else {
            let tls = tls::client_config(server.ssl_mode, server.ca_cert.as_deref()).map_err(
                |problem| OpenError::Tls {
                    target: target(),
                    problem,
                },
            )?;
            let (client, driver) =
                wire.connect(MakeRustlsConnect::new(tls))
                    .await
                    .map_err(|source| {
                        // A refused certificate is an I/O error to the client; its text names what does not match.
                        match std::error::Error::source(&source).map(ToString::to_string) {
                            Some(problem) if problem.contains("certificate") => OpenError::Tls {
                                target: target(),
                                problem,
                            },
                            _ => refused(source),
                        }
                    })?;
            AsyncPgConnection::try_from_client_and_connection(client, driver).await
        };
        established.map_err(|error| match error {
            ConnectionError::CouldntSetupConfiguration(source) => OpenError::Query {
                what: "setting the session up",
                source,
            },
            other => OpenError::Setup(other.to_string()),
        })
    };
    let timeout = |_| OpenError::Timeout {
        what: "connecting",
        target: target(),
        limit,
    };
    let mut connection = tokio::time::timeout(limit, connect)
        .await
        .map_err(timeout)??;
    credentials::enlist(&mut connection, Arc::clone(account));
    Ok(connection)
}

fn wire_config(account: &Account, server: &Postgres, config: &Config) -> tokio_postgres::Config {
    let mut wire = tokio_postgres::Config::new();
    wire.host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .application_name(&config.application_name)
        .connect_timeout(config.connect_timeout)
        .keepalives_idle(Duration::from_secs(30))
        .tcp_user_timeout(TCP_USER_TIMEOUT)
        .options(format!(
            "-c statement_timeout={} -c idle_in_transaction_session_timeout={}",
            config.statement_timeout.as_millis(),
            IDLE_IN_TRANSACTION_TIMEOUT.as_millis()
        ))
        .ssl_mode(match server.ssl_mode {
            SslMode::Disable => WireSslMode::Disable,
            SslMode::Prefer => WireSslMode::Prefer,
            SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => WireSslMode::Require,
        });
    if let Some(username) = &account.username {
        wire.user(username);
    }
    if let Some(password) = &account.password {
        wire.password(password.expose_secret());
    }
    wire
}
