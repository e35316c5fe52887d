//! TLS handshakes that are begun and not gone on with.

use std::net::{IpAddr, Ipv4Addr};

use tokio::{
    io::AsyncReadExt,
    net::{TcpSocket, TcpStream},
};

use super::{scale, until_cut};
use crate::support::{Daemon, daemon::Builder, eventually, tls::certificates};

/// A daemon with a certificate, and a client that asks for none in particular.
async fn spawn(builder: Builder) -> Daemon {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let mut daemon = builder
        .env("DOTMAC_TLS_CERT", "server.crt")
        .env("DOTMAC_TLS_KEY", "server.key")
        .spawn_in(directory)
        .await;
    daemon.client = client(Ipv4Addr::LOCALHOST);
    daemon
}

/// A client at one of the addresses of this machine, which makes a connection for each request.
fn client(address: Ipv4Addr) -> reqwest::Client {
    reqwest::Client::builder()
        .danger_accept_invalid_certs(true)
        .local_address(IpAddr::V4(address))
        .pool_max_idle_per_host(0)
        .timeout(crate::support::PATIENCE)
        .no_proxy()
        .build()
        .unwrap()
}

/// Connections from `address` on which nothing is said.
async fn silent(daemon: &Daemon, address: Ipv4Addr, count: usize) -> Vec<TcpStream> {
    let server = daemon.base.strip_prefix("https://").unwrap();
    let server = server.parse().unwrap();
    let mut streams = Vec::new();
    for _ in 0..count {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((address, 0).into()).unwrap();
        streams.push(socket.connect(server).await.unwrap());
    }
    streams
}

#[tokio::test]
async fn a_silent_handshake_ends_after_its_limit() {
    let builder = Daemon::builder().env("DOTMAC_HTTP_HEADER_TIMEOUT", "10m");
    let daemon = spawn(builder).await;
    let mut streams = silent(&daemon, Ipv4Addr::LOCALHOST, 1).await;
    // The limit is 2 s, as nothing else is said.
    assert_eq!(streams[0].read(&mut [0]).await.unwrap(), 0);
    until_cut(&daemon, "handshake_timeout", 1).await;
}

/// There were 256 at once for each worker, and no other client got in.
#[tokio::test]
async fn silent_handshakes_keep_no_client_out() {
    let builder = Daemon::builder()
        .env("DOTMAC_WORKERS", 1)
        .env("DOTMAC_HTTP_TLS_HANDSHAKE_TIMEOUT", "1m")
        .env("DOTMAC_HTTP_HEADER_TIMEOUT", "10m");
    let daemon = spawn(builder).await;
    let streams = silent(&daemon, Ipv4Addr::LOCALHOST, 300 * scale().min(3)).await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    drop(streams);
}

#[tokio::test]
async fn an_address_gets_so_many_handshakes_and_others_get_theirs() {
    let builder = Daemon::builder()
        .env("DOTMAC_HTTP_TLS_HANDSHAKE_TIMEOUT", "1m")
        .env("DOTMAC_HTTP_TLS_HANDSHAKES_PER_ADDRESS", 10);
    let mut daemon = spawn(builder).await;
    let attacker = Ipv4Addr::new(127, 0, 0, 2);
    let streams = silent(&daemon, attacker, 30).await;
    until_cut(&daemon, "too_many_handshakes", 20).await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    let health = format!("{}/health", daemon.base);
    let kept_out = client(attacker).get(&health).send().await;
    assert!(kept_out.is_err(), "{kept_out:?}");
    drop(streams);
    daemon.client = client(attacker);
    eventually("the address to be let in again", || async {
        let answer = daemon.client.get(&health).send().await.ok()?;
        (answer.status() == 200).then_some(())
    })
    .await;
}
