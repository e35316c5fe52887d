//! The caller's own API keys.

use dotmac_platform::{
    db::types::Id,
    prelude::*,
    routing::{Idempotency, IfMatch, Page, Paging, Sort, Versioned},
};

use super::{KeyBody, KeyPost, MadeKey, Rotation, find, make, page, revoke, rotate};
use crate::{
    AccountsError,
    problems::{OF_ADMINISTRATION, OF_OWN_LIST, OF_OWN_READING},
    routes::{BODY, CALLS, refused},
    service::{self, Service},
    store::{api_keys::ApiKey, bindings::Holder, slice::ByCreation},
};

/// Those of the caller, below `/auth/me/api-keys`.
pub(in crate::routes) fn declare(routes: &mut Routes) {
    routes
        .get("", list_own_keys)
        .problems(OF_OWN_LIST)
        .summary("Your own API keys")
        .rate_limit(CALLS);
    routes
        .post("", create_own_key)
        .problems(OF_ADMINISTRATION)
        .summary("Make an API key of your own")
        .rate_limit(CALLS)
        .body_limit(BODY)
        .secret_answer();
    routes
        .get("/{id}", find_own_key)
        .problems(OF_OWN_READING)
        .summary("One of your own API keys")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", revoke_own_key)
        .problems(OF_ADMINISTRATION)
        .summary("Revoke an API key of your own")
        .rate_limit(CALLS);
    routes
        .post("/{id}/rotate", rotate_own_key)
        .problems(OF_ADMINISTRATION)
        .summary("Give an API key of your own another secret")
        .rate_limit(CALLS)
        .body_limit(BODY);
}

async fn list_own_keys(
    who: Authenticated,
    on: Use<Service>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<KeyBody>, AccountsError> {
    service::person(&who)?;
    let me = Holder::User(Id::from_uuid(who.id));
    page(&who, &on, Some(me), sort, paging).await
}

async fn create_own_key(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<KeyPost>,
    once: Idempotency,
) -> Result<Created<Versioned<MadeKey>>, AccountsError> {
    let new = new.into_inner();
    if new.service_account_id.is_some() {
        return Err(refused(
            "service_account_id",
            "is for POST /api/v1/api-keys",
        ));
    }
    make(&who, &on, new, once).await
}

async fn find_own_key(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
) -> Result<Versioned<KeyBody>, AccountsError> {
    service::person(&who)?;
    let me = Id::from_uuid(who.id);
    find(&who, &on, *id, Some(me)).await
}

async fn revoke_own_key(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    let me = Id::from_uuid(who.id);
    revoke(&who, &on, *id, Some(me), seen).await
}

async fn rotate_own_key(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<ApiKey>>,
    rotation: Valid<Rotation>,
) -> Result<Versioned<MadeKey>, AccountsError> {
    let me = Id::from_uuid(who.id);
    rotate(&who, &on, *id, Some(me), rotation.into_inner()).await
}
