//! A bound on the time of work that is set anew for each piece of it, thousands of times a second.

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    task::Poll,
};

use tokio::time::{Instant, Sleep, sleep_until};

/// A timer that stays with its connection. A new one for each piece of work would be entered into the
/// runtime's timers and taken out again, both under a lock that all threads share; this one is left where
/// it is, and moved only when it goes off too early.
#[derive(Default)]
pub(super) struct Patience(Option<Pin<Box<Sleep>>>);

impl Patience {
    /// What `work` comes to, or `None` if it is not done by `deadline`. Must run on one runtime always.
    pub(super) async fn until<T>(
        &mut self,
        deadline: Instant,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let timer = self
            .0
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if timer.deadline() > deadline {
            timer.as_mut().reset(deadline);
        }
        let mut work = pin!(work);
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            while timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                // It was set for a former piece of work.
                timer.as_mut().reset(deadline);
            }
            Poll::Pending
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, time::Duration};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_piece_of_work_has_all_of_its_time_and_no_more() {
        let mut patience = Patience::default();
        for _ in 0..3 {
            // So that the timer goes off within the work after it.
            let short = tokio::time::sleep(LIMIT * 7 / 10);
            assert_eq!(
                patience.until(Instant::now() + LIMIT, short).await,
                Some(())
            );
        }
        let began = Instant::now();
        assert_eq!(
            patience
                .until(Instant::now() + LIMIT, pending::<()>())
                .await,
            None
        );
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
        // Also after it was used up, and with a shorter limit than before.
        assert_eq!(
            patience.until(Instant::now() + LIMIT, async { 1 }).await,
            Some(1)
        );
        let began = Instant::now();
        assert_eq!(
            patience
                .until(Instant::now() + LIMIT / 2, pending::<()>())
                .await,
            None
        );
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs() / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_idle_for_long_begins_anew() {
        let mut patience = Patience::default();
        patience.until(Instant::now() + LIMIT, async {}).await;
        tokio::time::sleep(LIMIT * 100).await;
        let work = tokio::time::sleep(LIMIT * 9 / 10);
        assert_eq!(patience.until(Instant::now() + LIMIT, work).await, Some(()));
    }
}
