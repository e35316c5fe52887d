//! Sending a call and reading its answer: place, name, verdict, connection, answer, and the next hop.
//!
//! `reqwest` and what is below it log URLs at their own levels; we report every failure ourselves, so their events are
//! switched off around each call.

use std::{
    net::IpAddr,
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use reqwest::{
    Client, ClientBuilder, Method, Proxy, Response,
    header::{ACCEPT, ACCEPT_LANGUAGE, HeaderMap, HeaderName, LOCATION, USER_AGENT},
    redirect,
};
use tokio::time::{Instant, timeout};
use tracing::{Dispatch, Instrument, instrument::WithSubscriber};
use url::Url;

use super::{
    EgressAnswer, EgressError, EgressRequest, Inner,
    lookup::Pinned,
    measure::Measured,
    policy::Destination,
    pool::{IDLE, Route},
    slots::Slot,
    span,
};

/// Headers that another host may be sent.
const FOR_ANY_HOST: [HeaderName; 3] = [ACCEPT, ACCEPT_LANGUAGE, USER_AGENT];

/// The part of the time of a call that opening a connection may take: so it is known of most calls that end without an answer
/// whether the host was given anything.
const TO_CONNECT: f64 = 0.6;

/// How long a call waits for a place before its time begins, as a part of that time.
const TO_WAIT: f64 = 0.25;

/// The default `User-Agent` of calls.
const AGENT: &str = concat!("dotmac-platform/", env!("CARGO_PKG_VERSION"));

/// How far a call is, over all its hops.
#[derive(Default)]
struct Progress {
    /// When it had its first place: its time counts from then on.
    began: OnceLock<Instant>,
    /// Whether a host may have been given the request.
    is_sent: AtomicBool,
}

impl EgressRequest {
    pub(super) async fn exchange(mut self) -> Result<EgressAnswer, EgressError> {
        let url = self.url.clone()?;
        self.follow(url, &Progress::default()).await
    }

    /// Sends it to `url`, and on to where the answer leads.
    async fn follow(
        &mut self,
        mut url: Url,
        progress: &Progress,
    ) -> Result<EgressAnswer, EgressError> {
        let mut followed = 0;
        loop {
            let destination = Destination::of(&url)?;
            let answer = self.attempt(&url, &destination, progress).await?;
            if self.redirects == 0 || !matches!(self.method, Method::GET | Method::HEAD) {
                return Ok(answer);
            }
            let Some(next) = next_hop(&url, &answer) else {
                return Ok(answer);
            };
            let host = destination.host;
            let refused = |problem| EgressError::RedirectRefused { host, problem };
            if followed == self.redirects {
                return Err(refused("there were too many"));
            }
            let next = next.map_err(|_| EgressError::InvalidUrl {
                problem: "its target is not a URL",
            })?;
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(refused("it leads from https to http"));
            }
            if url.origin() != next.origin() {
                self.headers = for_any_host(&self.headers);
            }
            followed += 1;
            url = next;
        }
    }

    /// One attempt, within its own span.
    async fn attempt(
        &self,
        url: &Url,
        destination: &Destination,
        progress: &Progress,
    ) -> Result<EgressAnswer, EgressError> {
        let (attempt, measured) = (span::of(&self.method, destination), Measured::begin());
        let within = async {
            let mut headers = self.headers.clone();
            span::inject(&mut headers);
            let sending = self.send_to(url, destination, headers, progress);
            sending.with_subscriber(Dispatch::none()).await
        };
        let outcome = within.instrument(attempt.span.clone()).await;
        attempt.finish(&outcome);
        measured.end(&outcome);
        outcome
    }

    /// Sends it once there is a place, within the time that is left.
    async fn send_to(
        &self,
        url: &Url,
        destination: &Destination,
        headers: HeaderMap,
        progress: &Progress,
    ) -> Result<EgressAnswer, EgressError> {
        let _slot = self.place(destination, progress).await?;
        let began = progress.began.get_or_init(Instant::now);
        let left = self.timeout.saturating_sub(began.elapsed());
        let calling = Box::pin(self.call(url, destination, headers, &progress.is_sent));
        let outcome = timeout(left, calling).await;
        outcome.unwrap_or_else(|_| Err(self.late(destination, progress)))
    }

    /// A place for an attempt. What waits in vain for the first one was not tried; a further hop waits within the time of its
    /// call.
    async fn place(
        &self,
        destination: &Destination,
        progress: &Progress,
    ) -> Result<Slot, EgressError> {
        let slots = &self.egress.0.slots;
        let (left, over) = match progress.began.get() {
            Some(began) => {
                let left = self.timeout.saturating_sub(began.elapsed());
                (left, self.late(destination, progress))
            }
            None => {
                let host = destination.host.clone();
                (self.timeout.mul_f64(TO_WAIT), EgressError::Busy { host })
            }
        };
        let taken = timeout(left, slots.take(destination)).await;
        taken.unwrap_or(Err(over))
    }

    /// Its time is over.
    fn late(&self, destination: &Destination, progress: &Progress) -> EgressError {
        EgressError::Timeout {
            host: destination.host.clone(),
            limit: self.timeout,
            is_sent: progress.is_sent.load(Relaxed),
        }
    }

    async fn call(
        &self,
        url: &Url,
        destination: &Destination,
        headers: HeaderMap,
        sent: &AtomicBool,
    ) -> Result<EgressAnswer, EgressError> {
        let inner = &*self.egress.0;
        let addresses = inner.addresses(destination).await?;
        inner.config.policy.judge(destination, &addresses)?;
        let client = inner.client(destination, addresses).await?;
        let request = client
            .request(self.method.clone(), url.clone())
            .headers(headers);
        let request = if self.body.is_empty() {
            request
        } else {
            request.body(self.body.clone())
        };
        let failed = |error| failure(destination, &error);
        sent.store(true, Relaxed);
        let mut answer = request.send().await.map_err(failed)?;
        let status = answer.status();
        let headers = std::mem::take(answer.headers_mut());
        let is_direct = inner.config.proxy.is_none();
        let address = answer.remote_addr().filter(|_| is_direct);
        let limit = self.answer_limit;
        let said = answer.content_length().unwrap_or_default();
        let is_said_long = usize::try_from(said).map_or(true, |said| said > limit);
        let mut read = (Bytes::new(), is_said_long);
        if !is_said_long || self.cuts_answer {
            read = read_up_to(limit, &mut answer, destination).await?;
        }
        let (body, is_cut) = read;
        if is_cut && !self.cuts_answer {
            let host = destination.host.clone();
            return Err(EgressError::AnswerTooLarge { host, limit });
        }
        Ok(EgressAnswer {
            status,
            headers,
            body,
            is_cut,
            address: address.map(|it| it.ip()),
        })
    }
}

impl Inner {
    /// All addresses of the destination, as they are now.
    async fn addresses(&self, destination: &Destination) -> Result<Vec<IpAddr>, EgressError> {
        match destination.literal {
            Some(address) => Ok(vec![address]),
            None => self.resolve(&destination.host).await,
        }
    }

    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, EgressError> {
        let found = self.lookup.addresses(host).await;
        found.map_err(|_| EgressError::NotResolved {
            host: host.to_owned(),
        })
    }

    /// A client that knows no other addresses than those that were judged: one whose connections are kept, or a new one.
    /// Through a proxy it knows those of the proxy, which an operator chose, and keeps none: a tunnel leads wherever the proxy
    /// resolved the name to at that time.
    async fn client(
        &self,
        destination: &Destination,
        judged: Vec<IpAddr>,
    ) -> Result<Client, EgressError> {
        let Some(proxy) = &self.config.proxy else {
            let route = Route::of(destination, &judged);
            if let Some(client) = route.as_ref().and_then(|route| self.pool.get(route)) {
                return Ok(client);
            }
            let most = route.as_ref().map_or(0, |_| self.pool.each());
            let builder = self
                .builder()
                .no_proxy()
                .dns_resolver(Pinned(judged))
                .pool_max_idle_per_host(most)
                .pool_idle_timeout(IDLE);
            let builder = self.with_tls(builder, destination.is_encrypted).await?;
            let client = builder.build().map_err(unusable)?;
            return Ok(match route {
                Some(route) => self.pool.put(route, client),
                None => client,
            });
        };
        let addresses = self.addresses(&Destination::of(proxy)?).await?;
        let needs_tls = destination.is_encrypted || proxy.scheme() == "https";
        let proxy = Proxy::all(proxy.clone()).map_err(unusable)?;
        let builder = self
            .builder()
            .proxy(proxy)
            .dns_resolver(Pinned(addresses))
            .pool_max_idle_per_host(0);
        let builder = self.with_tls(builder, needs_tls).await?;
        builder.build().map_err(unusable)
    }

    /// The settings that all clients share, with and without a proxy.
    fn builder(&self) -> ClientBuilder {
        Client::builder()
            .http1_only()
            .no_gzip()
            .no_brotli()
            .no_zstd()
            .no_deflate()
            .connect_timeout(self.config.timeout.mul_f64(TO_CONNECT))
            .redirect(redirect::Policy::none())
            .referer(false)
            .retry(reqwest::retry::never())
            .user_agent(AGENT)
    }

    async fn with_tls(
        &self,
        builder: ClientBuilder,
        needs_tls: bool,
    ) -> Result<ClientBuilder, EgressError> {
        Ok(if needs_tls {
            builder.tls_backend_preconfigured(self.tls.config().await?)
        } else {
            // Nothing is encrypted, so nothing need be trusted.
            builder.tls_certs_only(Vec::new())
        })
    }
}

fn unusable(error: reqwest::Error) -> EgressError {
    EgressError::Unusable {
        problem: dotmac_causes::root(&error).to_string(),
    }
}

/// Reads the body up to `limit`, and whether there is more. Counted: what the answer says of its length is a claim.
async fn read_up_to(
    limit: usize,
    answer: &mut Response,
    destination: &Destination,
) -> Result<(Bytes, bool), EgressError> {
    let mut body = Vec::new();
    let lost = |error| failure(destination, &error);
    while let Some(piece) = answer.chunk().await.map_err(lost)? {
        let room = limit - body.len();
        if piece.len() > room {
            body.extend_from_slice(&piece[..room]);
            return Ok((body.into(), true));
        }
        body.extend_from_slice(&piece);
    }
    Ok((body.into(), false))
}

/// Where an answer leads on to, if it is a redirect.
fn next_hop(from: &Url, answer: &EgressAnswer) -> Option<Result<Url, url::ParseError>> {
    if !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.headers.get(LOCATION)?;
    let location = String::from_utf8_lossy(location.as_bytes());
    Some(from.join(&location))
}

fn for_any_host(headers: &HeaderMap) -> HeaderMap {
    let kept = FOR_ANY_HOST.into_iter();
    kept.filter_map(|name| Some((name.clone(), headers.get(&name)?.clone())))
        .collect()
}

/// Whether a TLS session was refused; there are other reasons for no answer.
fn failure(destination: &Destination, error: &reqwest::Error) -> EgressError {
    let host = destination.host.clone();
    let is_sent = !error.is_connect();
    match dotmac_causes::find::<rustls::Error>(error) {
        Some(tls) if !is_sent => EgressError::TlsFailed {
            host,
            problem: tls.to_string(),
        },
        _ => EgressError::ConnectionFailed {
            host,
            problem: dotmac_causes::root(error).to_string(),
            is_sent,
        },
    }
}
