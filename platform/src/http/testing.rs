//! Helpers for the tests of this module: a configuration, a board to change, a server on a free port.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use actix_web::http::{Method, header};
use arc_swap::ArcSwap;
use dotmac_supervision::{Board, Component, NotReady, Readiness, Reason, State};

use futures_util::future::LocalBoxFuture;
use tokio::sync::watch;

use super::{
    Config, Parts, ProcessState, Running, Surface, Workers, bind, config::is_draining, serve,
};
use crate::settings::CorsSettings;

pub(super) type Failure = Box<dyn std::error::Error>;

pub(super) fn config() -> Config {
    Config {
        surface: Surface::All,
        build: crate::Build::default(),
        host: "127.0.0.1".to_owned(),
        port: 0,
        workers: 1,
        tls: None,
        body_limit: 64 * 1024,
        request_timeout: Duration::from_secs(10),
        header_timeout: Duration::from_secs(10),
        write_timeout: Duration::from_secs(10),
        tls_handshake_timeout: Duration::from_secs(10),
        tls_handshakes_per_address: 100,
        keep_alive: Duration::from_secs(5),
        max_connections: 100,
        shutdown_timeout: Duration::from_secs(1),
        trusted_proxies: Vec::new(),
        trusted_hosts: Vec::new(),
        cors: CorsSettings {
            enabled: true,
            origins: vec![crate::settings::parsed("https://app.example.org")],
            methods: vec![Method::GET, Method::POST],
            headers: vec![header::CONTENT_TYPE],
            credentials: false,
            max_age: Duration::from_secs(60),
        },
        docs_enabled: true,
        environment: "test".to_owned(),
        app_name: "dotmac-platform".to_owned(),
        version: "1.2.3".to_owned(),
        hsts: false,
    }
}

/// The same, but with short time-outs: for tests that wait until it ends.
pub(super) fn impatient() -> Config {
    let limit = Duration::from_millis(300);
    Config {
        request_timeout: limit,
        header_timeout: limit,
        ..config()
    }
}

/// A supervisor that says what a test wants it to.
#[derive(Clone)]
pub(super) struct Staged(Arc<Stage>);

struct Stage {
    board: ArcSwap<Board>,
    turned: watch::Sender<()>,
    alive: AtomicBool,
}

impl Staged {
    pub(super) fn new(readiness: Readiness) -> Self {
        Self(Arc::new(Stage {
            board: ArcSwap::from_pointee(board(readiness, 1)),
            turned: watch::Sender::new(()),
            alive: AtomicBool::new(true),
        }))
    }

    pub(super) fn turn(&self, readiness: Readiness) {
        let serial = self.0.board.load().serial + 1;
        self.0.board.store(Arc::new(board(readiness, serial)));
        self.0.turned.send_replace(());
    }

    pub(super) fn hang(&self) {
        self.0.alive.store(false, Ordering::Relaxed);
    }
}

impl ProcessState for Staged {
    fn board(&self) -> Arc<Board> {
        self.0.board.load_full()
    }

    fn is_alive(&self) -> bool {
        self.0.alive.load(Ordering::Relaxed)
    }

    fn draining(&self) -> LocalBoxFuture<'static, ()> {
        let stage = Arc::clone(&self.0);
        Box::pin(async move {
            let mut turned = stage.turned.subscribe();
            while !is_draining(&stage.board.load()) && turned.changed().await.is_ok() {}
        })
    }
}

fn board(readiness: Readiness, serial: u64) -> Board {
    let (state, reason) = match readiness {
        Readiness::NotReady(NotReady::ComponentDown) => {
            (State::Unavailable, Some(Reason::new("unreachable")))
        }
        _ => (State::Ready, None),
    };
    let db = Component {
        name: "db",
        state,
        required: true,
        since: SystemTime::UNIX_EPOCH,
        restarts: 2,
        generation: 3,
        reason,
        source: Some("sqlite"),
    };
    let started = readiness != Readiness::NotReady(NotReady::Starting);
    Board {
        readiness,
        started,
        components: vec![db],
        serial,
        leaked_threads: 0,
    }
}

pub(super) fn parts(vitals: &Staged) -> Parts {
    Parts::new(
        vitals.clone(),
        Arc::new(|_| Ok("dotmac_ready 1\n".to_owned())),
        Workers::new(Duration::from_secs(5)),
    )
}

/// A server on a free port of this machine; stops when dropped.
pub(super) struct Live {
    pub(super) address: SocketAddr,
    pub(super) handle: actix_web::dev::ServerHandle,
}

impl Live {
    pub(super) fn start(config: Config, parts: Parts) -> Result<Self, Failure> {
        let listeners = bind(&config)?;
        let address = listeners.addresses()[0];
        let Running { server, handle, .. } = serve(listeners, config, parts)?;
        actix_rt::spawn(server);
        Ok(Self { address, handle })
    }

    /// Sends raw bytes on a new connection and reads until it is closed or nothing comes for a while.
    pub(super) async fn send(&self, bytes: impl Into<Vec<u8>>) -> Result<String, Failure> {
        let (address, bytes) = (self.address, bytes.into());
        let talk = move || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(address)?;
            stream.set_read_timeout(Some(Duration::from_millis(2500)))?;
            stream.set_write_timeout(Some(Duration::from_millis(1500)))?;
            // The server may hang up in the middle of it: what it said before is what counts.
            let sent = stream.write_all(&bytes);
            let mut answer = Vec::new();
            let mut buffer = [0; 4096];
            while let Ok(read) = stream.read(&mut buffer) {
                if read == 0 {
                    answer.extend_from_slice(b"\n<closed>");
                    break;
                }
                answer.extend_from_slice(&buffer[..read]);
            }
            if answer.is_empty() {
                sent?;
            }
            Ok(String::from_utf8_lossy(&answer).into_owned())
        };
        Ok(tokio::task::spawn_blocking(talk).await??)
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        drop(self.handle.stop(false));
    }
}
