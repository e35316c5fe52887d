//! Files that do not answer: settings, secrets and certificates that have become named pipes.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::support::{Daemon, PATIENCE, tls::certificates};

/// A named pipe without a writer, in place of the file.
fn pipe(path: &Path) {
    if path.exists() {
        fs::remove_file(path).unwrap();
    }
    let made = Command::new("mkfifo").arg(path).status().unwrap();
    assert!(made.success(), "mkfifo {}", path.display());
}

#[tokio::test]
async fn a_start_with_a_pipe_in_place_of_a_file_is_refused_by_name() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    pipe(&path);
    pipe(&directory.path().join(".env"));
    let stopped = Daemon::builder()
        .env("DOTMAC_APP_NAME_FILE", path.display())
        .env("DOTMAC_TLS_CERT", path.display())
        .env("DOTMAC_TLS_KEY", path.display())
        .env("DOTMAC_DATABASE_CA_CERT", path.display())
        .run_in(directory.path(), &[])
        .await;
    assert_eq!(stopped.code, 78, "{}", stopped.text());
    for key in [
        ".env:",
        "DOTMAC_APP_NAME_FILE",
        "DOTMAC_DATABASE_CA_CERT",
        "DOTMAC_TLS_CERT",
    ] {
        let named = |line: &&String| line.contains(key) && line.contains("it is a named pipe");
        assert!(
            stopped.lines.iter().any(|line| named(&line)),
            "{key} in {}",
            stopped.text()
        );
    }
}

#[tokio::test]
async fn files_that_become_pipes_are_refused_and_hold_nothing_up() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| -> PathBuf { directory.path().join(name) };
    fs::write(file("name"), "dotmac").unwrap();
    let paths = [file("name"), file("server.key"), file(".env")];
    let mut daemon = Daemon::builder()
        .env("DOTMAC_APP_NAME_FILE", "name")
        .env("DOTMAC_TLS_CERT", "server.crt")
        .env("DOTMAC_TLS_KEY", "server.key")
        .spawn_in(directory)
        .await;
    daemon.client = reqwest::Client::builder()
        .timeout(PATIENCE)
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .unwrap();
    daemon.until("/ready", 200).await;
    paths.iter().for_each(|path| pipe(path));
    // More than fit into any queue.
    for _ in 0..14 {
        daemon.signal("HUP");
        assert_eq!(daemon.get("/health").await.status(), 200);
    }
    for refused in [
        "DOTMAC_APP_NAME_FILE (environment)",
        "DOTMAC_TLS_CERT (environment)",
        ".env: cannot read",
    ] {
        let line = daemon.logged(refused).await;
        assert_eq!(line["result"], "rejected", "{line}");
    }
    daemon.logged("nothing was reloaded").await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
}
