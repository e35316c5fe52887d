//! Connections that cost their clients nothing: idle ones, reset ones, ones that are never read from.

use std::{fs, io::Read, net::SocketAddr, process::Command, time::Duration};

use socket2::SockRef;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use super::{descriptors, resident_mib, scale, until_cut};
use crate::support::{Daemon, daemon::Builder, eventually};

/// A large file of the documentation pages.
const LARGE: &str = "GET /docs/swagger-ui-bundle.js HTTP/1.1\r\nhost: x\r\n\r\n";

fn address(daemon: &Daemon) -> SocketAddr {
    let address = daemon.base.split("://").nth(1).unwrap();
    address.parse().unwrap()
}

async fn connect(daemon: &Daemon) -> TcpStream {
    TcpStream::connect(address(daemon)).await.unwrap()
}

/// A daemon whose pool opens few files after it is ready, so that those of connections can be counted.
fn with_a_small_pool() -> Builder {
    Daemon::builder().env("DOTMAC_DATABASE_POOL_SIZE", "2")
}

/// Waits until the daemon has about as many files open, and as much memory, as before.
async fn until_recovered(daemon: &Daemon, files: usize, mib: u64) {
    let what = format!(
        "{files} files and {mib} MiB, now {}",
        descriptors(daemon.pid())
    );
    eventually(&what, || async {
        let is_so =
            descriptors(daemon.pid()) <= files + 10 && resident_mib(daemon.pid()) <= mib + 40;
        is_so.then_some(())
    })
    .await;
}

/// Clients that connect, send nothing, and come again when they are disconnected.
fn besiege(daemon: &Daemon, clients: usize) -> JoinSet<()> {
    let (address, mut set) = (address(daemon), JoinSet::new());
    for _ in 0..clients {
        set.spawn(async move {
            loop {
                if let Ok(mut stream) = TcpStream::connect(address).await {
                    stream.read_to_end(&mut Vec::new()).await.ok();
                }
            }
        });
    }
    set
}

#[tokio::test]
async fn the_soft_limit_on_open_files_is_raised_to_the_hard_one() {
    let daemon = Daemon::builder().open_files(128, 2048).spawn().await;
    daemon.until("/ready", 200).await;
    assert_eq!(daemon.metric("process_max_fds").await, Some(2048.0));
    let line = daemon.logged("the limit on open files allows for").await;
    assert_eq!(line["level"], "WARN", "{line}");
    let most = daemon.metric("dotmac_http_connections_max").await.unwrap();
    assert!((1024.0..2048.0).contains(&most), "{most}");
}

#[tokio::test]
async fn idle_clients_leave_descriptors_for_the_database_and_connections_for_probes() {
    let daemon = Daemon::builder()
        .open_files(256, 256)
        .env("DOTMAC_WORKERS", 2)
        .env("DOTMAC_DATABASE_MAX_LIFETIME", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let mut besiegers = besiege(&daemon, 400);
    // At this time all allowed connections are taken.
    daemon.logged("HTTP connections are at their limit").await;
    for _ in 0..5 {
        // Each by its own connection, as probes come.
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let ready = client.get(format!("{}/ready", daemon.base)).send().await;
        assert_eq!(ready.unwrap().status(), 200);
        assert!(descriptors(daemon.pid()) < 256 - 20);
    }
    besiegers.shutdown().await;
    let unwell = daemon.log().into_iter().find(|line| {
        let component = line["actor.name"].as_str();
        component == Some("db") && line["level"] == "WARN"
    });
    assert_eq!(unwell, None);
}

/// Sets the soft limit on the open files of a running daemon.
fn limit_open_files(daemon: &Daemon, soft: usize) {
    let limited = Command::new("prlimit")
        .arg(format!("--pid={}", daemon.pid()))
        .arg(format!("--nofile={soft}:"))
        .status();
    assert!(limited.unwrap().success());
}

#[tokio::test]
async fn a_database_that_cannot_be_opened_for_lack_of_descriptors_reports_it() {
    let daemon = Daemon::builder()
        .open_files(2048, 2048)
        .env("DOTMAC_DATABASE_MAX_LIFETIME", "1s")
        .spawn()
        .await;
    // The answers below come on the connection of this one: no other could be accepted.
    daemon.until("/ready", 200).await;
    // Below every number that a closed connection may give back.
    limit_open_files(&daemon, 4);
    eventually("no_descriptors", || async {
        let body = daemon.json("/ready").await.1;
        (body["components"]["db"]["reason"] == "no_descriptors").then_some(())
    })
    .await;
    limit_open_files(&daemon, 2048);
    daemon.until_component("db", "ready", None).await;
}

#[tokio::test]
async fn kept_connections_make_room_for_new_ones() {
    let daemon = Daemon::builder()
        .env("DOTMAC_HTTP_MAX_CONNECTIONS", 16)
        .env("DOTMAC_HTTP_KEEP_ALIVE", "1h")
        .env("DOTMAC_WORKERS", 2)
        .spawn()
        .await;
    let mut kept = Vec::new();
    for _ in 0..16 {
        let mut stream = connect(&daemon).await;
        let ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
        stream.write_all(ask).await.unwrap();
        kept.push(stream);
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
    until_cut(&daemon, "at_limit", 1).await;
    drop(kept);
}

/// Each connection of SQLite has four files open, which those of clients must leave.
#[tokio::test]
async fn a_pool_that_a_reload_enlarges_gets_its_files_from_connections() {
    let directory = tempfile::tempdir().unwrap();
    let dotenv = directory.path().join(".env");
    let pool_of = |size: usize| {
        let line = format!("DOTMAC_DATABASE_POOL_SIZE={size}");
        fs::write(&dotenv, line).unwrap();
    };
    pool_of(10);
    let daemon = Daemon::builder()
        .open_files(512, 512)
        // Calls to the outside have their own files, more than there are here.
        .without(&["notifications", "webhooks"])
        .env("DOTMAC_WORKERS", 2)
        .env("DOTMAC_HTTP_HEADER_TIMEOUT", "10m")
        .spawn_in(directory)
        .await;
    daemon.until("/ready", 200).await;
    let most = async || daemon.metric("dotmac_http_connections_max").await;
    let at_start = (512 - 64 - 2 * 4 - 10 * 4) as f64;
    assert_eq!(most().await, Some(at_start));
    // Not so many that idle ones would have to make room.
    let mut idle = Vec::new();
    for _ in 0..300 {
        idle.push(connect(&daemon).await);
    }
    pool_of(50);
    daemon.signal("HUP");
    let line = daemon.logged("the limit of HTTP connections is now").await;
    let lowered = at_start - 40.0 * 4.0;
    assert_eq!(line["connections"], lowered, "{line}");
    assert_eq!(most().await, Some(lowered));
    eventually("connections to be closed", || async {
        let open = daemon.metric("dotmac_http_connections").await.unwrap();
        (open <= lowered).then_some(())
    })
    .await;
    until_cut(&daemon, "at_limit", 50).await;
    // It is raised again, but not beyond what the server was started with.
    pool_of(1);
    daemon.signal("HUP");
    eventually("more connections", || async {
        (most().await == Some(at_start)).then_some(())
    })
    .await;
    drop(idle);
}

#[tokio::test]
async fn a_flood_of_resets_leaves_nothing_behind() {
    let daemon = with_a_small_pool().spawn().await;
    daemon.until("/ready", 200).await;
    let (files, mib) = (descriptors(daemon.pid()), resident_mib(daemon.pid()));
    for request in ["", "GET / HTTP/1.1\r\nhost: x", LARGE] {
        for _ in 0..1000 * scale() {
            let mut stream = connect(&daemon).await;
            let at_once = Some(Duration::ZERO);
            SockRef::from(&stream).set_linger(at_once).unwrap();
            stream.write_all(request.as_bytes()).await.ok();
        }
    }
    until_recovered(&daemon, files, mib).await;
    let ask = r#"http_server_active_requests{http_request_method="GET",url_scheme="http"}"#;
    assert!([None, Some(0.0)].contains(&daemon.metric(ask).await));
}

#[tokio::test]
async fn a_request_whose_client_hangs_up_does_not_stay_in_flight() {
    let daemon = Daemon::example("chaos")
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "10m")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let active = || async {
        let text = daemon.get("/metrics").await.text().await.unwrap();
        let series = text
            .lines()
            .filter(|line| line.starts_with("http_server_active_requests{"));
        series
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum::<f64>()
    };
    let mut stream = connect(&daemon).await;
    let slow = b"GET /chaos/slow?ms=600000 HTTP/1.1\r\nhost: a\r\n\r\n";
    stream.write_all(slow).await.unwrap();
    eventually("the request to be in flight", || async {
        (active().await > 0.0).then_some(())
    })
    .await;
    // No farewell: the connection is reset, and actix-web drops the handler.
    SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(stream);
    eventually("nothing to be in flight", || async {
        (active().await == 0.0).then_some(())
    })
    .await;
}

/// Clients send all their requests without waiting for an answer; the next one must not have to wait for all of them.
#[tokio::test]
async fn clients_that_do_not_wait_for_answers_delay_no_other() {
    const CLIENTS: usize = 32;
    const REQUESTS: usize = 2000;
    let ask = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n";
    let daemon = Daemon::builder().env("DOTMAC_WORKERS", 1).spawn().await;
    daemon.until("/ready", 200).await;
    let mut other = connect(&daemon).await;
    let mut answer = [0; 65_536];
    other.write_all(ask).await.unwrap();
    let size = other.read(&mut answer).await.unwrap();
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        let mut client = connect(&daemon).await;
        client.write_all(&ask.repeat(REQUESTS)).await.unwrap();
        clients.push(client);
    }
    clients[0].readable().await.unwrap();
    other.write_all(ask).await.unwrap();
    other.read_exact(&mut answer[..size]).await.unwrap();
    let mut before = 0;
    for client in &clients {
        // Answers are in the buffers of the client's socket or of the daemon's.
        while let Ok(read @ 1..) = (&*SockRef::from(client)).read(&mut answer) {
            before += read;
        }
    }
    let before = before / size;
    let all = CLIENTS * REQUESTS;
    assert!(before < all / 4, "{before} of {all} answers came first");
}

/// Connects, asks for more than the sockets hold, and reads nothing.
async fn ask_and_ignore(daemon: &Daemon, clients: usize) -> Vec<TcpStream> {
    let mut streams = Vec::new();
    for _ in 0..clients {
        let mut stream = connect(daemon).await;
        let asks = LARGE.repeat(16);
        stream.write_all(asks.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    streams
}

#[tokio::test]
async fn clients_that_never_read_are_disconnected() {
    let daemon = with_a_small_pool()
        .env("DOTMAC_HTTP_WRITE_TIMEOUT", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let (files, mib) = (descriptors(daemon.pid()), resident_mib(daemon.pid()));
    let clients = 50 * scale();
    let streams = ask_and_ignore(&daemon, clients).await;
    until_cut(&daemon, "write_timeout", clients).await;
    until_recovered(&daemon, files, mib).await;
    drop(streams);
}

#[tokio::test]
async fn clients_that_never_read_do_not_delay_the_stop() {
    let daemon = Daemon::builder()
        .env("DOTMAC_HTTP_WRITE_TIMEOUT", "10m")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let streams = ask_and_ignore(&daemon, 20).await;
    eventually("all of them to be served", || async {
        let open = daemon.metric("dotmac_http_connections").await.unwrap();
        (open >= 20.0).then_some(())
    })
    .await;
    let stopped = daemon.stop().await;
    // Otherwise the line is a warning, and names who was late.
    let line = stopped.line("stopped");
    assert_eq!(
        (stopped.code, &line["level"]),
        (0, &"INFO".into()),
        "{line}"
    );
    drop(streams);
}
