//! Runs the code of a child so that neither a panic nor a lost thread goes unnoticed.

use std::{
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    task::Poll,
};

use tracing::Span;

use super::wire::Notice;
use crate::{Cause, Lifeline};

/// Runs `future` to its end; `None` if it panicked, also if that was while it was dropped. Only its first
/// poll is within `span`: what goes on for ever belongs to no start.
///
/// The drop may run code of the child's, an actor's `stopped` among it. That must not happen during an
/// unwinding, where a second panic aborts the process: so the future lives outside what is caught, and
/// is dropped in its own catch.
pub(crate) async fn run_guarded<F: Future>(future: F, span: Span) -> Option<F::Output> {
    let mut future = Box::pin(future);
    let mut span = Some(span);
    let output = poll_fn(|cx| {
        let begins_in = span.take().unwrap_or_else(Span::none);
        let poll = || begins_in.in_scope(|| future.as_mut().poll(cx));
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => Poll::Ready(None),
        }
    })
    .await;
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(future)));
    output.filter(|_| dropped.is_ok())
}

/// Reports to the supervisor that a life is over, however it ends: also when the task that holds this is
/// dropped, because its thread is torn down or because the life was ended.
pub(crate) struct Exit {
    pub(crate) life: Lifeline,
    /// `None` if it ended as asked.
    pub(crate) cause: Option<Cause>,
}

impl Exit {
    /// For `life`. Made before the task that is to hold it, which may be dropped before its first poll.
    pub(crate) fn of(life: Lifeline) -> Self {
        Self {
            life,
            cause: Some(Cause::ThreadLost),
        }
    }
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.life.revoke();
        let withdrawn = self.life.take_withdrawn();
        // The hook has logged it if one of them panics, and there is no life left to charge it to.
        catch_unwind(AssertUnwindSafe(|| drop(withdrawn))).ok();
        self.life.signal(Notice::Exited(self.cause));
    }
}
