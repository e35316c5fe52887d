//! The daemon's notifications to a service manager (`Type=notify`).

use std::{os::unix::net::UnixDatagram, time::Duration};

use crate::support::Daemon;

#[tokio::test]
async fn systemd_hears_of_readiness_progress_and_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket
        .set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    let daemon = Daemon::builder()
        .env("NOTIFY_SOCKET", path.display())
        .env("WATCHDOG_USEC", 600_000)
        .spawn()
        .await;
    daemon.until("/ready", 200).await;

    let mut heard = String::new();
    let mut listen_for = |text: &str, times: usize| {
        let mut buffer = [0; 256];
        while heard.matches(text).count() < times {
            let read = socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{error} before {text} in {heard}"));
            heard += &String::from_utf8_lossy(&buffer[..read]);
            heard += "\n";
        }
        heard.clone()
    };
    listen_for("READY=1", 1);
    let heard = listen_for("WATCHDOG=1", 3);
    assert_eq!(heard.matches("READY=1").count(), 1, "{heard}");
    assert!(heard.contains("STATUS=ready"), "{heard}");
    daemon.signal("TERM");
    listen_for("STOPPING=1", 1);
    assert_eq!(daemon.ended().await.code, 0);
    socket.set_nonblocking(true).unwrap();
    let mut buffer = [0; 256];
    while let Ok(read) = socket.recv(&mut buffer) {
        let said = String::from_utf8_lossy(&buffer[..read]).into_owned();
        assert!(
            !said.contains("STATUS=not_ready"),
            "{said} after STATUS=stopping"
        );
    }
}
