//! Signals at the wrong moment: before anything runs, and behind reloads that wait for something.

use std::{fmt::Write as _, fs, time::Duration};

use crate::support::{Daemon, eventually, fakes::FakeSilentServer, process::Process};

/// Whether the process has a handler for SIGTERM, as the kernel says.
fn catches_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status
        .lines()
        .find_map(|line| line.strip_prefix("SigCgt:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (15 - 1)) != 0)
}

#[tokio::test]
async fn a_signal_while_the_settings_are_read_stops_it_in_good_order() {
    let directory = tempfile::tempdir().unwrap();
    // Settings that take long to read: each of these names is compared with those of all keys.
    let mut text = String::new();
    for number in 0..20_000 {
        writeln!(text, "DOTMAC_NO_SUCH_KEY_{number}=1").unwrap();
    }
    fs::write(directory.path().join(".env"), text).unwrap();
    let mut process = Process::spawn(
        std::process::Command::new(env!("CARGO_BIN_EXE_dotmac"))
            .current_dir(directory.path())
            .env_clear(),
    );
    eventually(
        "SIGTERM to be caught before the settings are read",
        || async { catches_sigterm(process.pid()).then_some(()) },
    )
    .await;
    process.signal("TERM");
    let code = loop {
        if let Some(code) = process.try_exit() {
            break code;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(code, 0, "{:?}", process.lines());
}

#[tokio::test]
async fn a_stop_does_not_wait_for_reloads_that_wait_for_vault() {
    let vault = FakeSilentServer::start();
    let daemon = Daemon::builder()
        .env(
            "DOTMAC_VAULT_ADDR",
            format!("http://127.0.0.1:{}", vault.port),
        )
        .env("DOTMAC_VAULT_TOKEN", "some-token")
        .env("DOTMAC_SHUTDOWN_TIMEOUT", "5s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    for _ in 0..12 {
        daemon.signal("HUP");
        // Signals that are not received yet are one.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    daemon.logged("reloading the settings").await;
    let stopped = daemon.stop().await;
    // Until its pause after the failed login is over, secrets answers a reload at once.
    let answered = stopped
        .lines
        .iter()
        .rposition(|line| line.contains("stay in use"));
    let waiting = &stopped.lines[answered.map_or(0, |place| place + 1)..];
    let messages: Vec<&str> = waiting
        .iter()
        .filter_map(|line| {
            ["reloading the settings", "\"stopping\""]
                .into_iter()
                .find(|it| line.contains(it))
        })
        .collect();
    assert_eq!(messages.last(), Some(&"\"stopping\""), "{}", stopped.text());
    // One under way and one that stands for all others, if that.
    assert!(messages.len() <= 3, "{}", stopped.text());
    assert!([0, 75].contains(&stopped.code), "{}", stopped.text());
    let total = stopped.text();
    assert!(
        stopped.took < Duration::from_secs(12),
        "{:?}: {total}",
        stopped.took
    );
}
