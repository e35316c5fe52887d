//! What a start needs: nothing in development, and in production what the message names.

use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::{ADMIN, House, PASSWORD, program};

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
async fn after_a_restart_the_audit_log_is_verified_with_the_key_of_the_file() {
    let daemon = program().spawn().await;
    daemon.logged("created a sealing key for development").await;
    let create = ["user", "create-admin", "--email", ADMIN];
    let made = program().run_in(daemon.directory(), &create).await;
    assert_eq!(made.code, 0, "{}", made.text());
    let line = daemon.logged("audit checkpoint").await;
    let text = line["checkpoint"].as_str().unwrap();
    let checkpoint: serde_json::Value = serde_json::from_str(text).unwrap();
    assert!(checkpoint["signature"].is_string(), "{checkpoint}");

    let daemon = program().spawn_in(daemon.kill()).await;
    daemon
        .until_component("audit_verifier", "ready", None)
        .await;
    let lines = daemon.lines();
    let is_unsigned = |line: &String| line.contains("audit_not_signed");
    assert!(!lines.iter().any(is_unsigned), "{lines:#?}");
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

#[tokio::test]
async fn a_password_of_the_breach_filter_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (list, filter) = (
        directory.path().join("list.txt"),
        directory.path().join("breached.filter"),
    );
    // The second one is that of the password below.
    let hashes =
        "1B4D7A3BA1F1E9A2A1B0D0A9D8C7B6A5F4E3D2C1:7\n284AF5848D44D0678F01543E8BD91EFD527112C7:2\n";
    std::fs::write(&list, hashes).unwrap();
    let arguments = [
        "accounts",
        "breach-filter",
        "build",
        list.to_str().unwrap(),
        filter.to_str().unwrap(),
    ];
    let built = program().run(&arguments).await;
    assert_eq!(built.code, 0, "{}", built.text());
    assert!(built.text().contains("2 entries"), "{}", built.text());

    let path = filter.display().to_string();
    let house = House::on_sqlite(1, &[("DOTMAC_ACCOUNTS_BREACH_FILTER_PATH", &path)]).await;
    let admin = house.admin_session().await.text("access_token");
    let breached =
        json!({ "email": "ann@example.com", "password": "nine quiet rivers under snow" });
    let refused = house.post("/users", Some(&admin), breached).await;
    assert_eq!(
        refused.body["errors"][0]["code"], "password_breached",
        "{refused:?}"
    );

    // What cannot be checked is not accepted, and an instance with a filter that is cut off does not start.
    let bytes = std::fs::read(&filter).unwrap();
    std::fs::write(&filter, &bytes[..64 * 1024]).unwrap();
    let password = "ten silent lakes below the moon";
    let unchecked = json!({ "email": "bob@example.com", "password": password });
    let unchecked = house.post("/users", Some(&admin), unchecked).await;
    assert_eq!(
        unchecked.short(),
        (503, "auth_unavailable"),
        "{unchecked:?}"
    );
    let refused = house.builder().run_in(house.directory.path(), &[]).await;
    assert_ne!(refused.code, 0, "{}", refused.text());
    assert!(
        refused.text().contains("the filter of breached passwords"),
        "{}",
        refused.text()
    );
}

#[tokio::test]
async fn calibrate_proposes_settings_that_the_program_takes() {
    let arguments = ["accounts", "calibrate", "--target", "1ms"];
    let ended = program().run(&arguments).await;
    assert_eq!(ended.code, 0, "{}", ended.text());
    let text = ended.text();
    for line in [
        "DOTMAC_ACCOUNTS_ARGON2_M=19456",
        "DOTMAC_ACCOUNTS_ARGON2_T=2",
        "DOTMAC_ACCOUNTS_ARGON2_P=1",
    ] {
        assert!(text.contains(line), "{text}");
    }
    let wrong = ["accounts", "calibrate", "--target", "soon"];
    assert_eq!(program().run(&wrong).await.code, 64);
}

#[tokio::test]
async fn hashes_that_are_weaker_than_the_recommendation_are_refused() {
    for (key, value, least) in [
        ("DOTMAC_ACCOUNTS_ARGON2_M", "19455", "19456"),
        ("DOTMAC_ACCOUNTS_ARGON2_T", "1", "2"),
        ("DOTMAC_ACCOUNTS_ARGON2_P", "0", "1"),
    ] {
        let refused = program().env(key, value).run(&["check"]).await;
        assert_ne!(refused.code, 0, "{key}");
        let text = refused.text();
        assert!(text.contains(key) && text.contains(least), "{text}");
    }
}
