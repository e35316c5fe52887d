//! The pause between reads that a server has asked for, by `Retry-After`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Until when nothing is read. Nothing at first.
#[derive(Default)]
pub(crate) struct Pause(Mutex<Option<Instant>>);

impl Pause {
    /// Nothing is read for `pause` from now on.
    pub(crate) fn keep(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *kept = kept.max(Some(until));
    }

    /// The rest of it, if anything is; in whole seconds, rounded up.
    pub(crate) fn left(&self) -> Option<Duration> {
        let until = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let left = until.saturating_duration_since(Instant::now());
        (!left.is_zero()).then(|| Duration::from_secs(left.as_secs() + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_longer_of_two_pauses_is_kept_and_then_over() {
        let pause = Pause::default();
        assert_eq!(pause.left(), None);
        pause.keep(Duration::from_secs(9));
        pause.keep(Duration::from_secs(3));
        tokio::time::advance(Duration::from_millis(3500)).await;
        assert_eq!(pause.left(), Some(Duration::from_secs(6)));
        tokio::time::advance(Duration::from_millis(5500)).await;
        assert_eq!(pause.left(), None);
    }
}
