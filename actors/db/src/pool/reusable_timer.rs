//! A limit on the time of waiting and of work that is reset thousands of times a second.

use std::{cell::RefCell, future::poll_fn, pin::Pin, task::Poll};

use tokio::time::{Instant, Sleep, sleep_until};

thread_local! {
    /// Timers that work on this thread has left for the next.
    static SPARE: RefCell<Vec<ReusableTimer>> = const { RefCell::new(Vec::new()) };
}

/// More are not kept.
const SPARES: usize = 128;

/// A timer that one piece of work leaves to another. A new one for each would be entered into the runtime's
/// timers and taken out again, both under a lock that all threads share; this one is left where it is, and
/// moved only when it goes off too early.
///
/// All of a thread's are of the runtime that the thread belongs to.
pub(crate) struct ReusableTimer {
    timer: Pin<Box<Sleep>>,
    /// When it goes off.
    at: Instant,
}

impl ReusableTimer {
    /// One that was left, or a new one.
    pub(crate) fn take() -> Self {
        let left = SPARE.with_borrow_mut(Vec::pop);
        left.unwrap_or_else(|| {
            let at = Instant::now();
            let timer = Box::pin(sleep_until(at));
            Self { timer, at }
        })
    }

    /// Leaves it to others.
    pub(crate) fn leave(self) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARES {
                spare.push(self);
            }
        });
    }

    /// The result of `work`, or `None` if it does not end by `deadline`. Takes it by reference: it would have
    /// its place twice in the caller otherwise.
    pub(crate) async fn until<T>(
        &mut self,
        deadline: Instant,
        mut work: Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        if self.at > deadline {
            self.set(deadline);
        }
        poll_fn(|context| {
            if let Poll::Ready(done) = work.as_mut().poll(context) {
                return Poll::Ready(Some(done));
            }
            while self.timer.as_mut().poll(context).is_ready() {
                if Instant::now() >= deadline {
                    return Poll::Ready(None);
                }
                // It was set for a former piece of work.
                self.set(deadline);
            }
            Poll::Pending
        })
        .await
    }

    fn set(&mut self, deadline: Instant) {
        self.timer.as_mut().reset(deadline);
        self.at = deadline;
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, pin::pin, time::Duration};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn each_piece_of_work_has_all_of_its_time_and_no_more() {
        let mut timer = ReusableTimer::take();
        for _ in 0..3 {
            // So that the timer goes off within the work after it.
            let short = tokio::time::sleep(LIMIT * 7 / 10);
            assert_eq!(
                timer.until(Instant::now() + LIMIT, pin!(short)).await,
                Some(())
            );
        }
        let began = Instant::now();
        assert_eq!(
            timer
                .until(Instant::now() + LIMIT, pin!(pending::<()>()))
                .await,
            None
        );
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs());
        // Also after it was used up, and with a shorter limit than before.
        assert_eq!(
            timer.until(Instant::now() + LIMIT, pin!(async { 1 })).await,
            Some(1)
        );
        let began = Instant::now();
        assert_eq!(
            timer
                .until(Instant::now() + LIMIT / 2, pin!(pending::<()>()))
                .await,
            None
        );
        assert_eq!(began.elapsed().as_secs(), LIMIT.as_secs() / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_was_idle_for_long_begins_again() {
        let mut timer = ReusableTimer::take();
        timer.until(Instant::now() + LIMIT, pin!(async {})).await;
        timer.leave();
        tokio::time::sleep(LIMIT * 100).await;
        let mut timer = ReusableTimer::take();
        let work = tokio::time::sleep(LIMIT * 9 / 10);
        assert_eq!(
            timer.until(Instant::now() + LIMIT, pin!(work)).await,
            Some(())
        );
    }
}
