//! Real sockets: what well-behaved clients rely on, and what the others may do without harm.

use std::time::Duration;

use dotmac_supervision::NotReady;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{super::testing::Live, *};

fn live() -> Result<Live, Failure> {
    Live::start(config(), mounted(&Staged::new(Readiness::Ready)))
}

fn live_and_impatient() -> Result<Live, Failure> {
    Live::start(impatient(), mounted(&Staged::new(Readiness::Ready)))
}

const HOST: &str = "Host: localhost\r\n";

#[actix_web::test]
async fn head_is_get_without_the_body() -> Outcome {
    let server = live()?;
    for path in [
        "/health",
        "/ready",
        "/",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/redoc/redoc.js",
        "/try/number/7",
    ] {
        let answer = server
            .send(format!(
                "HEAD {path} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
            ))
            .await?;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{path}: {answer}");
        assert!(
            answer.ends_with("\r\n\r\n\n<closed>"),
            "{path} has a body: {answer}"
        );
    }
    let answer = server
        .send(format!(
            "HEAD /try/person HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        ))
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 405") && answer.contains("allow: POST, OPTIONS"),
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn a_panic_keeps_the_connection() -> Outcome {
    let server = live()?;
    let request = |path: &str, end: &str| format!("GET {path} HTTP/1.1\r\n{HOST}{end}\r\n");
    let both = request("/try/fails/panic", "") + &request("/try/number/7", "Connection: close\r\n");
    let answer = server.send(both).await?;
    assert!(answer.starts_with("HTTP/1.1 500"), "{answer}");
    assert!(
        answer.contains("HTTP/1.1 200 OK") && answer.contains("\r\n\r\n7"),
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn garbage_is_refused_and_the_server_goes_on() -> Outcome {
    let server = live()?;
    for garbage in [
        &b"\x00\x01\x02\xff\xfe\r\n\r\n"[..],
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /try/raw HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"POST /try/raw HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
        b"GET health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a b\"<>\r\nConnection: close\r\n\r\n",
        b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n",
    ] {
        let answer = server.send(garbage).await?;
        assert!(
            answer.starts_with("HTTP/1.1 4") || answer.trim() == "<closed>",
            "{garbage:?}: {answer}"
        );
    }
    let answer = server
        .send(format!(
            "GET /health HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        ))
        .await?;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// actix refuses it; a proxy that goes by the other length would take the rest for a request of its own.
#[actix_web::test]
async fn a_body_with_two_lengths_is_400_and_hides_no_request() -> Outcome {
    for (length, body) in [
        (5, "5\r\nhello\r\n0\r\n\r\n"),
        (0, "0\r\n\r\n"),
        (49, "0\r\n\r\n"),
    ] {
        let answer = live()?
            .send(format!(
                "POST /try/raw HTTP/1.1\r\n{HOST}Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n\r\n{body}\
                 GET /try/number/7 HTTP/1.1\r\n{HOST}\r\n"
            ))
            .await?;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.ends_with("<closed>"),
            "{answer}"
        );
        assert!(!answer.contains("\r\n\r\n7"), "{answer}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_target_that_is_no_path_is_400() -> Outcome {
    for target in ["health", "*", "localhost:80"] {
        let answer = live()?
            .send(format!(
                "GET {target} HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
            ))
            .await?;
        assert!(
            answer.starts_with("HTTP/1.1 400") && answer.contains("malformed_target"),
            "{target}: {answer}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn options_of_the_whole_server_names_all_methods() -> Outcome {
    let answer = live()?
        .send(format!(
            "OPTIONS * HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        ))
        .await?
        .to_ascii_lowercase();
    assert!(
        answer.starts_with("http/1.1 204")
            && answer.contains("\r\nallow: get, head, post, options\r\n"),
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn invalid_utf8_in_an_encoded_path_is_no_panic() -> Outcome {
    let answer = live()?
        .send(format!(
            "GET /try/number/%ff%fe HTTP/1.1\r\n{HOST}Connection: close\r\n\r\n"
        ))
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 400") && answer.contains("invalid_path"),
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn a_megabyte_of_headers_is_refused() -> Outcome {
    let headers = "X-Filler: ".to_owned() + &"a".repeat(1 << 20);
    let answer = live()?
        .send(format!("GET / HTTP/1.1\r\n{HOST}{headers}\r\n\r\n"))
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 431") || answer.trim() == "<closed>",
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn half_a_request_is_given_up() -> Outcome {
    let answer = live_and_impatient()?
        .send("GET / HTTP/1.1\r\nHost: loc")
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.ends_with("<closed>"),
        "{answer}"
    );
    Ok(())
}

#[actix_web::test]
async fn a_body_that_does_not_come_is_408() -> Outcome {
    let server = live_and_impatient()?;
    let answer = server
        .send(format!(
            "POST /try/raw HTTP/1.1\r\n{HOST}Content-Length: 10\r\n\r\nhalf"
        ))
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 408") && answer.contains("slow_body"),
        "{answer}"
    );
    assert!(answer.ends_with("<closed>"), "{answer}");
    Ok(())
}

#[actix_web::test]
async fn a_body_without_end_is_cut_off() -> Outcome {
    let server = live()?;
    let chunk = format!("{:x}\r\n{}\r\n", 16 * 1024, "a".repeat(16 * 1024));
    for path in ["/try/raw", "/try/person"] {
        let head = format!("POST {path} HTTP/1.1\r\n{HOST}Content-Type: application/json\r\n");
        let endless = head + "Transfer-Encoding: chunked\r\n\r\n" + &chunk.repeat(640);
        let answer = server.send(endless).await?;
        assert!(
            answer.starts_with("HTTP/1.1 413") && answer.contains("body_too_large"),
            "{path}: {answer}"
        );
        assert!(
            answer.contains("connection: close") && answer.ends_with("<closed>"),
            "{path}: {answer}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn an_unread_body_is_not_drained_for_ever() -> Outcome {
    let server = live()?;
    for path in [
        "/health",
        "/",
        "/nowhere",
        "/try/number/7",
        "/try/fails/panic",
    ] {
        let answer = server
            .send(format!(
                "GET {path} HTTP/1.1\r\n{HOST}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"
            ))
            .await?;
        assert!(
            answer.starts_with("HTTP/1.1 ") && answer.ends_with("<closed>"),
            "{path}: {answer}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_draining_server_asks_its_clients_to_move_on() -> Outcome {
    let vitals = Staged::new(Readiness::Ready);
    let server = Live::start(config(), mounted(&vitals))?;
    let request = format!("GET /try/number/7 HTTP/1.1\r\n{HOST}\r\n");
    assert!(
        !server
            .send(request.clone())
            .await?
            .contains("connection: close")
    );
    vitals.turn(Readiness::NotReady(NotReady::Draining));
    let answer = server.send(request).await?;
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(answer.ends_with("<closed>"), "{answer}");
    Ok(())
}

/// A head that asks before it sends a body.
fn asks(path: &str, headers: &str) -> String {
    format!("POST {path} HTTP/1.1\r\n{HOST}Expect: 100-continue\r\n{headers}\r\n")
}

const JSON: &str = "Content-Type: application/json\r\n";

#[actix_web::test]
async fn no_body_is_asked_for_that_is_going_to_be_refused() -> Outcome {
    let server = live()?;
    let too_large = config().body_limit + 1;
    for (head, status) in [
        (
            asks(
                "/try/person",
                &format!("{JSON}Content-Length: {too_large}\r\n"),
            ),
            413,
        ),
        (
            asks(
                "/try/person",
                &format!("{JSON}Content-Length: 9\r\nContent-Encoding: gzip\r\n"),
            ),
            415,
        ),
        (
            asks(
                "/try/person",
                "Content-Type: text/plain\r\nContent-Length: 9\r\n",
            ),
            415,
        ),
        (asks("/nowhere", "Content-Length: 9\r\n"), 404),
        (asks("/try/number/7", "Content-Length: 9\r\n"), 405),
        (
            asks(
                "/try/person",
                &format!("{JSON}Transfer-Encoding: chunked\r\nContent-Encoding: br\r\n"),
            ),
            415,
        ),
    ] {
        let answer = server.send(head.clone()).await?;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{head}{answer}"
        );
        assert!(answer.contains("connection: close"), "{head}{answer}");
        assert!(answer.ends_with("<closed>"), "{head}{answer}");
    }
    Ok(())
}

/// Reads until `end` has come.
async fn read_until(stream: &mut TcpStream, end: &str) -> Result<String, Failure> {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let byte = stream.read_u8();
        read.push(tokio::time::timeout(Duration::from_secs(5), byte).await??);
    }
    Ok(String::from_utf8(read)?)
}

#[actix_web::test]
async fn a_body_is_asked_for_when_a_handler_reads_it() -> Outcome {
    let server = live()?;
    let mut stream = TcpStream::connect(server.address).await?;
    let body = r#"{"name":"Ada","age":36}"#;
    let length = body.len();
    for (framing, sent) in [
        (format!("Content-Length: {length}\r\n"), body.to_owned()),
        (
            "Transfer-Encoding: chunked\r\n".to_owned(),
            format!("{length:x}\r\n{body}\r\n0\r\n\r\n"),
        ),
    ] {
        let head = asks("/try/person", &format!("{JSON}{framing}"));
        stream.write_all(head.as_bytes()).await?;
        let asked = read_until(&mut stream, "\r\n\r\n").await?;
        assert_eq!(asked, "HTTP/1.1 100 Continue\r\n\r\n");
        stream.write_all(sent.as_bytes()).await?;
        let answer = read_until(&mut stream, body).await?;
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_body_that_came_unasked_is_read() -> Outcome {
    let server = live()?;
    let request = asks("/try/text", "Connection: close\r\nContent-Length: 2\r\n") + "ok";
    let answer = server.send(request).await?;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 1, "{answer}");
    assert!(answer.ends_with("\r\n\r\nok\n<closed>"), "{answer}");
    Ok(())
}

#[actix_web::test]
async fn a_client_that_is_asked_and_sends_nothing_gets_408() -> Outcome {
    let server = live_and_impatient()?;
    let answer = server
        .send(asks("/try/raw", "Content-Length: 9\r\n"))
        .await?;
    assert!(
        answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408"),
        "{answer}"
    );
    Ok(())
}
