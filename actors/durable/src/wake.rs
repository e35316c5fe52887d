//! Wakes the subscribers of this process, and what runs its jobs, after a commit. A hint, never the only way that work
//! is found: they look by themselves every second.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::Notify;

struct Waiting {
    kinds: Vec<&'static str>,
    wake: Weak<Notify>,
}

static WAITING: Mutex<Vec<Waiting>> = Mutex::new(Vec::new());

/// A signal for events or jobs of any of `kinds`, for as long as it is kept. Many signals before it is waited for are one.
pub(crate) fn signal(kinds: Vec<&'static str>) -> Arc<Notify> {
    let signal = Arc::new(Notify::new());
    let mut waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    waiting.retain(|other| other.wake.strong_count() > 0);
    waiting.push(Waiting {
        kinds,
        wake: Arc::downgrade(&signal),
    });
    signal
}

/// Wakes those who wait for any of `kinds`.
pub(crate) fn wake<K: AsRef<str>>(kinds: &[K]) {
    let waiting = WAITING.lock().unwrap_or_else(PoisonError::into_inner);
    for it in waiting.iter() {
        let is_for = |kind: &&str| kinds.iter().any(|it| it.as_ref() == *kind);
        if it.kinds.iter().any(is_for)
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
        for _ in 0..3 {
            wake(&["note.added.v1"]);
        }
        notes.notified().await;
        for idle in [notes.notified(), files.notified()] {
            let short = Duration::from_millis(10);
            assert!(tokio::time::timeout(short, idle).await.is_err());
        }
    }
}
