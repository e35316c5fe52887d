//! The state of one request while it runs, its span, its access log line and its metric attributes.
//!
//! The span is made here and not by tracing-actix-web: that crate's newest OpenTelemetry feature
//! belongs to another OpenTelemetry version, its default span carries header values and the query
//! string, and it would be one more layer around each request. Names follow the OpenTelemetry
//! semantic conventions for HTTP. Nothing is recorded that a client could use to smuggle in secrets
//! or unbounded values: no query, no header, no method outside the known ones.

use std::{borrow::Cow, net::IpAddr, rc::Rc, time::Instant};

use actix_web::{
    HttpMessage, HttpRequest,
    body::{BodySize, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header::HeaderMap},
};
use opentelemetry::{KeyValue, global, propagation::Extractor};
use tracing::{Span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{
    Problem, RequestId,
    body::{Arrival, BoundedBody},
    guard::{Limits, RequestLimits},
    trusted::Trusted,
};

/// Target of the access log, so that it can be filtered alone.
const ACCESS: &str = "dotmac::access";

/// Longest name of a user that is logged, in characters.
const USER_CHARS: usize = 128;

/// Who sends a request, for its access line and its span. The authenticator inserts it into the request's extensions,
/// before the handler or within it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User(String);

impl User {
    /// A user by an id that may be logged; what is beyond 128 characters is cut.
    pub fn new(id: &str) -> Self {
        let end = id.char_indices().nth(USER_CHARS);
        Self(id[..end.map_or(id.len(), |(at, _)| at)].to_owned())
    }
}

/// The client's address, and whether the client speaks TLS to us or to a trusted proxy.
pub(crate) fn origin(request: &HttpRequest) -> (Option<IpAddr>, bool) {
    let extensions = request.extensions();
    let exchange = extensions.get::<Rc<Exchange>>();
    exchange.map_or((None, false), |exchange| {
        (exchange.client, exchange.scheme == "https")
    })
}

/// One request, as known before it is routed; kept in the request's extensions.
pub(super) struct Exchange {
    id: RequestId,
    method: &'static str,
    scheme: &'static str,
    route: Option<String>,
    path: String,
    /// The replacement of a path with a secret in it.
    shown_path: Option<String>,
    client: Option<IpAddr>,
    limits: Limits,
    body: BoundedBody,
    started: Instant,
}

impl Exchange {
    /// Reads the request and bounds its body; `method` is what the client sent, as HEAD is routed as GET.
    pub(super) fn of(
        request: &mut ServiceRequest,
        method: &Method,
        trusted: &Trusted,
        limits: &RequestLimits,
    ) -> Self {
        let route = request.match_pattern();
        let shown_path = limits.secret_path(route.as_deref(), request.path());
        let shown_path = shown_path.map(str::to_owned);
        let limits = limits.of(route.as_deref(), request.method());
        Self {
            id: RequestId::of(request.headers()),
            method: known(method),
            scheme: trusted.scheme(request),
            route,
            limits,
            shown_path,
            path: request.path().to_owned(),
            client: trusted.client(request),
            body: BoundedBody::bound(request, limits),
            started: Instant::now(),
        }
    }

    /// How far the request's body came.
    pub(super) fn arrival(&self) -> Arrival {
        self.body.arrival()
    }

    /// The response, with values that must live as long.
    pub(super) fn hold(&self, response: ServiceResponse) -> ServiceResponse {
        self.body.hold(response)
    }

    /// The limits of the request.
    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn id(&self) -> &RequestId {
        &self.id
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The path, or the pattern of a route where the path is a secret.
    fn shown_path(&self) -> &str {
        self.shown_path.as_deref().unwrap_or(&self.path)
    }

    /// Probes and scrapes leave no span, no log line and no series: they would drown everything else.
    pub(super) fn is_quiet(&self) -> bool {
        // By the route where there is one: a path may be spelt in more than one way.
        let path = self.route.as_deref().unwrap_or(&self.path);
        path == "/metrics" || super::probes::Probe::of(path, super::Surface::All).is_some()
    }

    pub(super) fn metric_attributes(&self) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(5); // two more are added with the status
        attributes.push(KeyValue::new("http.request.method", self.method));
        attributes.push(KeyValue::new("url.scheme", self.scheme));
        if let Some(route) = &self.route {
            attributes.push(KeyValue::new("http.route", route.clone()));
        }
        attributes
    }

    /// `GET /greet/{name}`; the method alone if no route matched.
    fn name(&self) -> Cow<'static, str> {
        match &self.route {
            Some(route) => Cow::Owned(format!("{} {route}", self.method)),
            None => Cow::Borrowed(self.method),
        }
    }

    /// The root span of the request, child of the caller's if `traceparent` names one.
    pub(super) fn span(&self, request: &ServiceRequest, trusted: &Trusted) -> Span {
        if self.is_quiet() {
            return Span::none();
        }
        // Texts, not `Display`: each subscriber would format those again.
        let (name, client) = (self.name(), self.client.map(|client| client.to_string()));
        let span = tracing::info_span!(
            target: "dotmac::http",
            "request",
            otel.name = &*name,
            otel.kind = "server",
            otel.status_code = Empty,
            request_id = self.id.as_str(),
            http.request.method = self.method,
            http.route = self.route.as_deref(),
            http.response.status_code = Empty,
            error.type = Empty,
            url.path = self.shown_path(),
            url.scheme = self.scheme,
            server.address = trusted.checked_host(request).as_deref(),
            client.address = client.as_deref(),
            user.id = Empty,
        );
        if request.headers().contains_key("traceparent") {
            let caller = global::get_text_map_propagator(|propagator| {
                propagator.extract(&Headers(request.headers()))
            });
            // Fails only if traces go nowhere; then there is nothing to tie together.
            drop(span.set_parent(caller));
        }
        span
    }

    /// Ends the span and writes the access log line; a server error is logged with its whole chain, once.
    pub(super) fn finish(&self, response: &ServiceResponse) {
        let status = response.status();
        if self.is_quiet() {
            if status.is_server_error() && response.response().error().is_some() {
                self.log_error(status, response);
            }
            return;
        }
        let span = Span::current();
        span.record("http.response.status_code", i64::from(status.as_u16()));
        if status.is_server_error() {
            span.record("otel.status_code", "ERROR");
            span.record("error.type", status.as_str());
            self.log_error(status, response);
        }
        let extensions = response.request().extensions();
        let user = extensions.get::<User>().map(|user| user.0.as_str());
        if let Some(user) = user {
            span.record("user.id", user);
        }
        let bytes = match response.response().body().size() {
            BodySize::None => Some(0),
            BodySize::Sized(bytes) => Some(bytes),
            BodySize::Stream => None,
        };
        let millis = self.started.elapsed().as_micros() as f64 / 1000.0;
        let name = self.name();
        tracing::info!(
            target: ACCESS,
            {
                http.request.method = self.method,
                http.route = self.route.as_deref(),
                http.response.status_code = i64::from(status.as_u16()),
                http.response.body.size = bytes,
                client.address = self.client.map(tracing::field::display),
                user.id = user,
                duration_ms = millis,
            },
            "{name} {}",
            status.as_u16()
        );
    }

    /// 503 is the outage of a component, which has already logged it: a warning. The rest is ours.
    fn log_error(&self, status: StatusCode, response: &ServiceResponse) {
        let chain = match response.response().error() {
            Some(error) => match error.as_error::<Problem>() {
                Some(problem) => dotmac_causes::chain(problem),
                None => error.to_string(),
            },
            None => "the handler answered so without an error".to_owned(),
        };
        let name = self.name();
        if status == StatusCode::SERVICE_UNAVAILABLE {
            tracing::warn!(target: "dotmac::http", error = %chain, "{name} is unavailable");
        } else {
            tracing::error!(target: "dotmac::http", error = %chain, "{name} failed");
        }
    }
}

/// Attributes of the request's metrics, all out of closed sets; replaces the crate's own, which take
/// `server.address` from the `Host` header and so let a client make series.
pub(super) fn metric_attributes(request: &ServiceRequest, _: Cow<'static, str>) -> Vec<KeyValue> {
    let extensions = request.extensions();
    let exchange = extensions.get::<Rc<Exchange>>();
    exchange
        .map(|exchange| exchange.metric_attributes())
        .unwrap_or_default()
}

/// The methods of the semantic conventions; any other is `_OTHER`.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "_OTHER",
    }
}

/// Headers, as OpenTelemetry's propagators read them.
struct Headers<'r>(&'r HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|name| name.as_str()).collect()
    }
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    #[test]
    fn a_client_cannot_invent_metric_labels() -> Result<(), Box<dyn std::error::Error>> {
        let method = Method::from_bytes(b"INVENTED")?;
        let mut request = TestRequest::get()
            .uri("/nowhere/42")
            .insert_header(("host", "invented.example"))
            .insert_header(("x-forwarded-proto", "invented"))
            .to_srv_request();
        let exchange = Exchange::of(
            &mut request,
            &method,
            &Trusted::new(&[], &[]),
            &RequestLimits::new(&crate::http::testing::config(), None),
        );
        request.extensions_mut().insert(Rc::new(exchange));
        let attributes = metric_attributes(&request, "default".into());
        let labels: Vec<(&str, String)> = attributes
            .iter()
            .map(|label| (label.key.as_str(), label.value.to_string()))
            .collect();
        let expected = [("http.request.method", "_OTHER"), ("url.scheme", "http")];
        assert_eq!(labels, expected.map(|(key, value)| (key, value.to_owned())));
        Ok(())
    }
}
