//! Clients that ask for compressed answers, as many as they can, and do not read them.

use futures_util::future::join_all;
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{peak_mib, scale, threads};
use crate::support::{Daemon, PATIENCE};

/// Each connects, asks so many times at once, and waits until an answer is on its way, of which it
/// reads nothing.
async fn ask_and_do_not_read(
    daemon: &Daemon,
    clients: usize,
    path: &str,
    encoding: &str,
) -> Vec<TcpStream> {
    let address = daemon.base.trim_start_matches("http://");
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept-encoding: {encoding}\r\n\r\n");
    let requests = request.repeat(4 * scale());
    let asks = (0..clients).map(|_| async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(requests.as_bytes()).await.unwrap();
        stream.readable().await.unwrap();
        stream
    });
    timeout(PATIENCE, join_all(asks)).await.unwrap()
}

#[tokio::test]
async fn compressed_answers_under_way_cost_no_more_than_plain_ones() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let before = peak_mib(daemon.pid());
    for encoding in ["identity", "gzip", "zstd", "br"] {
        let clients = ask_and_do_not_read(&daemon, 200, "/metrics", encoding).await;
        let grown = peak_mib(daemon.pid()) - before;
        assert!(grown < 150, "{grown} MiB for 200 answers by {encoding}");
        drop(clients);
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
}

#[tokio::test]
async fn clients_that_do_not_read_hold_no_copy_of_a_large_answer() {
    // Workers of modules query the database meanwhile, which starts threads of its own.
    let modules = [
        "accounts",
        "audit",
        "events",
        "files",
        "jobs",
        "notifications",
        "smtp",
        "webhooks",
    ];
    let daemon = Daemon::builder().without(&modules).spawn().await;
    daemon.until("/ready", 200).await;
    let (before, threads_before) = (peak_mib(daemon.pid()), threads(daemon.pid()));
    for encoding in ["identity", "gzip, deflate, br, zstd"] {
        // 1.5 MB as it is.
        let path = "/docs/swagger-ui-bundle.js";
        let clients = ask_and_do_not_read(&daemon, 400, path, encoding).await;
        let grown = peak_mib(daemon.pid()) - before;
        assert!(grown < 200, "{grown} MiB for 400 answers by {encoding}");
        let more_threads = threads(daemon.pid()).saturating_sub(threads_before);
        assert!(more_threads < 10, "{more_threads} more threads");
        assert_eq!(daemon.get("/health").await.status(), 200);
        drop(clients);
    }
}
