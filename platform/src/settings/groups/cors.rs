//! Web pages of other origins.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::http::header::HeaderName;

use crate::settings::types::{CorsOrigin, Environment};
use crate::settings::{Facts, computed, fixed, lasting};

crate::settings! {
    title: "CORS", prefix: "CORS_";
    /// Which web pages of other origins may call the API from a browser.
    pub struct CorsSettings {
        /// Whether CORS is on. With `false` no CORS header is sent, so that browsers block every other origin.
        enabled: bool { default: fixed("true") }

        /// Origins that are allowed, as `https://app.example.com,http://localhost:*`; `*` for all,
        /// but not together with `DOTMAC_CORS_CREDENTIALS`. A host must not contain `*`.
        origins: Vec<CorsOrigin> {
            default: computed("localhost with any port in development, none elsewhere", origins),
        }

        /// Methods that are allowed.
        methods: Vec<Method> { default: fixed("GET,HEAD,POST,PUT,PATCH,DELETE,OPTIONS") }

        /// Request headers that are allowed.
        headers: Vec<HeaderName> {
            default: fixed("accept,authorization,content-type,idempotency-key,if-match,if-none-match,traceparent,tracestate,x-request-id"),
        }

        /// Whether the browser may send cookies and credentials.
        credentials: bool { default: fixed("false") }

        /// How long a browser may remember the answer to a preflight request.
        max_age: Duration { default: fixed("1h"), range: lasting("0s", "24h") }
    }
}

fn origins(facts: &Facts<'_>) -> String {
    let text = match facts.environment() {
        Environment::Development => "http://localhost:*,http://127.0.0.1:*,http://[::1]:*",
        _ => "",
    };
    text.to_owned()
}
