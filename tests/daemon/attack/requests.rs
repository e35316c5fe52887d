//! Requests that no well-behaved client makes.

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, eventually},
};

/// All that is answered until the daemon closes the connection.
async fn answer(daemon: &Daemon, request: &str) -> String {
    let address = daemon.base.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn odd_heads_are_refused_with_what_is_wrong() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    for (head, status) in [
        ("GET /health HTTP/1.1\r\nHost: a b\"<>", "400"),
        ("GET /health HTTP/1.1\r\nHost: a:99999", "400"),
        ("GET /health HTTP/1.1", "400"),
        ("GET /health HTTP/1.1\r\nHost: a\r\nHost: b", "400"),
        ("GET health HTTP/1.1\r\nHost: a", "400"),
        ("get /health HTTP/1.1\r\nHost: a", "405"),
        ("GET /he%00alth HTTP/1.1\r\nHost: a", "422"),
    ] {
        let answer = answer(&daemon, &format!("{head}\r\nConnection: close\r\n\r\n")).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head:?}: {answer}"
        );
    }
    assert_eq!(daemon.get("/health").await.status(), 200);
}

/// A client that waits for `100 Continue` is not asked for a body that nothing will read.
#[tokio::test]
async fn a_body_that_is_refused_is_not_asked_for() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    for (head, status) in [
        ("POST /nowhere HTTP/1.1\r\nContent-Length: 10", "404"),
        ("POST /health HTTP/1.1\r\nContent-Length: 10", "405"),
        (
            "POST /nowhere HTTP/1.1\r\nContent-Length: 10\r\nContent-Encoding: br",
            "415",
        ),
    ] {
        let request =
            format!("{head}\r\nHost: a\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n");
        let answer = answer(&daemon, &request).await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head:?}: {answer}"
        );
    }
}

/// The same where the size that is announced is refused.
#[tokio::test]
async fn a_body_that_is_too_large_is_not_asked_for() {
    let daemon = notes().spawn().await;
    daemon.until("/ready", 200).await;
    let request = format!(
        "POST {NOTES} HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {TOKEN}\r\nContent-Type: application/json\r\n\
         Content-Length: 1000000000\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n"
    );
    let answer = answer(&daemon, &request).await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert!(answer.contains("body_too_large"), "{answer}");
}

#[tokio::test]
async fn the_size_of_an_error_is_measured_as_it_is_sent() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let body = daemon.get("/nowhere").await.bytes().await.unwrap();
    let measured = eventually("the answer to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let sum = text.lines().find_map(|line| {
            let labels = line.strip_prefix("http_server_response_body_size_bytes_sum{")?;
            labels
                .contains("\"404\"")
                .then(|| labels.rsplit(' ').next())?
        })?;
        sum.parse::<usize>().ok()
    })
    .await;
    assert_eq!(measured, body.len());
}
