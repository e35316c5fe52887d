//! Reads along on the stream from a PostgreSQL server, for what diesel does not hand on: the SQLSTATE of
//! each error, and how many statements of a script were done.
//!
//! Every stream is wrapped, encrypted or not, and what passes is left as it is. The protocol makes that
//! cheap: each message is a letter, a length and a body, and all bodies but those of errors are skipped.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};

use crate::{SqlState, monitor::ConnectionState};

/// Of an error's body no more than this is kept; its code stands near the beginning.
const BODY_KEPT: usize = 512;

/// Takes the stream apart into messages.
#[derive(Default)]
struct Messages {
    head: [u8; 5],
    head_len: usize,
    /// The rest of the current message's body.
    left: usize,
    body: Vec<u8>,
}

impl Messages {
    fn read(&mut self, mut bytes: &[u8], connection_state: &ConnectionState) {
        while !bytes.is_empty() {
            if self.left > 0 {
                let (here, rest) = bytes.split_at(self.left.min(bytes.len()));
                if self.head[0] == b'E' {
                    let wanted = BODY_KEPT.saturating_sub(self.body.len());
                    self.body.extend_from_slice(&here[..wanted.min(here.len())]);
                }
                self.left -= here.len();
                bytes = rest;
            } else {
                let missing = self.head.len() - self.head_len;
                let (here, rest) = bytes.split_at(missing.min(bytes.len()));
                self.head[self.head_len..self.head_len + here.len()].copy_from_slice(here);
                self.head_len += here.len();
                bytes = rest;
                if self.head_len < self.head.len() {
                    return;
                }
                let [_, length @ ..] = self.head;
                // The length counts itself.
                self.left = (u32::from_be_bytes(length) as usize).saturating_sub(4);
                self.head_len = 0;
                self.body.clear();
            }
            if self.left == 0 && self.head_len == 0 {
                self.end(connection_state);
            }
        }
    }

    fn end(&self, connection_state: &ConnectionState) {
        match self.head[0] {
            b'E' => {
                if let Some(state) = code_of(&self.body) {
                    connection_state.heard(state);
                }
            }
            b'C' => connection_state.completed(),
            _ => {}
        }
    }
}

/// An error's fields are a letter and a text that ends with 0 each; `C` is the code.
fn code_of(body: &[u8]) -> Option<SqlState> {
    body.split(|byte| *byte == 0)
        .find_map(|field| SqlState::parse(field.strip_prefix(b"C")?))
}

/// A stream, and who reads along.
pub(crate) struct ReadAlong<S> {
    stream: S,
    messages: Messages,
    connection_state: Arc<ConnectionState>,
    binding: fn(&S) -> ChannelBinding,
}

impl<S> ReadAlong<S> {
    /// Reads along on a stream that carries the protocol in the clear.
    pub(crate) fn plain(stream: S, connection_state: Arc<ConnectionState>) -> Self {
        Self {
            stream,
            messages: Messages::default(),
            connection_state,
            binding: |_| ChannelBinding::none(),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for ReadAlong<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(context, buffer);
        this.messages
            .read(&buffer.filled()[before..], &this.connection_state);
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for ReadAlong<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(context)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for ReadAlong<S> {
    fn channel_binding(&self) -> ChannelBinding {
        (self.binding)(&self.stream)
    }
}

/// Encrypts as `T` does, and reads along inside.
pub(crate) struct Encrypted<T>(pub(crate) T, pub(crate) Arc<ConnectionState>);

impl<S, T> TlsConnect<S> for Encrypted<T>
where
    T: TlsConnect<S>,
    T::Future: Send + 'static,
    T::Stream: Send + 'static,
{
    type Stream = ReadAlong<T::Stream>;
    type Error = Box<dyn std::error::Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Stream, Self::Error>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        let Self(tls, connection_state) = self;
        let connecting = tls.connect(stream);
        Box::pin(async move {
            Ok(ReadAlong {
                stream: connecting.await.map_err(Into::into)?,
                messages: Messages::default(),
                connection_state,
                binding: TlsStream::channel_binding,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::Alarms;

    fn message(kind: u8, body: &[u8]) -> Vec<u8> {
        let length = (body.len() as u32 + 4).to_be_bytes();
        [&[kind], &length[..], body].concat()
    }

    /// However the bytes are cut into reads.
    #[test]
    fn the_code_of_an_error_is_found_and_statements_are_counted() {
        let long = [b"SFATAL\0C57P01\0M".as_slice(), &[b'x'; 3000], b"\0\0"].concat();
        let stream = [
            message(b'Z', b"I"),
            message(b'C', b"INSERT 0 1\0"),
            message(b'D', b"EC40001\0"),
            message(b'C', b"INSERT 0 1\0"),
            message(b'1', b""),
            message(b'E', &long),
        ]
        .concat();
        for step in [1, 2, 3, 7, 4096] {
            let connection_state = ConnectionState::new(&Alarms::default());
            let mut messages = Messages::default();
            for part in stream.chunks(step) {
                messages.read(part, &connection_state);
            }
            assert_eq!(
                connection_state.last(),
                SqlState::parse(b"57P01"),
                "in steps of {step}"
            );
            assert_eq!(connection_state.statements_done(), 2);
        }
    }

    #[test]
    fn an_error_without_a_code_is_passed_over() {
        assert_eq!(code_of(b"SERROR\0Mno code\0\0"), None);
        assert_eq!(code_of(b""), None);
    }
}
