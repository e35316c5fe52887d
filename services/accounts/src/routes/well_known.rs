//! The public keys by which other services check access tokens.

use dotmac_platform::{prelude::*, routing::WithHeaders};
use serde::Serialize;
use utoipa::ToSchema;

use super::MINUTE;
use crate::{AccountsError, problems::OF_KEYS, service::Service};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("/jwks.json", jwks)
        .problems(OF_KEYS)
        .summary("The public keys of access tokens")
        .rate_limit(dotmac_platform::routing::RateLimit::per_network(
            600, MINUTE,
        ));
}

/// A set of keys (RFC 7517).
#[derive(Serialize, ToSchema)]
struct Jwks {
    #[schema(value_type = Vec<Object>)]
    keys: Vec<serde_json::Value>,
}

async fn jwks(_: Public, on: Use<Service>) -> Result<WithHeaders<Json<Jwks>>, AccountsError> {
    let keys = on.keys.to_verify(true).await?.published().to_vec();
    Ok(WithHeaders::new(Json(Jwks { keys })).header("cache-control", "public, max-age=600"))
}
