//! What handlers can know of the client and of the process: its address, and whether a drain has begun.

use std::{
    future::{Ready, ready},
    net::IpAddr,
    sync::Arc,
};

use actix_web::{FromRequest, HttpRequest, dev::Payload};

use super::{Argument, Operation};
use crate::http::{self, Problem, ProcessState};

/// The client's address: that of the peer, or what trusted proxies (`DOTMAC_HTTP_TRUSTED_PROXIES`) say of it. What the
/// client itself writes into `X-Forwarded-For` has no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress(pub IpAddr);

/// Says when the process begins to drain: for handlers that take long (streams, long polls), which then end by
/// themselves before they are cut off.
///
/// ```
/// # use std::time::Duration;
/// # use dotmac_platform::{access::Public, routing::Drain};
/// # async fn next_event() -> Option<String> { None }
/// async fn poll(_: Public, drain: Drain) -> String {
///     tokio::select! {
///         event = next_event() => event.unwrap_or_default(),
///         () = drain.begun() => String::new(),
///     }
/// }
/// ```
#[derive(Clone)]
pub struct Drain(Arc<dyn ProcessState>);

impl Drain {
    /// Whether it has begun.
    #[must_use]
    pub fn is_begun(&self) -> bool {
        http::is_draining(&self.0.board())
    }

    /// Waits until it begins; returns at once if it has.
    pub async fn begun(&self) {
        self.0.draining().await;
    }
}

impl FromRequest for ClientAddress {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let (client, _) = http::origin(request);
        let unknown = || Problem::internal("a connection without an address");
        ready(client.map(Self).ok_or_else(unknown))
    }
}

impl Argument for ClientAddress {
    fn describe(_: &mut Operation) {}
}

impl FromRequest for Drain {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(http::vitals(request).map(Self))
    }
}

impl Argument for Drain {
    fn describe(_: &mut Operation) {}
}
