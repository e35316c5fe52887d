//! TLS to PostgreSQL: each `sslmode` means what libpq says it means.

use dotmac_platform::db::{SslMode, Target};

use crate::{
    rig::{Rig, config, postgres},
    support::{Postgres, tls::certificates},
};

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
