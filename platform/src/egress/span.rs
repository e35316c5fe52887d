//! The client span of one attempt. Names follow the OpenTelemetry semantic conventions for HTTP clients.
//!
//! Neither the path nor the query is in it: the URLs of webhooks hold secrets.

use opentelemetry::{Context, global};
use opentelemetry_http::HeaderInjector;
use reqwest::{Method, header::HeaderMap};
use tracing::{Span, field::Empty, info_span};

use super::{EgressAnswer, EgressError, policy::Destination};

/// The span of an attempt to send to `destination`.
pub(super) fn of(method: &Method, destination: &Destination) -> Attempt {
    let scheme = if destination.is_encrypted {
        "https"
    } else {
        "http"
    };
    let span = info_span!(
        "call to the outside",
        otel.name = method.as_str(),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method.as_str(),
        http.response.status_code = Empty,
        url.scheme = scheme,
        server.address = destination.host,
        server.port = i64::from(destination.port),
        error.type = Empty,
    );
    Attempt {
        span,
        is_finished: false,
    }
}

/// An attempt that is under way. Dropped without an outcome: its caller abandoned it.
pub(super) struct Attempt {
    pub(super) span: Span,
    is_finished: bool,
}

impl Attempt {
    /// Notes how the attempt ended.
    pub(super) fn finish(mut self, outcome: &Result<EgressAnswer, EgressError>) {
        self.is_finished = true;
        match outcome {
            Ok(answer) => {
                let status = answer.status.as_u16();
                self.span
                    .record("http.response.status_code", i64::from(status));
                if status >= 400 {
                    self.note_error(&status.to_string());
                }
            }
            Err(error) => self.note_error(error.code()),
        }
    }

    fn note_error(&self, kind: &str) {
        self.span.record("otel.status_code", "ERROR");
        self.span.record("error.type", kind);
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.is_finished {
            self.note_error("timeout");
        }
    }
}

/// Adds `traceparent` of the present span to `headers`, in place of any other.
pub(super) fn inject(headers: &mut HeaderMap) {
    for name in ["traceparent", "tracestate"] {
        headers.remove(name);
    }
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&Context::current(), &mut HeaderInjector(headers));
    });
}
