//! A body that is compressed on its way out, piece by piece, on the thread that sends it.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    web::Bytes,
};
use tokio::sync::OwnedSemaphorePermit;

use super::encoder::Encoder;
use crate::http::pieces::Pieces;

/// The size of a sent piece, in bytes, unless the body pauses or ends.
const LEAST_CHUNK: usize = 8 * 1024;

/// Pieces that are compressed before others on the thread have their turn: what shrinks to nothing
/// would else keep it.
const PIECES_A_TURN: usize = 4;

/// See the module.
pub(super) struct Streamed {
    body: Pieces,
    /// `None` once the body has ended.
    encoder: Option<Encoder>,
    /// Whether the encoder may hold back something.
    is_dirty: bool,
    /// Counts the encoder; given back with it.
    _slot: OwnedSemaphorePermit,
}

type Chunk = Result<Bytes, <BoxBody as MessageBody>::Error>;

impl Streamed {
    pub(super) fn new(body: BoxBody, encoder: Encoder, slot: OwnedSemaphorePermit) -> Self {
        Self {
            body: Pieces::of(body),
            encoder: Some(encoder),
            is_dirty: false,
            _slot: slot,
        }
    }
}

impl MessageBody for Streamed {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Chunk>> {
        let this = &mut *self;
        let Some(encoder) = &mut this.encoder else {
            return Poll::Ready(None);
        };
        for _ in 0..PIECES_A_TURN {
            match Pin::new(&mut this.body).poll_next(context) {
                Poll::Ready(Some(piece)) => {
                    encoder.write(&piece?)?;
                    this.is_dirty = true;
                    if encoder.ready() >= LEAST_CHUNK {
                        return Poll::Ready(Some(Ok(encoder.take())));
                    }
                }
                Poll::Ready(None) => {
                    let end = this.encoder.take().map(Encoder::finish);
                    return Poll::Ready(end.transpose()?.map(Ok));
                }
                Poll::Pending if this.is_dirty => {
                    encoder.flush()?;
                    this.is_dirty = false;
                    return Poll::Ready(Some(Ok(encoder.take())));
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, sync::Arc, task::Waker};

    use actix_web::body::BodyStream;
    use futures_util::{StreamExt, stream};
    use tokio::sync::Semaphore;

    use super::{super::Coding, *};

    type Failure = Box<dyn std::error::Error>;

    fn streamed(coding: Coding, body: impl MessageBody + 'static) -> Result<Streamed, Failure> {
        let slot = Arc::new(Semaphore::new(1)).try_acquire_owned()?;
        Ok(Streamed::new(
            BoxBody::new(body),
            Encoder::new(coding)?,
            slot,
        ))
    }

    fn poll(streamed: &mut Streamed) -> Poll<Option<Chunk>> {
        Pin::new(streamed).poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_body_that_pauses_is_sent_so_far() -> Result<(), Failure> {
        for coding in [Coding::Zstd, Coding::Gzip] {
            let line = Bytes::from_static(b"a first line, and no more for now");
            let mut steps = [Poll::Ready(Some(Ok(line))), Poll::Pending].into_iter();
            let lines = stream::poll_fn(move |_| steps.next().unwrap_or(Poll::Ready(None)));
            let mut streamed = streamed(
                coding,
                BodyStream::new(lines.map(|line: Result<_, Infallible>| line)),
            )?;
            let Poll::Ready(Some(Ok(chunk))) = poll(&mut streamed) else {
                return Err(format!("{coding:?} keeps the line back").into());
            };
            assert!(chunk.len() > 10, "{coding:?}: {chunk:?}");
            assert!(matches!(poll(&mut streamed), Poll::Ready(Some(Ok(_)))));
            assert!(matches!(poll(&mut streamed), Poll::Ready(None)));
        }
        Ok(())
    }

    #[test]
    fn a_body_that_shrinks_to_nothing_leaves_the_thread_to_others() -> Result<(), Failure> {
        for coding in [Coding::Zstd, Coding::Gzip] {
            let zeros = stream::repeat(Bytes::from(vec![0; 16 * 1024]));
            let mut streamed = streamed(coding, BodyStream::new(zeros.map(Ok::<_, Infallible>)))?;
            let pauses = (0..100).filter(|_| poll(&mut streamed).is_pending());
            assert!(pauses.count() > 50, "{coding:?}");
        }
        Ok(())
    }
}
