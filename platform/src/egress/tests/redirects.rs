//! Redirects: not followed unless asked, each judged.

use dotmac_testkit::fakes::{FakeHttpServer, write_answer};

use super::*;
use crate::egress::{Method, header};

/// A server that sends everything but `/end` on to where `location` says.
fn sending_to(location: impl Fn(&str) -> String + Send + Sync + 'static) -> FakeHttpServer {
    FakeHttpServer::start(move |request, stream| match request.path() {
        "/end" => write_answer(stream, "200 OK", &request.head),
        path => {
            let head = format!("302 Found\r\nlocation: {}", location(path));
            write_answer(stream, &head, "")
        }
    })
}

#[tokio::test]
async fn a_redirect_is_the_answer_unless_it_is_to_be_followed() {
    let server = sending_to(|_| "/end".to_owned());
    let egress = egress(development(), &everything_here());
    let url = format!("http://here.example:{}/start", server.port);
    let answer = egress.get(&url).send().await.unwrap();
    assert_eq!(answer.status, 302);
    let answer = egress.get(&url).follow_redirects(1).send().await.unwrap();
    assert_eq!(answer.status, 200);
    for method in [Method::POST, Method::PUT, Method::DELETE] {
        let answer = egress
            .request(method, &url)
            .follow_redirects(1)
            .send()
            .await;
        assert_eq!(
            answer.unwrap().status,
            302,
            "what changes something is not sent twice"
        );
    }
}

#[tokio::test]
async fn each_hop_is_judged() {
    for location in [
        "http://169.254.169.254/latest/meta-data/iam",
        "http://[::ffff:a9fe:a9fe]/",
        "http://0xa9fea9fe/",
        "//10.0.0.1/",
        "http://private.example/",
    ] {
        let server = sending_to(|_| location.to_owned());
        let lookup = FakeLookup::new(|name, _| match name {
            "private.example" => vec![IpAddr::from([192, 168, 0, 1])],
            _ => vec![LOOPBACK],
        });
        let egress = egress(development(), &lookup);
        let url = format!("http://here.example:{}/", server.port);
        let error = egress
            .get(url)
            .follow_redirects(5)
            .send()
            .await
            .unwrap_err();
        assert_eq!(
            (error.code(), error.is_retryable()),
            ("blocked_address", false),
            "{location}"
        );
    }
    for location in ["file:///etc/passwd", "http://user:password@here.example/"] {
        let server = sending_to(|_| location.to_owned());
        let egress = egress(development(), &everything_here());
        let url = format!("http://here.example:{}/", server.port);
        let error = egress
            .get(url)
            .follow_redirects(5)
            .send()
            .await
            .unwrap_err();
        assert_eq!(error.code(), "invalid_url", "{location}");
    }
}

#[tokio::test]
async fn a_loop_ends() {
    let server = sending_to(|path| format!("{path}x"));
    let egress = egress(development(), &everything_here());
    let url = format!("http://here.example:{}/", server.port);
    let error = egress
        .get(url)
        .follow_redirects(3)
        .send()
        .await
        .unwrap_err();
    assert_eq!(
        (error.code(), error.is_retryable()),
        ("redirect_refused", false)
    );
    assert_eq!(server.asked().len(), 4);
}

#[tokio::test]
async fn another_host_gets_no_headers_of_the_caller() {
    let other = sending_to(|_| "/end".to_owned());
    let end = format!("http://other.example:{}/end", other.port);
    let server = sending_to(move |_| end.clone());
    let egress = egress(development(), &everything_here());
    let call = egress
        .get(format!("http://here.example:{}/", server.port))
        .header(header::AUTHORIZATION, "Bearer sekret".parse().unwrap())
        .header("x-api-key".parse().unwrap(), "sekret".parse().unwrap())
        .header(header::ACCEPT, "text/plain".parse().unwrap())
        .header(header::HOST, "internal".parse().unwrap());
    let answer = call.follow_redirects(1).send().await.unwrap();
    let head = String::from_utf8_lossy(&answer.body);
    assert!(head.contains("accept: text/plain"), "{head}");
    assert!(!head.contains("sekret"), "{head}");
    let first = &server.asked()[0].head;
    assert!(first.contains("x-api-key: sekret"), "{first}");
    assert!(first.contains("host: here.example:"), "{first}");
}
