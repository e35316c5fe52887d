//! Calls by https.

use dotmac_testkit::{
    fakes::{FakeHttpServer, write_answer},
    tls::TlsFront,
};

use super::*;

#[tokio::test]
async fn a_host_proves_who_it_is() {
    let server = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "proved"));
    let front = TlsFront::before(server.port).await;
    let trusting = |ca: std::path::PathBuf| Config {
        ca_cert: Some(ca),
        ..production(&["127.0.0.1"])
    };
    let url = format!("https://localhost:{}/", front.port);
    let known = egress(trusting(front.ca.clone()), &everything_here());
    assert_eq!(known.get(&url).send().await.unwrap().body, "proved");

    let stranger = egress(trusting(front.other_ca()), &everything_here());
    let error = stranger.get(&url).send().await.unwrap_err();
    assert_eq!((error.code(), error.is_retryable()), ("tls_failed", true));

    // The certificate is of `localhost`, wherever the name leads.
    let other_name = format!("https://other.example:{}/", front.port);
    let error = known.get(other_name).send().await.unwrap_err();
    assert_eq!(error.code(), "tls_failed");
}
