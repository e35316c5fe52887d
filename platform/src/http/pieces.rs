//! Bodies are sent piece by piece.
//!
//! actix copies each chunk of a body as a whole into the connection's buffer before it writes. A body
//! of megabytes that all requests share would so be there once more for each client that does not read.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use actix_web::{
    body::{BodySize, BoxBody, MessageBody},
    dev::ServiceResponse,
    web::Bytes,
};

/// Longest piece in bytes; as much as actix lets wait in a connection's buffer before it writes.
const PIECE: usize = 32 * 1024;

/// A body in pieces of at most [`PIECE`].
pub(super) struct Pieces {
    body: BoxBody,
    /// The rest of the body's last chunk.
    rest: Bytes,
}

impl Pieces {
    pub(super) fn of(body: BoxBody) -> Self {
        Self {
            body,
            rest: Bytes::new(),
        }
    }
}

/// The response with a body in pieces, unless it is short anyway.
pub(super) fn cut(response: ServiceResponse) -> ServiceResponse {
    match response.response().body().size() {
        BodySize::None => response,
        BodySize::Sized(bytes) if bytes <= PIECE as u64 => response,
        _ => response.map_body(|_, body| BoxBody::new(Pieces::of(body))),
    }
}

impl MessageBody for Pieces {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.body.size()
    }

    fn poll_next(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Self::Error>>> {
        if self.rest.is_empty() {
            match Pin::new(&mut self.body).poll_next(context) {
                Poll::Ready(Some(Ok(chunk))) => self.rest = chunk,
                other => return other,
            }
        }
        let piece = self.rest.len().min(PIECE);
        Poll::Ready(Some(Ok(self.rest.split_to(piece))))
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::poll_fn};

    use actix_web::{HttpResponse, body::BodyStream, test::TestRequest};
    use futures_util::{StreamExt, stream};

    use super::*;

    #[actix_web::test]
    async fn no_piece_is_long_and_none_is_lost() -> Result<(), Box<dyn std::error::Error>> {
        let body: Bytes = (0..200_000).map(|n| n as u8).collect();
        let whole = HttpResponse::Ok().body(body.clone());
        let chunks = stream::iter([body.clone()]).map(Ok::<_, Infallible>);
        let streamed = HttpResponse::Ok().body(BodyStream::new(chunks));
        for (response, size) in [
            (whole, BodySize::Sized(200_000)),
            (streamed, BodySize::Stream),
        ] {
            let response = cut(TestRequest::get().to_srv_response(response));
            let mut sent = Vec::new();
            let mut left = response.into_body();
            assert_eq!(left.size(), size);
            while let Some(piece) = poll_fn(|context| Pin::new(&mut left).poll_next(context)).await
            {
                let piece = piece.map_err(|error| error.to_string())?;
                assert!(!piece.is_empty() && piece.len() <= PIECE, "{}", piece.len());
                sent.extend_from_slice(&piece);
            }
            assert!(sent == body);
        }
        Ok(())
    }
}
