//! What a start needs: nothing in development, and in production what the message names.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::{ADMIN, PASSWORD, program};

#[tokio::test]
async fn in_development_it_works_without_a_setting() {
    let daemon = program().spawn().await;
    daemon.until("/ready", 200).await;
    let url = format!("{}/api/v1/auth/login", daemon.base);
    let login = json!({ "identifier": ADMIN, "password": PASSWORD, "mode": "token" });
    let answer = daemon.client.post(&url).json(&login).send().await.unwrap();
    assert_eq!(answer.status(), 401);

    let made = program()
        .run_in(
            daemon.directory(),
            &["user", "create-admin", "--email", ADMIN, "--json"],
        )
        .await;
    assert_eq!(made.code, 0, "{}", made.text());
    let line = made
        .lines
        .iter()
        .find(|line| line.contains("\"token\""))
        .unwrap();
    let made: serde_json::Value = serde_json::from_str(line).unwrap();
    let reset = json!({ "token": made["token"], "password": PASSWORD });
    let url = format!("{}/api/v1/auth/password/reset", daemon.base);
    assert_eq!(
        daemon
            .client
            .post(&url)
            .json(&reset)
            .send()
            .await
            .unwrap()
            .status(),
        204
    );
    let url = format!("{}/api/v1/auth/login", daemon.base);
    assert_eq!(
        daemon
            .client
            .post(&url)
            .json(&login)
            .send()
            .await
            .unwrap()
            .status(),
        200
    );

    let key = std::fs::metadata(daemon.directory().join("dotmac-accounts.key")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn in_production_what_is_missing_is_named() {
    let production = || {
        program()
            .env("DOTMAC_ENVIRONMENT", "production")
            .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
    };
    let url = "DOTMAC_ACCOUNTS_PUBLIC_URL";
    let key = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    for (builder, named) in [
        (production(), url),
        (production().env(url, "http://dotmac.example"), url),
        (
            production().env(url, "https://dotmac.example"),
            "DOTMAC_APP_MASTER_KEY",
        ),
        (
            production()
                .env(url, "https://dotmac.example")
                .env("DOTMAC_APP_MASTER_KEY", key),
            "DOTMAC_APP_SECRET_KEY",
        ),
    ] {
        let refused = builder.run(&[]).await;
        assert_eq!(refused.code, 78, "{}", refused.text());
        assert!(
            refused.text().contains(named),
            "{named}: {}",
            refused.text()
        );
    }
    let off = production()
        .env("DOTMAC_ACCOUNTS_ENABLED", "false")
        .spawn()
        .await;
    off.until("/ready", 200).await;
}
