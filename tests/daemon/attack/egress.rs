//! Outgoing data besides requests to Vault: the collector's headers, and the request of a probe.

use crate::support::{
    Daemon, eventually,
    fakes::{FakeHttpServer, write_answer},
};

const HEADERS: &str = "authorization=Bearer%20of-the-collector";

/// A server that sends each request on to the same path at `to`.
fn fake_redirecting(to: &FakeHttpServer) -> FakeHttpServer {
    // By another name, so that it is another host.
    let to = format!("http://localhost:{}", to.port);
    FakeHttpServer::start(move |request, stream| {
        let head = format!("307 Elsewhere\r\nlocation: {to}{}", request.path());
        write_answer(stream, &head, "")
    })
}

fn fake_thief() -> FakeHttpServer {
    FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "{}"))
}

/// Until a collector has been asked, and the thief has not.
async fn exports_to(collector: &FakeHttpServer, thief: &FakeHttpServer) {
    for protocol in ["http", "grpc"] {
        let builder = Daemon::builder()
            .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.address())
            .env("DOTMAC_TELEMETRY_OTLP_PROTOCOL", protocol)
            .env("DOTMAC_TELEMETRY_OTLP_HEADERS", HEADERS)
            .env("DOTMAC_TELEMETRY_SPAN_DELAY", "100ms");
        let builder = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"]
            .iter()
            .fold(builder, |builder, key| builder.env(key, thief.address()));
        let asked = collector.asked().len();
        let daemon = builder.spawn().await;
        eventually("an export", || async {
            (collector.asked().len() > asked).then_some(())
        })
        .await;
        daemon.stop().await;
    }
    assert!(thief.asked().is_empty(), "{:?}", thief.asked());
}

#[tokio::test]
async fn the_collectors_headers_use_no_proxy_and_follow_no_redirect() {
    let thief = fake_thief();
    let collector = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", ""));
    exports_to(&collector, &thief).await;
    exports_to(&fake_redirecting(&thief), &thief).await;
}

#[tokio::test]
async fn what_another_server_says_is_no_answer_to_a_probe() {
    let healthy = fake_thief();
    let redirecting = fake_redirecting(&healthy);
    let probed = Daemon::builder()
        .run(&["probe", "live", "--url", &redirecting.address()])
        .await;
    assert_eq!(probed.code, 1, "{}", probed.text());
    assert!(healthy.asked().is_empty(), "{:?}", healthy.asked());
}
