//! Wakes subscribers and what runs jobs, after a commit: those of this process at once, and on PostgreSQL those of other
//! instances a moment later. A hint, never the only way that work is found: they look by themselves every second.

mod exchange;

pub(crate) use exchange::exchange;

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

struct Waiting {
    kinds: Vec<&'static str>,
    wake: Weak<Notify>,
}

static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

/// A signal for events or jobs of any of `kinds`, of all if there is none, until it is dropped. Many signals before it
/// is waited for are one. A service whose worker claims rows of its own uses the worker's name as a kind.
pub fn signal(kinds: Vec<&'static str>) -> Arc<Notify> {
    let signal = Arc::new(Notify::new());
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.retain(|other| other.wake.strong_count() > 0);
    waiting.push(Waiting {
        kinds,
        wake: Arc::downgrade(&signal),
    });
    signal
}

/// Wakes what waits for any of `kinds`, here and on other instances. For [`Tx::after_commit`](dotmac_db::Tx::after_commit).
pub fn wake<K: AsRef<str>>(kinds: &[K]) {
    wake_here(|kind| kinds.iter().any(|it| it.as_ref() == kind));
    exchange::pass_on(kinds);
}

/// Wakes what waits in this process for a kind that `is_meant`.
fn wake_here(is_meant: impl Fn(&str) -> bool) {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    for it in waiting.iter() {
        if (it.kinds.is_empty() || it.kinds.iter().any(|kind| is_meant(kind)))
            && let Some(wake) = it.wake.upgrade()
        {
            wake.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn a_signal_is_for_its_kinds_and_many_are_one() {
        let (notes, files) = (signal(vec!["note.added.v1"]), signal(vec!["file.added.v1"]));
        let all = signal(Vec::new());
        for _ in 0..3 {
            wake(&["note.added.v1"]);
        }
        notes.notified().await;
        all.notified().await;
        for idle in [notes.notified(), files.notified()] {
            let short = Duration::from_millis(10);
            assert!(tokio::time::timeout(short, idle).await.is_err());
        }
    }
}
