//! Settings as an operator gets them wrong.

use crate::support::Daemon;

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
