//! TLS to PostgreSQL: each `sslmode` means what libpq says it means.

use std::path::Path;

use dotmac_platform::db::{ClientCert, SslMode, Target};

use crate::{
    rig::{Rig, config, postgres},
    support::{Postgres, tls::certificates},
};

async fn verified(directory: &Path) -> (Postgres, dotmac_platform::db::Postgres) {
    certificates(directory);
    let server = Postgres::start().await;
    let file = |name: &str| directory.join(name);
    server
        .use_tls(&file("server.crt"), &file("server.key"))
        .await;
    let mut target = postgres(&server);
    target.host = "localhost".to_owned();
    target.ssl_mode = SslMode::VerifyFull;
    target.ca_cert = Some(file("ca.crt"));
    (server, target)
}

#[actix_web::test]
async fn a_server_that_asks_who_we_are_gets_our_certificate() {
    let directory = tempfile::tempdir().unwrap();
    let (server, target) = verified(directory.path()).await;
    server
        .demand_client_certificate(&directory.path().join("ca.crt"))
        .await;
    let cases = [
        (None, Some("authentication_failed")),
        (Some(("client.crt", "client.key")), None),
        (Some(("stranger.crt", "stranger.key")), Some("tls_failed")),
        (Some(("client.crt", "stranger.key")), Some("tls_failed")),
        (Some(("client.key", "client.key")), Some("tls_failed")),
    ];
    for (given, refused) in cases {
        let mut target = target.clone();
        target.client_cert = given.map(|(certificates, key)| ClientCert {
            certificates: directory.path().join(certificates),
            key: directory.path().join(key),
        });
        let rig = Rig::start(config(Target::Postgres(target)));
        match refused {
            None => rig.until(|board| board.readiness.serves()).await,
            Some(reason) => rig.until_reason(reason).await,
        }
        rig.supervisor.halt().await;
    }
}

#[actix_web::test]
async fn a_certificate_that_is_swapped_under_us_is_refused_until_it_is_a_good_one_again() {
    let directory = tempfile::tempdir().unwrap();
    let (server, target) = verified(directory.path()).await;
    let file = |name: &str| directory.path().join(name);
    let rig = Rig::ready(config(Target::Postgres(target))).await;
    let end_all =
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = 'dotmac'";
    server
        .use_tls(&file("stranger.crt"), &file("stranger.key"))
        .await;
    server.query(end_all).await;
    rig.until_reason("tls_failed").await;
    assert!(!rig.supervisor.board().readiness.serves());
    server
        .use_tls(&file("server.crt"), &file("server.key"))
        .await;
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn every_mode_means_what_it_says() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let server = Postgres::start().await;
    server
        .use_tls(
            &directory.path().join("server.crt"),
            &directory.path().join("server.key"),
        )
        .await;

    let cases = [
        ("localhost", SslMode::VerifyFull, "ca.crt", None),
        (
            "localhost",
            SslMode::VerifyFull,
            "other.crt",
            Some("tls_failed"),
        ),
        (
            "127.0.0.1",
            SslMode::VerifyFull,
            "ca.crt",
            Some("tls_failed"),
        ),
        ("127.0.0.1", SslMode::VerifyCa, "ca.crt", None),
        (
            "127.0.0.1",
            SslMode::VerifyCa,
            "other.crt",
            Some("tls_failed"),
        ),
        ("127.0.0.1", SslMode::Require, "", None),
        ("127.0.0.1", SslMode::Require, "ca.crt", None),
        // As libpq has it: with authorities given, `require` is `verify-ca`.
        (
            "127.0.0.1",
            SslMode::Require,
            "other.crt",
            Some("tls_failed"),
        ),
        ("127.0.0.1", SslMode::Prefer, "other.crt", None),
    ];
    for (host, ssl_mode, ca, refused) in cases {
        let mut target = postgres(&server);
        target.host = host.to_owned();
        target.ssl_mode = ssl_mode;
        target.ca_cert = (!ca.is_empty()).then(|| directory.path().join(ca));
        let rig = Rig::start(config(Target::Postgres(target)));
        match refused {
            None => rig.until(|board| board.readiness.serves()).await,
            Some(reason) => rig.until_reason(reason).await,
        }
        rig.supervisor.halt().await;
    }
}
