//! The client span of one request to a server, and the trace context that goes out with it.
//!
//! Names follow the OpenTelemetry semantic conventions for HTTP clients. Neither the path of a secret
//! nor the name of a role is in it, no header and no body: the path is shown as a template.

use std::borrow::Cow;

use opentelemetry::{Context, global};
use opentelemetry_http::HeaderInjector;
use reqwest::{Url, header::HeaderMap};
use tracing::{Instrument, Span, field::Empty, info_span};

use super::CallFailure;

/// The server, as spans name it.
pub(super) struct Server {
    address: String,
    port: Option<u16>,
}

impl Server {
    pub(super) fn of(address: &Url) -> Self {
        Self {
            address: address.host_str().unwrap_or_default().to_owned(),
            port: address.port_or_known_default(),
        }
    }
}

/// Runs `call`, a request to `path` below `/v1/`, within its own span; `call` answers a status.
/// The span belongs to the trace of the request's cause.
pub(super) async fn traced<T>(
    server: &Server,
    method: &str,
    path: &str,
    call: impl Future<Output = Result<(u16, T), CallFailure>>,
) -> Result<T, CallFailure> {
    let template = template(path);
    let span = info_span!(
        "request to Vault",
        otel.name = %format_args!("{method} {template}"),
        otel.kind = "client",
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        url.template = %template,
        server.address = server.address,
        server.port = server.port.map(i64::from),
        error.type = Empty,
    );
    let unfinished = Unfinished(Some(span));
    let answer = match &unfinished.0 {
        Some(span) => call.instrument(span.clone()).await,
        None => call.await,
    };
    unfinished.finish(answer)
}

/// A request without an outcome. Dropped without an answer: its caller abandoned it.
struct Unfinished(Option<Span>);

impl Unfinished {
    fn finish<T>(mut self, answer: Result<(u16, T), CallFailure>) -> Result<T, CallFailure> {
        let Some(span) = self.0.take() else {
            return answer.map(|(_, body)| body);
        };
        match &answer {
            Ok((status, _)) => {
                note_status(&span, *status);
                if *status >= 400 {
                    note_error(&span, &status.to_string());
                }
            }
            Err(failure) => note_error(&span, failure.kind()),
        }
        answer.map(|(_, body)| body)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if let Some(span) = &self.0 {
            note_error(span, "timeout");
        }
    }
}

fn note_status(span: &Span, status: u16) {
    span.record("http.response.status_code", i64::from(status));
}

fn note_error(span: &Span, kind: &str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", kind);
}

/// `path` without what names a secret, a role or a mount that holds them.
fn template(path: &str) -> Cow<'_, str> {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        ["sys", "internal", "ui", "mounts", ..] => "/v1/sys/internal/ui/mounts/{mount}".into(),
        ["sys" | "auth", ..] => format!("/v1/{path}").into(),
        [.., "creds", _] => "/v1/{mount}/creds/{role}".into(),
        [.., "static-creds", _] => "/v1/{mount}/static-creds/{role}".into(),
        [_, "data", ..] => "/v1/{mount}/data/{path}".into(),
        _ => "/v1/{mount}/{path}".into(),
    }
}

/// Adds the context of the present span to `headers`.
pub(super) fn inject(headers: &mut HeaderMap) {
    global::get_text_map_propagator(|propagator| {
        propagator.inject_context(&Context::current(), &mut HeaderInjector(headers));
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_names_no_secret_and_no_role() {
        for (path, expected) in [
            ("sys/health", "/v1/sys/health"),
            ("auth/approle/login", "/v1/auth/approle/login"),
            ("secret/data/shop/card", "/v1/{mount}/data/{path}"),
            ("team/kv/data/shop", "/v1/{mount}/{path}"),
            ("kv/shop/card", "/v1/{mount}/{path}"),
            ("database/creds/shop", "/v1/{mount}/creds/{role}"),
            ("a/b/static-creds/shop", "/v1/{mount}/static-creds/{role}"),
            (
                "sys/internal/ui/mounts/team/kv",
                "/v1/sys/internal/ui/mounts/{mount}",
            ),
        ] {
            assert_eq!(template(path), expected, "{path}");
        }
    }
}
