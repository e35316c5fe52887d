//! Settings as a careless operator writes them: each mistake is named, and none is printed with its password.

use crate::support::Daemon;

/// The output of `check` with one setting.
async fn checked(key: &str, value: &str) -> (i32, String) {
    let stopped = Daemon::builder().env(key, value).run(&["check"]).await;
    (stopped.code, stopped.text())
}

#[tokio::test]
async fn a_hostile_setting_is_refused_by_name_and_printed_without_password_or_control_characters() {
    let long = format!("/{}", "x".repeat(100_000));
    for (key, value) in [
        ("DOTMAC_HTTP_TRUSTED_HOSTS", ","),
        ("DOTMAC_CORS_ORIGINS", "https://*"),
        (
            "DOTMAC_DATABASE_HOST",
            "postgresql://dotmac:hunter2@db.example/dotmac",
        ),
        (
            "DOTMAC_DATABASE_PORT",
            "postgresql://dotmac:hunter2@db.example/dotmac",
        ),
        (
            "DOTMAC_TELEMETRY_OTLP_PROTOCOL",
            "https://dotmac:hunter2@collector.example",
        ),
        ("DOTMAC_PORT", "80\u{1b}[31m80"),
        ("DOTMAC_APP_SECRET_KEY_FILE", &long),
    ] {
        let (code, text) = checked(key, value).await;
        let name = key.trim_end_matches("_FILE");
        assert_eq!(code, 78, "{key}: {text}");
        assert!(text.contains(name), "{key}: {text}");
        assert!(!text.contains("hunter2"), "{key}: {text}");
        assert!(
            !text.contains('\u{1b}') && text.len() < 2000,
            "{key}: {text}"
        );
    }
}

/// Tokens that nothing uses are no reason not to start: without Vault, or in production with another login.
#[tokio::test]
async fn a_token_that_is_not_used_stops_no_start() {
    let (code, text) = checked("BAO_TOKEN", "unused").await;
    assert_eq!(code, 0, "{text}");
    let by_approle = Daemon::builder()
        .env("DOTMAC_ENVIRONMENT", "production")
        .without(&["accounts", "webhooks"])
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
        .env("DOTMAC_VAULT_ADDR", "https://vault.example:8200")
        .env("DOTMAC_VAULT_AUTH", "approle")
        .env("DOTMAC_VAULT_ROLE_ID", "a-role")
        .env("DOTMAC_VAULT_SECRET_ID", "5f1c8d0e-of-the-approle")
        .env("BAO_TOKEN", "unused");
    let checked = by_approle.run(&["check"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text());
}
