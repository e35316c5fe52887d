//! Answers that are too long, too slow, or none.

use std::{io::Write, net::TcpStream, thread};

use dotmac_testkit::fakes::{FakeHttpServer, FakeSilentServer, write_answer};

use super::*;

fn url(server: &FakeHttpServer) -> String {
    format!("http://here.example:{}/", server.port)
}

/// Writes without end, or until the client has gone.
fn write_for_ever(stream: &mut TcpStream, piece: &[u8], pause: Duration) -> io::Result<()> {
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
    loop {
        write!(stream, "{:x}\r\n", piece.len())?;
        stream.write_all(piece)?;
        stream.write_all(b"\r\n")?;
        thread::park_timeout(pause);
    }
}

#[tokio::test]
async fn an_answer_is_read_up_to_the_limit_and_not_a_byte_further() {
    let server = FakeHttpServer::start(|request, stream| {
        let length = request.path().trim_start_matches('/').parse().unwrap();
        write_answer(stream, "200 OK", &"a".repeat(length))
    });
    let egress = egress(development(), &everything_here());
    let limit = 64 << 10;
    let call = |length: usize| egress.get(format!("{}{length}", url(&server)));
    assert_eq!(call(limit).send().await.unwrap().body.len(), limit);
    let error = call(limit + 1).send().await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_retryable()),
        ("answer_too_large", false)
    );
    let longer = call(limit + 1).answer_limit(limit + 1).send().await;
    assert_eq!(longer.unwrap().body.len(), limit + 1);
}

#[tokio::test]
async fn a_caller_to_whom_the_status_says_all_gets_as_much_as_there_is_room_for() {
    let server =
        FakeHttpServer::start(|_, stream| write_for_ever(stream, &[b'a'; 8192], Duration::ZERO));
    let short = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "short"));
    let egress = egress(development(), &everything_here());
    let answer = egress.get(url(&server)).cut_answer().send().await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.body.len()), (200, 64 << 10));
    assert!(answer.is_cut);
    let answer = egress.get(url(&short)).cut_answer().send().await.unwrap();
    assert_eq!((&*answer.body, answer.is_cut), (&b"short"[..], false));
    assert_eq!(answer.address, Some(LOOPBACK));
}

#[tokio::test]
async fn an_endless_answer_is_cut() {
    let server =
        FakeHttpServer::start(|_, stream| write_for_ever(stream, &[b'a'; 8192], Duration::ZERO));
    let egress = egress(development(), &everything_here());
    let error = egress.get(url(&server)).send().await.unwrap_err();
    assert_eq!(error.code(), "answer_too_large");
}

#[tokio::test]
async fn a_length_that_is_a_lie_is_not_believed() {
    let server = FakeHttpServer::start(|request, stream| {
        let length = request.path().trim_start_matches('/');
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\nshort"
        )?;
        Err(io::Error::other("the connection ends here"))
    });
    let egress = egress(development(), &everything_here());
    for (length, code) in [
        ("1073741824", "answer_too_large"),
        ("18446744073709551615", "connection_failed"),
        ("100", "connection_failed"),
    ] {
        let error = egress.get(format!("{}{length}", url(&server))).send().await;
        assert_eq!(error.unwrap_err().code(), code, "{length}");
    }
}

#[tokio::test]
async fn a_slow_answer_ends_with_the_time() {
    let silent = FakeSilentServer::start();
    let dripping =
        FakeHttpServer::start(|_, stream| write_for_ever(stream, b"a", Duration::from_millis(20)));
    let egress = egress(development(), &everything_here());
    for port in [silent.port, dripping.port] {
        let call = egress.get(format!("http://here.example:{port}/"));
        let error = call
            .timeout(Duration::from_millis(200))
            .send()
            .await
            .unwrap_err();
        assert_eq!((error.code(), error.is_retryable()), ("timeout", true));
    }
}

#[tokio::test]
async fn a_module_can_shorten_the_time_and_not_lengthen_it() {
    let silent = FakeSilentServer::start();
    let config = Config {
        timeout: Duration::from_millis(50),
        ..development()
    };
    let egress = egress(config, &everything_here());
    let call = egress.get(format!("http://here.example:{}/", silent.port));
    let call = call.timeout(PATIENCE * 10);
    let error = tokio::time::timeout(PATIENCE, call.send()).await.unwrap();
    assert_eq!(error.unwrap_err().code(), "timeout");
}

#[tokio::test]
async fn a_closed_port_is_worth_another_attempt() {
    let listener = std::net::TcpListener::bind((LOOPBACK, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let egress = egress(development(), &everything_here());
    let call = egress.get(format!("http://here.example:{port}/"));
    let error = call.send().await.unwrap_err();
    assert_eq!(
        (error.code(), error.is_retryable()),
        ("connection_failed", true)
    );
}

#[tokio::test]
async fn a_packed_answer_is_not_unpacked() {
    let server = FakeHttpServer::start(|request, stream| {
        assert!(
            !request.head.contains("accept-encoding"),
            "{}",
            request.head
        );
        write_answer(stream, "200 OK\r\ncontent-encoding: gzip", "not even gzip")
    });
    let egress = egress(development(), &everything_here());
    let answer = egress.get(url(&server)).send().await.unwrap();
    assert_eq!(answer.body, "not even gzip");
}

#[tokio::test]
async fn a_refusal_is_an_answer_and_shows_nothing_in_debug() {
    let server = FakeHttpServer::start(|request, stream| {
        assert!(request.head.contains("content-type: application/json"));
        write_answer(stream, "410 Gone\r\nset-cookie: sekret", &request.body)
    });
    let egress = egress(development(), &everything_here());
    let call = egress.post(url(&server));
    let answer = call
        .json(&serde_json::json!({"key": "sekret"}))
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status, 410);
    assert_eq!(answer.json::<serde_json::Value>().unwrap()["key"], "sekret");
    assert!(!format!("{answer:?}").contains("sekret"));
}
