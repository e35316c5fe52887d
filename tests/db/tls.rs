//! TLS to PostgreSQL: each `sslmode` means what libpq says it means.

use std::{path::Path, process::Command};

use dotmac_platform::db::{SslMode, Target};

use crate::{
    rig::{Rig, config, postgres},
    support::Postgres,
};

fn openssl(directory: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split(' '))
        .current_dir(directory)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// An authority, and a certificate of it for `localhost` alone.
fn certificates(directory: &Path) {
    for authority in ["ca", "other"] {
        openssl(
            directory,
            &format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN={authority} -keyout {authority}.key -out {authority}.crt"
            ),
        );
    }
    openssl(
        directory,
        "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout server.key -out server.csr",
    );
    std::fs::write(
        directory.join("names"),
        "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n",
    )
    .unwrap();
    openssl(
        directory,
        "x509 -req -in server.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.crt",
    );
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
