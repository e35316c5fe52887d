//! From an accepted socket to HTTP: the limits begin, then the TLS handshake where there is a certificate.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::dev::{Service, ServiceFactory};
use futures_util::future::LocalBoxFuture;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;

use super::{
    Connections, Cut,
    handshakes::Handshake,
    limits::Phase,
    state::ConnectionState,
    stream::{Connection, Stream},
    worker::Worker,
};
use crate::http::Workers;

/// Stands before the HTTP service of each worker, `F`.
pub(in crate::http) struct Acceptor<F> {
    connections: Arc<Connections>,
    workers: Option<Workers>,
    tls: Option<TlsAcceptor>,
    http: F,
}

impl<F> Acceptor<F> {
    /// Speaks TLS if there is a configuration for it. Each worker is watched by `workers`.
    pub(in crate::http) fn new(
        connections: Arc<Connections>,
        workers: Option<Workers>,
        tls: Option<Arc<rustls::ServerConfig>>,
        http: F,
    ) -> Self {
        Self {
            connections,
            workers,
            tls: tls.map(TlsAcceptor::from),
            http,
        }
    }
}

/// The receiver of a connection and its client's address.
type Accepted = (Connection, Option<SocketAddr>);

impl<F> ServiceFactory<TcpStream> for Acceptor<F>
where
    F: ServiceFactory<Accepted, Config = (), Response = ()>,
    F::Future: 'static,
    F::Service: 'static,
{
    type Response = ();
    type Error = ();
    type Config = ();
    type Service = Accepting<F::Service>;
    type InitError = ();
    type Future = LocalBoxFuture<'static, Result<Self::Service, ()>>;

    fn new_service(&self, (): ()) -> Self::Future {
        let (http, tls) = (self.http.new_service(()), self.tls.clone());
        let (connections, workers) = (Arc::clone(&self.connections), self.workers.clone());
        Box::pin(async move {
            let http = http.await.map_err(|_| ())?;
            if let Some(workers) = workers {
                workers.watch_this();
            }
            Ok(Accepting(Rc::new(Inner {
                worker: Worker::start(connections),
                tls,
                http,
            })))
        })
    }
}

/// One worker's acceptor.
pub(in crate::http) struct Accepting<S>(Rc<Inner<S>>);

struct Inner<S> {
    worker: Rc<Worker>,
    tls: Option<TlsAcceptor>,
    http: S,
}

impl<S> Service<TcpStream> for Accepting<S>
where
    S: Service<Accepted, Response = ()> + 'static,
{
    type Response = ();
    type Error = ();
    type Future = LocalBoxFuture<'static, Result<(), ()>>;

    fn poll_ready(&self, context: &mut Context<'_>) -> Poll<Result<(), ()>> {
        self.0.http.poll_ready(context).map_err(|_| ())
    }

    fn call(&self, socket: TcpStream) -> Self::Future {
        let inner = Rc::clone(&self.0);
        Box::pin(async move {
            // Without a peer it was reset before its turn came.
            let peer = socket.peer_addr().map_err(|_| ())?;
            let watched = inner.worker.watch(match inner.tls {
                None => Phase::Head,
                Some(_) => Phase::Handshake,
            });
            if inner.worker.shared().is_beyond_limit() {
                watched.count(Cut::AtLimit);
                return Err(());
            }
            let stream = match &inner.tls {
                None => Stream::Plain(socket),
                Some(tls) => {
                    let stream = inner.handshake(tls, socket, peer, &watched).await?;
                    watched.enter(Phase::Head);
                    stream
                }
            };
            let accepted = (Connection::new(stream, watched), Some(peer));
            // Only actix's log has its outcome: no caller could act upon it.
            inner.http.call(accepted).await.map_err(|_| ())
        })
    }
}

impl<S> Inner<S> {
    async fn handshake(
        &self,
        tls: &TlsAcceptor,
        socket: TcpStream,
        peer: SocketAddr,
        state: &ConnectionState,
    ) -> Result<Stream, ()> {
        let connections = self.worker.shared();
        let Some(_under_way) = Handshake::begin(connections, peer.ip()) else {
            connections.count(Cut::TooManyHandshakes);
            return Err(());
        };
        let handshake = async {
            // A session is set up, and memory taken for it, only when the client has begun to speak.
            socket.readable().await?;
            tls.accept(socket).await
        };
        let stream = state.unless_ended(handshake).await.ok_or(())?;
        Ok(Stream::Tls(Box::new(stream.map_err(|_| ())?)))
    }
}
