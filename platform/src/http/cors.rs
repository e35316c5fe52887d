//! Which pages of other origins may call: actix-cors, configured and checked.

use actix_cors::Cors;
use actix_web::http::header::HeaderValue;

use crate::settings::{CorsOrigin, CorsSettings};

/// Headers of an answer that scripts may read, besides those that browsers always show them.
const EXPOSED: [&str; 15] = [
    "x-request-id",
    "etag",
    "idempotent-replayed",
    "location",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    // Headers for clients of resumable uploads (tus 1.0).
    "tus-checksum-algorithm",
    "tus-extension",
    "tus-max-size",
    "tus-resumable",
    "tus-version",
    "upload-expires",
    "upload-length",
    "upload-offset",
];

/// A fault of a cross-origin policy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CorsPolicyError {
    /// Any page of the web could act in the name of the logged-in user.
    #[error("CORS origin `*` cannot be combined with credentials: name the origins")]
    AnyWithCredentials,
}

/// The middleware for a policy; `None` if it is switched off.
///
/// A refused origin is refused before the handler runs: with actix's default, a form post from a
/// strange page would be carried out and only its answer hidden.
pub(super) fn middleware(policy: &CorsSettings) -> Result<Option<Cors>, CorsPolicyError> {
    if !policy.enabled {
        return Ok(None);
    }
    let mut cors = Cors::default()
        .block_on_origin_mismatch(true)
        .expose_headers(EXPOSED.iter().copied());
    if policy.origins.iter().any(CorsOrigin::is_any) {
        if policy.credentials {
            return Err(CorsPolicyError::AnyWithCredentials);
        }
        cors = cors.allow_any_origin().send_wildcard();
    } else {
        let origins = policy.origins.clone();
        let allowed = move |given: &HeaderValue| {
            given
                .to_str()
                .is_ok_and(|given| origins.iter().any(|origin| origin.matches(given)))
        };
        cors = cors.allowed_origin_fn(move |given, _| allowed(given));
    }
    cors = cors
        .allowed_methods(policy.methods.iter().cloned())
        .allowed_headers(policy.headers.iter().cloned());
    if policy.credentials {
        cors = cors.supports_credentials();
    }
    let max_age = usize::try_from(policy.max_age.as_secs()).unwrap_or(usize::MAX);
    Ok(Some(cors.max_age(max_age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(origin: &str, credentials: bool) -> CorsSettings {
        CorsSettings {
            origins: vec![crate::settings::parsed(origin)],
            credentials,
            ..crate::http::testing::config().cors
        }
    }

    #[test]
    fn every_origin_with_credentials_is_refused() {
        assert_eq!(
            middleware(&policy("*", true)).err(),
            Some(CorsPolicyError::AnyWithCredentials)
        );
        assert!(middleware(&policy("*", false)).is_ok());
    }
}
