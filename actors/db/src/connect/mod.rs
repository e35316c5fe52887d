//! Opens single connections: to a SQLite file, to a PostgreSQL server.

pub(crate) mod descriptors;
mod tls;
pub(crate) mod wire;

use std::{
    error::Error, fs::OpenOptions, future::poll_fn, io, os::unix::fs::OpenOptionsExt as _,
    path::Path, sync::Arc, time::Duration,
};

use diesel::{Connection as _, ConnectionError, SqliteConnection, connection::SimpleConnection};
use diesel_async::AsyncPgConnection;
use secrecy::ExposeSecret;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream, lookup_host},
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};
use tokio_postgres::{
    AsyncMessage, Client, NoTls, config::SslMode as WireSslMode, tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{
    AUTHENTICATION_FAILED, Account, Config, OpenError, Postgres, SslMode, Target,
    account::AccountGuard,
    monitor::{ConnectionState, Heard},
};
use wire::{Encrypted, ReadAlong};

/// Waiting for another process's write lock; longer than any single write should take.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a connection that was refused waits for an account that is not.
const SUCCESSOR_LIMIT: Duration = Duration::from_secs(2);

/// What a file is made with: only its owner may read it. SQLite would let all, and gives `-wal` and `-shm` the mode of the file.
const SQLITE_MODE: u32 = 0o600;

/// A dead peer is noticed after this long without an acknowledgement.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection on which nothing has passed for this long is asked for a sign of life.
const KEEPALIVE: Duration = Duration::from_secs(30);

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
    make_private(file);
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

/// Makes an empty file, which is an empty database, if nothing is there; SQLite says what stands in the way of that. A file
/// that is there is not opened: to close it again would drop the locks of its connections.
fn make_private(file: &str) {
    // SQLite takes that for a URI.
    if file.starts_with("file:") {
        return;
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(SQLITE_MODE);
    options.open(file).ok();
}

/// SQLite's error about a file, with the remedy.
pub(super) fn refused(path: &Path, problem: &str) -> OpenError {
    let problem = problem.to_lowercase();
    if problem.contains("unable to open")
        && let Some(source) = descriptors::shortage()
    {
        let target = path.display().to_string();
        return OpenError::NoDescriptors { target, source };
    }
    let transient = problem.contains("locked") || problem.contains("full");
    let remedy = if problem.contains("not a database") || problem.contains("malformed") {
        "the file is not a database or is damaged: restore a backup, or move it away to begin with an empty database"
    } else if problem.contains("readonly") || problem.contains("read-only") {
        "let the user that runs this process write to the file and its directory"
    } else if problem.contains("unable to open") {
        "check that its directory exists and that the user that runs this process may write to it"
    } else if problem.contains("full") {
        "free space on its disk"
    } else if problem.contains("locked") {
        "another process holds it: stop that process, or give this one another file"
    } else {
        "check that its disk works and has space"
    };
    OpenError::File {
        path: path.to_owned(),
        problem,
        remedy,
        transient,
    }
}

/// A connection to a server, what moves its bytes - a task of the runtime that opened it - and the account
/// that it was opened with.
pub(super) struct Opened {
    pub(super) connection: AsyncPgConnection,
    pub(super) driver: AbortHandle,
    pub(super) guard: AccountGuard,
}

/// Opens one connection to a server, as the account in use. Without one, a server that is away is reported as
/// that. If the server refuses that one and another
/// comes at once (its password was changed in both places just now), it is tried too.
///
/// # Errors
///
/// [`OpenError`], which distinguishes a refusal, no answer and a failed check of the certificate.
pub(super) async fn postgres(
    server: &Postgres,
    config: &Config,
    connection_state: &Arc<ConnectionState>,
) -> Result<Opened, OpenError> {
    let wait_for_successor = (config.connect_timeout / 2).min(SUCCESSOR_LIMIT);
    postgres_within(wait_for_successor, server, config, connection_state).await
}

/// The same, with that much time for another account to come.
pub(super) async fn postgres_within(
    wait_for_successor: Duration,
    server: &Postgres,
    config: &Config,
    connection_state: &Arc<ConnectionState>,
) -> Result<Opened, OpenError> {
    let account = match server.credentials.account() {
        Ok(account) => account,
        Err(reason) => {
            // Report a server that is away first, regardless of the user.
            reach(server, config).await?;
            return Err(OpenError::NoAccount(reason));
        }
    };
    match postgres_as(&account, server, config, connection_state).await {
        Err(refused) if refused.reason() == AUTHENTICATION_FAILED => {
            let successor = server
                .credentials
                .instead_of(&account, wait_for_successor)
                .await;
            match successor {
                Some(successor) => postgres_as(&successor, server, config, connection_state).await,
                None => Err(refused),
            }
        }
        answer => answer,
    }
}

/// Asks a server whether it speaks TLS, which needs no user, and hangs up: whether it is there at all.
///
/// # Errors
///
/// [`OpenError::Unreached`] and [`OpenError::Timeout`].
async fn reach(server: &Postgres, config: &Config) -> Result<(), OpenError> {
    let asking = async {
        if server.host.starts_with('/') {
            ask_for_tls(UnixStream::connect(socket(server)).await?).await
        } else {
            ask_for_tls(TcpStream::connect((server.host.as_str(), server.port)).await?).await
        }
    };
    let limit = config.connect_timeout;
    let target = || Target::Postgres(server.clone()).to_string();
    let asked = tokio::time::timeout(limit, asking).await;
    asked
        .map_err(|_| OpenError::Timeout {
            what: "connecting",
            target: target(),
            limit,
        })?
        .map_err(|source| OpenError::Unreached {
            target: target(),
            source,
        })
}

/// Source: "Message Formats", documentation of PostgreSQL, `SSLRequest`. A client may hang up after the answer;
/// the server makes no line of it.
async fn ask_for_tls(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> io::Result<()> {
    const REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
    stream.write_all(&REQUEST).await?;
    stream.read_u8().await.map(drop)
}

/// Where a server on this machine has its socket.
fn socket(server: &Postgres) -> String {
    format!("{}/.s.PGSQL.{}", server.host, server.port)
}

/// Opens one connection to a server as `account`. Its driver runs on the runtime that this is called on, and
/// notifies `connection_state` when the connection has ended.
///
/// # Errors
///
/// As [`postgres`].
pub(super) async fn postgres_as(
    account: &Arc<Account>,
    server: &Postgres,
    config: &Config,
    connection_state: &Arc<ConnectionState>,
) -> Result<Opened, OpenError> {
    let limit = config.connect_timeout;
    let opening = async {
        let (client, driver) = wired(account, server, config, connection_state).await?;
        let opened = AsyncPgConnection::try_from(client).await;
        let connection = opened.map_err(|error| match error {
            ConnectionError::CouldntSetupConfiguration(source) => OpenError::Query {
                what: "setting the session up",
                source,
            },
            other => OpenError::Setup(other.to_string()),
        })?;
        let guard = server.credentials.guard(Arc::clone(account));
        Ok(Opened {
            connection,
            driver,
            guard,
        })
    };
    let timeout = |_| OpenError::Timeout {
        what: "connecting",
        target: Target::Postgres(server.clone()).to_string(),
        limit,
    };
    tokio::time::timeout(limit, opening)
        .await
        .map_err(timeout)?
}

/// The wire alone, as `sslmode` wants it. A socket of this machine is never encrypted.
async fn wired(
    account: &Account,
    server: &Postgres,
    config: &Config,
    connection_state: &Arc<ConnectionState>,
) -> Result<(Client, AbortHandle), OpenError> {
    let mut wire = wire_config(account, server, config);
    let refused = |source| refusal(server, source);
    if server.host.starts_with('/') {
        let path = socket(server);
        let socket =
            UnixStream::connect(&path).await.map_err(|source| {
                match descriptors::are_short(&source) {
                    true => OpenError::NoDescriptors {
                        target: path,
                        source,
                    },
                    false => OpenError::Socket { path, source },
                }
            })?;
        return plain(&mut wire, socket, connection_state)
            .await
            .map_err(refused);
    }
    if server.ssl_mode != SslMode::Disable {
        let tls = tls::client_config(server).await;
        let tls = tls.map_err(|problem| mistrust(server, problem))?;
        let mut tls = MakeRustlsConnect::new(tls);
        let stream = Heard::new(tcp(server, config).await?, connection_state.pulse().clone());
        let tls = MakeTlsConnect::<Heard<TcpStream>>::make_tls_connect(&mut tls, &server.host)
            .map_err(|problem| mistrust(server, problem.to_string()))?;
        wire.ssl_mode(WireSslMode::Require);
        let encrypted = wire.connect_raw(stream, Encrypted(tls, Arc::clone(connection_state)));
        match encrypted.await {
            Ok((client, driver)) => return Ok((client, drive(driver, connection_state))),
            // Only for errors of TLS: a password that was refused must not be sent in the clear.
            Err(error) if server.ssl_mode == SslMode::Prefer && is_about_tls(&error) => {}
            Err(error) => return Err(refused(error)),
        }
    }
    let stream = tcp(server, config).await?;
    plain(&mut wire, stream, connection_state)
        .await
        .map_err(refused)
}

/// The wire without encryption.
async fn plain<S>(
    wire: &mut tokio_postgres::Config,
    stream: S,
    connection_state: &Arc<ConnectionState>,
) -> Result<(Client, AbortHandle), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    wire.ssl_mode(WireSslMode::Disable);
    let heard = Heard::new(stream, connection_state.pulse().clone());
    let stream = ReadAlong::plain(heard, Arc::clone(connection_state));
    let (client, driver) = wire.connect_raw(stream, NoTls).await?;
    Ok((client, drive(driver, connection_state)))
}

/// A stream to a server, at the first of its addresses that takes one. Each has an equal share of the time.
async fn tcp(server: &Postgres, config: &Config) -> Result<TcpStream, OpenError> {
    let connecting = async {
        let addresses = lookup_host((server.host.as_str(), server.port)).await?;
        let addresses: Vec<_> = addresses.collect();
        let share = config.connect_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(1);
        let mut refused = io::Error::new(io::ErrorKind::NotFound, "the host has no address");
        for address in addresses {
            match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    stream.set_nodelay(true)?;
                    let socket = SockRef::from(&stream);
                    socket.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT))?;
                    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
                    return Ok(stream);
                }
                Ok(Err(error)) => refused = error,
                Err(_) => refused = io::ErrorKind::TimedOut.into(),
            }
        }
        Err(refused)
    };
    connecting.await.map_err(|source| {
        let target = Target::Postgres(server.clone()).to_string();
        match descriptors::are_short(&source) {
            true => OpenError::NoDescriptors { target, source },
            false => OpenError::Unreached { target, source },
        }
    })
}

/// Moves the bytes of a connection until it ends. One that ends because we closed it has lost nothing.
fn drive<S, T>(
    connection: tokio_postgres::Connection<S, T>,
    connection_state: &Arc<ConnectionState>,
) -> AbortHandle
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection_state = Arc::clone(connection_state);
    tokio::spawn(async move {
        let ended = match connection_state.notified() {
            Some(notified) => hand_on(connection, notified).await,
            None => connection.await,
        };
        if ended.is_err() {
            connection_state.cut();
        }
    })
    .abort_handle()
}

/// The same for a connection that listens. What is notified while nothing takes it is dropped.
async fn hand_on<S, T>(
    mut connection: tokio_postgres::Connection<S, T>,
    notified: &mpsc::Sender<String>,
) -> Result<(), tokio_postgres::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
        if let AsyncMessage::Notification(notification) = message? {
            notified.try_send(notification.payload().to_owned()).ok();
        }
    }
    Ok(())
}

/// Whether the handshake failed, or the server will have no TLS, rather than the server refusing us.
fn is_about_tls(error: &tokio_postgres::Error) -> bool {
    error.code().is_none() && error.to_string().contains("TLS")
}

fn mistrust(server: &Postgres, problem: String) -> OpenError {
    OpenError::Tls {
        target: Target::Postgres(server.clone()).to_string(),
        problem,
    }
}

fn refusal(server: &Postgres, source: tokio_postgres::Error) -> OpenError {
    let target = Target::Postgres(server.clone()).to_string();
    let cause = source
        .source()
        .and_then(|it| it.downcast_ref::<io::Error>());
    if let Some(shortage) = cause.filter(|it| descriptors::are_short(it)) {
        let source = io::Error::new(shortage.kind(), shortage.to_string());
        return OpenError::NoDescriptors { target, source };
    }
    // A refused certificate is an I/O error to the client; its text names what does not match.
    match source.source().map(ToString::to_string) {
        Some(problem)
            if source.code().is_none()
                && (is_about_tls(&source)
                    || problem.contains("certificate")
                    || problem.contains("fatal alert")) =>
        {
            mistrust(server, problem)
        }
        _ => OpenError::Server { target, source },
    }
}

fn wire_config(account: &Account, server: &Postgres, config: &Config) -> tokio_postgres::Config {
    let mut wire = tokio_postgres::Config::new();
    wire.dbname(&server.database)
        .application_name(&config.application_name)
        .options(format!(
            "-c standard_conforming_strings=on -c statement_timeout={} -c lock_timeout={} \
             -c idle_in_transaction_session_timeout={}",
            config.server_limit().as_millis(),
            config.lock_timeout.as_millis(),
            config
                .idle_in_transaction_timeout
                .min(config.transaction_timeout)
                .as_millis()
        ));
    if let Some(username) = &account.username {
        wire.user(username);
    }
    if let Some(password) = &account.password {
        wire.password(password.expose_secret());
    }
    wire
}
