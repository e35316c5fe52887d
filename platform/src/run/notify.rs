//! Reports the state of the service to systemd (`Type=notify`). Without systemd it does nothing.

use std::time::Duration;

use dotmac_supervision::{NotReady, Readiness, SupervisorHandle};
use sd_notify::NotifyState;

const DRAINING: Readiness = Readiness::NotReady(NotReady::Draining);

/// Reports readiness, then every change of it, and feeds the watchdog while the supervisor makes
/// progress: a ping means that the process works, not merely that a timer runs. Never returns.
pub(super) async fn keep_informed(supervisor: SupervisorHandle) {
    tokio::join!(report_readiness(&supervisor), feed_watchdog(&supervisor));
}

/// Says that the stop has begun.
pub(super) fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

async fn report_readiness(supervisor: &SupervisorHandle) {
    let board = supervisor.until(|board| board.started).await;
    let mut last = board.readiness;
    send(&[NotifyState::Ready, NotifyState::Status(last.as_str())]);
    // From the drain on, the stop speaks for itself.
    while last != DRAINING {
        last = supervisor
            .until(|board| board.readiness != last)
            .await
            .readiness;
        if last != DRAINING {
            send(&[NotifyState::Status(last.as_str())]);
        }
    }
}

async fn feed_watchdog(supervisor: &SupervisorHandle) {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return;
    };
    let mut beats = tokio::time::interval((limit / 3).max(Duration::from_millis(100)));
    loop {
        beats.tick().await;
        if supervisor.is_alive() {
            send(&[NotifyState::Watchdog]);
        }
    }
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::warn!(%error, "failed to notify systemd");
    }
}
