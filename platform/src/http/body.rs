//! Bounds a request's body for any reader, and counts the received bytes.
//!
//! actix's limits hold in its extractors only; a handler that reads the raw payload would take a
//! chunked body without end. A body that was not complete means a slow client (408), otherwise it is a slow
//! handler (504). And an unread body must not be drained without end: see [`BoundedBody::hold`].

use std::{
    cell::{Cell, RefCell},
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{
    HttpMessage,
    body::{BodySize, BoxBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    error::PayloadError,
    web::Bytes,
};
use futures_util::Stream;

use super::{expectation::BodyWanted, guard::Limits, nul::NulSearch};

/// How far a body came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// No reader waits for more at the moment.
    Open,
    /// A reader waits for the client to send more.
    Awaited,
    /// More came than may.
    TooLarge,
    /// It is a text with a NUL.
    HasNul,
    /// All of it came, or there was none.
    Complete,
}

/// The body of one request on its way in.
pub(super) struct BoundedBody(Option<Rc<Shared>>);

struct Shared {
    payload: RefCell<Payload>,
    arrival: Cell<Arrival>,
}

impl BoundedBody {
    /// Puts a body in the request's place that ends with [`PayloadError::Overflow`] after as many bytes as `limits` say, or
    /// at a NUL in a text. Costs nothing if there is no body. What follows an upgrade (WebSocket) is no
    /// body.
    pub(super) fn bound(request: &mut ServiceRequest, limits: Limits) -> Self {
        if request.head().upgrade() {
            return Self(None);
        }
        let payload = match std::mem::replace(request.parts_mut().1, Payload::None) {
            Payload::None => return Self(None),
            payload => RefCell::new(payload),
        };
        let shared = Rc::new(Shared {
            payload,
            arrival: Cell::new(Arrival::Open),
        });
        let bounded: Pin<Box<dyn Stream<Item = Chunk>>> = Box::pin(Bounded {
            shared: Rc::clone(&shared),
            left: limits.body,
            nul: NulSearch::of(request.headers()).filter(|_| !limits.takes_bytes),
            wanted: request.extensions().get::<BodyWanted>().cloned(),
        });
        request.set_payload(Payload::Stream { payload: bounded });
        Self(Some(shared))
    }

    pub(super) fn arrival(&self) -> Arrival {
        self.0
            .as_ref()
            .map_or(Arrival::Complete, |shared| shared.arrival.get())
    }

    /// Keeps an unread body alive until the response is sent.
    ///
    /// actix reads on for ever, without any time-out, what is left of a chunked body that was dropped
    /// (actix-http 3.20, `should_close_for_unread_payload`). One that is still held when the response
    /// ends makes it close the connection instead.
    pub(super) fn hold(&self, response: ServiceResponse) -> ServiceResponse {
        match &self.0 {
            Some(shared) if shared.arrival.get() != Arrival::Complete => {
                let held = Rc::clone(shared);
                response.map_body(|_, body| Holding::body(body, held))
            }
            _ => response,
        }
    }
}

type Chunk = Result<Bytes, PayloadError>;

struct Bounded {
    shared: Rc<Shared>,
    left: usize,
    nul: Option<NulSearch>,
    /// For a client that waits to be asked.
    wanted: Option<BodyWanted>,
}

impl Stream for Bounded {
    type Item = Chunk;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        if let Some(wanted) = self.wanted.take() {
            wanted.set();
        }
        let polled = Pin::new(&mut *self.shared.payload.borrow_mut()).poll_next(context);
        let (arrival, polled) = match polled {
            Poll::Pending => (Arrival::Awaited, Poll::Pending),
            Poll::Ready(None) => (Arrival::Complete, Poll::Ready(None)),
            Poll::Ready(Some(Ok(chunk))) => match self.left.checked_sub(chunk.len()) {
                Some(_) if self.nul.as_mut().is_some_and(|nul| nul.finds(&chunk)) => {
                    let error = PayloadError::Incomplete(None);
                    (Arrival::HasNul, Poll::Ready(Some(Err(error))))
                }
                Some(left) => {
                    self.left = left;
                    (Arrival::Open, Poll::Ready(Some(Ok(chunk))))
                }
                None => (
                    Arrival::TooLarge,
                    Poll::Ready(Some(Err(PayloadError::Overflow))),
                ),
            },
            error => (Arrival::Open, error),
        };
        self.shared.arrival.set(arrival);
        polled
    }
}

impl Drop for Bounded {
    fn drop(&mut self) {
        // A reader that gave up waits no longer.
        if self.shared.arrival.get() == Arrival::Awaited {
            self.shared.arrival.set(Arrival::Open);
        }
    }
}

/// A response's body that keeps something else alive until it has been written.
pub(super) struct Holding<T> {
    body: BoxBody,
    _held: T,
}

impl<T: Unpin + 'static> Holding<T> {
    pub(super) fn body(body: BoxBody, held: T) -> BoxBody {
        BoxBody::new(Self { body, _held: held })
    }
}

impl<T: Unpin> MessageBody for Holding<T> {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.body).poll_next(context)
    }
}
