//! Settings as an operator gets them wrong.

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, built, daemon::Builder},
};

#[tokio::test]
async fn every_mistake_is_reported_at_once_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let stopped = Daemon::builder()
        .env("DOTMAC_PORT", "eighty")
        .env("DOTMAC_DATABASE_POOL_SIZE", "many")
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "30")
        .env("DOTMAC_DATABSE_URL", "sqlite:x.db")
        .run_in(directory.path(), &[])
        .await;
    assert_eq!(stopped.code, 78, "{}", stopped.text());
    for part in [
        "DOTMAC_PORT",
        "DOTMAC_DATABASE_POOL_SIZE",
        "DOTMAC_HTTP_REQUEST_TIMEOUT",
        "DOTMAC_DATABSE_URL",
        "DOTMAC_DATABASE_URL",
    ] {
        assert!(
            stopped.text().contains(part),
            "{part} in {}",
            stopped.text()
        );
    }
    assert_eq!(
        std::fs::read_dir(directory.path()).unwrap().count(),
        0,
        "nothing was opened"
    );
}

#[tokio::test]
async fn a_setting_may_come_from_a_file() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("name"), "from-a-file\n").unwrap();
    let daemon = Daemon::builder()
        .env("DOTMAC_APP_NAME_FILE", "name")
        .spawn_in(directory)
        .await;
    assert_eq!(daemon.json("/").await.1["name"], "from-a-file");
}

#[tokio::test]
async fn a_hangup_applies_what_can_be_applied_and_names_what_cannot() {
    let directory = tempfile::tempdir().unwrap();
    let level = directory.path().join("level");
    let name = directory.path().join("name");
    std::fs::write(&level, "info").unwrap();
    std::fs::write(&name, "before").unwrap();
    let daemon = Daemon::builder()
        .env("DOTMAC_TELEMETRY_LOG_LEVEL_FILE", level.display())
        .env("DOTMAC_APP_NAME_FILE", name.display())
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    std::fs::write(&level, "debug").unwrap();
    std::fs::write(&name, "after").unwrap();
    daemon.signal("HUP");
    daemon.logged("the log level is now `debug`").await;
    let needs_restart = daemon
        .logged("`DOTMAC_APP_NAME` has changed and needs a restart")
        .await;
    assert_eq!(needs_restart["result"], "needs_restart");

    std::fs::write(&level, "loud!").unwrap();
    daemon.signal("HUP");
    daemon.logged("nothing was reloaded").await;
    let rejected = daemon.logged("DOTMAC_TELEMETRY_LOG_LEVEL (file").await;
    assert_eq!(rejected["result"], "rejected");
    assert_eq!(rejected["key"], "DOTMAC_TELEMETRY_LOG_LEVEL");
    assert_eq!(daemon.get("/ready").await.status(), 200);
}

#[tokio::test]
async fn a_certificate_that_is_not_there_is_refused_without_a_panic() {
    let stopped = Daemon::builder()
        .env("DOTMAC_TLS_CERT", "/nowhere/cert.pem")
        .env("DOTMAC_TLS_KEY", "/nowhere/key.pem")
        .run(&[])
        .await;
    assert_eq!(stopped.code, 78, "{}", stopped.text());
    assert!(
        stopped.text().contains("/nowhere/cert.pem"),
        "{}",
        stopped.text()
    );
    assert!(!stopped.text().contains("panicked"), "{}", stopped.text());
}

/// Adds a note of 20 characters with `token`: status and JSON of the answer.
async fn add_note(daemon: &Daemon, token: &str) -> (StatusCode, Value) {
    let request = daemon.client.post(format!("{}{NOTES}", daemon.base));
    let note = json!({ "text": "a note of 20 letters" });
    let answer = request.bearer_auth(token).json(&note).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap_or_default())
}

#[tokio::test]
async fn a_hangup_applies_live_keys_and_secrets_of_a_module() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let daemon = Daemon::program(built("notes"))
        .env("DOTMAC_NOTES_TOKEN_FILE", file("token", TOKEN))
        .env("DOTMAC_NOTES_MAX_LENGTH_FILE", file("length", "20"))
        .env("DOTMAC_NOTES_SWEEP_INTERVAL_FILE", file("sweep", "1m"))
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    assert_eq!(add_note(&daemon, TOKEN).await.0, StatusCode::CREATED);

    file("length", "19");
    file("sweep", "2m");
    file("token", "another-horse");
    daemon.signal("HUP");
    for (text, result) in [
        (
            "`DOTMAC_NOTES_MAX_LENGTH` has changed and is in use now",
            "applied",
        ),
        (
            "`DOTMAC_NOTES_SWEEP_INTERVAL` has changed and needs a restart",
            "needs_restart",
        ),
        ("the secret `DOTMAC_NOTES_TOKEN` has changed", "applied"),
    ] {
        let line = daemon.logged(text).await;
        assert_eq!(line["result"], result, "{line}");
    }
    let (status, problem) = add_note(&daemon, "another-horse").await;
    assert_eq!(
        (status.as_u16(), &problem["code"]),
        (422, &"note_too_long".into())
    );
    assert_eq!(add_note(&daemon, TOKEN).await.0, StatusCode::UNAUTHORIZED);

    file("length", "none");
    daemon.signal("HUP");
    let rejected = daemon.logged("DOTMAC_NOTES_MAX_LENGTH (file").await;
    assert_eq!(rejected["result"], "rejected");
}

#[tokio::test]
async fn a_secret_that_a_module_needs_is_never_silently_missing() {
    let without = || Daemon::program(built("notes"));
    let reason = "DOTMAC_NOTES_TOKEN: `notes` needs this secret, and it is not set; \
                set it or its _FILE twin, or enable Vault and put it at `notes/token` there";
    let production = |builder: Builder| {
        builder
            .env("DOTMAC_ENVIRONMENT", "production")
            .env("DOTMAC_APP_SECRET_KEY", "0123456789abcdef0123456789abcdef")
            .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
    };
    let refused = production(without()).run(&[]).await;
    assert_eq!(refused.code, 78, "{}", refused.text());
    assert!(refused.text().contains(reason), "{}", refused.text());

    let checked = without().run(&["check"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text());
    assert!(
        checked.text().contains(&format!("warning: {reason}")),
        "{}",
        checked.text()
    );

    let daemon = without().spawn().await;
    let line = daemon.logged(reason).await;
    assert_eq!(
        (&line["level"], &line["key"]),
        (&"WARN".into(), &"DOTMAC_NOTES_TOKEN".into())
    );

    let off = production(without()).env("DOTMAC_NOTES_ENABLED", "false");
    let off = off.run(&["check"]).await;
    assert_eq!(off.code, 0, "{}", off.text());
}

#[tokio::test]
async fn config_shows_and_documents_the_keys_of_modules() {
    let config = |arguments: &'static [&'static str]| async move {
        let stopped = notes().run(&[&["config"], arguments].concat()).await;
        (stopped.code, stopped.text())
    };
    let (_, all) = config(&[]).await;
    assert!(
        all.contains("DOTMAC_PORT ") && all.contains("DOTMAC_NOTES_KEEP "),
        "{all}"
    );
    assert!(!all.contains(TOKEN), "{all}");
    let (_, alone) = config(&["--module", "notes"]).await;
    assert!(
        !alone.contains("DOTMAC_PORT ") && alone.contains("DOTMAC_NOTES_KEEP "),
        "{alone}"
    );
    let (_, documented) = config(&["--format", "markdown", "--module", "notes"]).await;
    assert!(
        documented.starts_with("## Notes\n\nShort texts with tags."),
        "{documented}"
    );
    let (_, example) = config(&["--format", "example"]).await;
    assert!(example.contains("\n#DOTMAC_NOTES_KEEP=30d\n"), "{example}");
    let (code, said) = config(&["--module", "nobody"]).await;
    assert_eq!(
        (code, said.trim()),
        (
            64,
            "there is no module `nobody`; there are notes, events, jobs, audit"
        )
    );
}
