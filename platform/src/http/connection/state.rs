//! The phase of one connection, its begin, and the way to end it. Lives on its worker's thread only.

use std::{
    cell::Cell,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
};

use super::{
    limits::{Ending, Phase, Seen},
    worker::Clock,
};
use crate::http::body::Holding;

/// How many requests in a row a connection is answered before the others of its worker have their turn: as many as actix
/// takes from a connection's buffer at once.
const SHARE: u32 = 16;

/// The state of one connection, known to its stream, its worker and the requests on it.
pub(super) struct ConnectionState {
    clock: Clock,
    phase: Cell<Phase>,
    since: Cell<u64>,
    stalled_since: Cell<Option<u64>>,
    ending: Cell<Option<Ending>>,
    waker: Cell<Option<Waker>>,
    /// Requests since the client last let the server wait, or the server the client.
    in_a_row: Cell<u32>,
}

impl ConnectionState {
    pub(super) fn new(clock: Clock, phase: Phase) -> Self {
        Self {
            since: Cell::new(clock.now()),
            clock,
            phase: Cell::new(phase),
            stalled_since: Cell::new(None),
            ending: Cell::new(None),
            waker: Cell::new(None),
            in_a_row: Cell::new(0),
        }
    }

    pub(super) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(self.clock.now());
    }

    pub(super) fn seen(&self) -> Seen {
        let now = self.clock.now();
        Seen {
            phase: self.phase.get(),
            waited: now - self.since.get(),
            stalled: self.stalled_since.get().map(|since| now - since),
        }
    }

    pub(super) fn ending(&self) -> Option<Ending> {
        self.ending.get()
    }

    /// Has the connection end: its task is woken, and finds out when it reads or writes.
    pub(super) fn end(&self, ending: Ending) {
        self.ending.set(Some(ending));
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// The reader of the connection was notified of the end, which must now come soon.
    pub(super) fn close(&self) {
        self.ending.set(None);
        self.enter(Phase::Closing);
    }

    /// Something came from the client.
    pub(super) fn received(&self) {
        if self.phase.get() == Phase::Idle {
            self.ending.set(None);
            self.enter(Phase::Head);
        }
    }

    /// Nothing is there to be read.
    pub(super) fn drained(&self, context: &Context<'_>) {
        self.in_a_row.set(0);
        self.wait(context);
    }

    /// Something was taken by the client's side, or was not.
    pub(super) fn wrote<T>(&self, written: &Poll<T>, context: &Context<'_>) {
        if written.is_pending() {
            self.wait(context);
            if self.stalled_since.get().is_none() {
                self.stalled_since.set(Some(self.clock.now()));
            }
        } else if self.stalled_since.take().is_some() {
            // Until now it could not know that an answer is complete.
            self.since.set(self.clock.now());
        }
    }

    /// Remembers whom to wake when the connection has to end.
    pub(super) fn wait(&self, context: &Context<'_>) {
        let waker = match self.waker.take() {
            Some(waker) if waker.will_wake(context.waker()) => waker,
            _ => context.waker().clone(),
        };
        self.waker.set(Some(waker));
    }

    /// Runs `future` to its end, or until the connection has to end: then `None`.
    pub(super) async fn unless_ended<F: Future>(&self, future: F) -> Option<F::Output> {
        let mut future = pin!(future);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.ending.get().is_some() => Poll::Ready(None),
            Poll::Pending => {
                self.wait(context);
                Poll::Pending
            }
        })
        .await
    }

    /// Counts a request; whether the connection has had its share with those before it.
    fn has_had_its_share(&self) -> bool {
        let before = self.in_a_row.get();
        let had = before >= SHARE;
        self.in_a_row.set(if had { 1 } else { before + 1 });
        had
    }

    fn request_began(&self) {
        self.ending.set(None);
        self.enter(Phase::Request);
    }

    fn request_ended(&self) {
        if self.phase.get() == Phase::Request {
            self.enter(Phase::Idle);
        }
    }
}

/// Whether a request has to wait for the other connections of the worker. Without that a client that sends many requests
/// without waiting for the answers has some thousand of them answered before any other connection is read.
pub(in crate::http) fn must_wait_its_turn(request: &ServiceRequest) -> bool {
    let state = request.request().conn_data::<Rc<ConnectionState>>();
    state.is_some_and(|state| state.has_had_its_share())
}

/// Notes that a request was answered as soon as it was there, with a body that is complete.
pub(in crate::http) fn note_answered(response: &ServiceResponse) {
    if let Some(state) = response.request().conn_data::<Rc<ConnectionState>>() {
        state.enter(Phase::Idle);
    }
}

/// A request is under way on its connection for as long as this lives.
pub(in crate::http) struct Exchanging(Option<Rc<ConnectionState>>);

impl Exchanging {
    pub(in crate::http) fn begin(request: &ServiceRequest) -> Self {
        let state = request.request().conn_data::<Rc<ConnectionState>>();
        if let Some(state) = state {
            state.request_began();
        }
        Self(state.cloned())
    }

    /// The response, which keeps the request under way until its body has been written.
    pub(in crate::http) fn until_sent(self, response: ServiceResponse) -> ServiceResponse {
        if self.0.is_none()
            || matches!(
                response.response().body().size(),
                BodySize::None | BodySize::Sized(0)
            )
        {
            return response;
        }
        response.map_body(|_, body| match body.try_into_bytes() {
            // All of it is there, so it is written at once.
            Ok(bytes) => BoxBody::new(bytes),
            Err(body) => Holding::body(body, self),
        })
    }
}

impl Drop for Exchanging {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.request_ended();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_waits_after_its_share_unless_it_let_the_server_wait() {
        let state = ConnectionState::new(Clock::default(), Phase::Idle);
        let context = Context::from_waker(Waker::noop());
        let count = |requests: u32| (0..requests).filter(|_| state.has_had_its_share()).count();
        assert_eq!(count(SHARE), 0);
        assert_eq!(count(1), 1);
        assert_eq!(count(SHARE - 1), 0);
        assert_eq!(count(1), 1);
        for _ in 0..3 {
            state.drained(&context);
            assert_eq!(count(SHARE), 0);
        }
    }
}
