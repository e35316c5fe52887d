//! The stream from which actix reads requests and to which it writes answers: a socket, or TLS on one, under its
//! limits.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::dev::Extensions;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{Cut, limits::Ending, worker::Watched};

/// Said to a client that began a request and did not end it.
const LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";

/// The bytes of a connection.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// A connection that its worker can end.
pub(in crate::http) struct Connection {
    stream: Stream,
    watched: Watched,
}

impl Connection {
    pub(super) fn new(stream: Stream, watched: Watched) -> Self {
        Self { stream, watched }
    }

    /// Makes the connection's state known to the requests on it.
    pub(in crate::http) fn introduce(&self, data: &mut Extensions) {
        data.insert(Rc::clone(self.watched.state()));
    }

    fn socket(&self) -> &TcpStream {
        match &self.stream {
            Stream::Plain(socket) => socket,
            Stream::Tls(tls) => tls.get_ref().0,
        }
    }

    /// Reads without regard to limits.
    fn read(
        &mut self,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_read(context, buffer),
            Stream::Tls(tls) => Pin::new(tls).poll_read(context, buffer),
        }
    }

    fn write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Plain(socket) => Pin::new(socket).poll_write(context, bytes),
            Stream::Tls(tls) => Pin::new(tls).poll_write(context, bytes),
        }
    }

    /// Writes by `write`, unless the connection has been given up; notes whether the client takes it.
    fn watch_writing<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(&mut Self, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if self.watched.ending() == Some(Ending::Abort) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let written = write(self, context);
        self.watched.wrote(&written, context);
        self.note_failure(&written);
        written
    }

    /// The kernel has the same limit on what it has taken over to send (`bind`), and may be first to say so.
    fn note_failure<T>(&self, outcome: &Poll<io::Result<T>>) {
        if let Poll::Ready(Err(error)) = outcome
            && error.kind() == io::ErrorKind::TimedOut
        {
            self.watched.count(Cut::WriteTimeout);
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match this.watched.ending() {
            Some(Ending::Abort) => return Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Some(Ending::Late) => {
                this.watched.close();
                // Nothing else is being written now. A client that takes not even this gets nothing.
                drop(this.write(context, LATE));
                return Poll::Ready(Ok(()));
            }
            Some(Ending::Quiet) | None => {}
        }
        let before = buffer.filled().len();
        let read = this.read(context, buffer);
        this.note_failure(&read);
        match &read {
            Poll::Pending if this.watched.ending() == Some(Ending::Quiet) => {
                this.watched.close();
                return Poll::Ready(Ok(()));
            }
            Poll::Pending => this.watched.drained(context),
            // actix answers what came before a reset. It has no reader.
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            Poll::Ready(_) if buffer.filled().len() > before => this.watched.received(),
            Poll::Ready(_) => {}
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut()
            .watch_writing(context, |this, context| this.write(context, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match &mut this.stream {
            // A socket has nothing to flush, and this is asked after each answer.
            Stream::Plain(_) => Poll::Ready(Ok(())),
            Stream::Tls(_) => this.watch_writing(context, |this, context| match &mut this.stream {
                Stream::Plain(_) => Poll::Ready(Ok(())),
                Stream::Tls(tls) => Pin::new(tls).poll_flush(context),
            }),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut()
            .watch_writing(context, |this, context| match &mut this.stream {
                Stream::Plain(socket) => Pin::new(socket).poll_shutdown(context),
                Stream::Tls(tls) => Pin::new(tls).poll_shutdown(context),
            })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.watched.ending() == Some(Ending::Abort) {
            // Unread data must not stay in the kernel. Fails if it has hung up.
            SockRef::from(self.socket())
                .set_linger(Some(Duration::ZERO))
                .ok();
        }
    }
}
