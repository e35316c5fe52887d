//! The caller's own passkeys.

use dotmac_platform::{
    audit::SystemActs as _,
    db::{
        Connection,
        types::{Id, Moment},
    },
    prelude::*,
    routing::{CursorScope, Page, Paging, Sort, Versioned},
};
use garde::Validate;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::CeremonyBody;
use crate::{
    AccountsError,
    problems::{OF_OWN, OF_OWN_LIST, OF_OWN_READING},
    routes::{BODY, CALLS, REGISTERED_PASSKEYS, SECOND_FACTORS, etag, page_of_all, visible},
    rules::{
        factors::{self, Factor},
        passkeys as rules,
    },
    service::{self, Service},
    store::{
        passkeys::{self as store, Passkey, PasskeyRow},
        slice::ByCreation,
        users::UserId,
    },
};

/// Below `/auth/me/factors/passkeys`.
pub(in crate::routes) fn declare(routes: &mut Routes) {
    routes
        .get("", list_passkeys)
        .problems(OF_OWN_LIST)
        .summary("Your passkeys")
        .rate_limit(CALLS);
    routes
        .post("", begin_passkey)
        .problems(OF_OWN)
        .summary("What your authenticator is asked for a new passkey, which does not count yet")
        .rate_limit(CALLS);
    routes
        .post("/confirm", confirm_passkey)
        .problems(OF_OWN)
        .summary("Let the passkey count that your authenticator has made")
        .rate_limits(SECOND_FACTORS)
        .rate_limit(REGISTERED_PASSKEYS)
        .body_limit(BODY);
    routes
        .get("/{id}", find_passkey)
        .problems(OF_OWN_READING)
        .summary("One of your passkeys")
        .rate_limit(CALLS);
    routes
        .delete("/{id}", remove_passkey)
        .problems(OF_OWN)
        .summary("Take a passkey away, and the recovery codes with the last second factor")
        .rate_limit(CALLS);
}

/// A passkey.
#[derive(Serialize, ToSchema)]
pub(in crate::routes) struct PasskeyBody {
    id: Uuid,
    /// What its owner calls it.
    label: Option<String>,
    /// The model of the authenticator, as it says (AAGUID); zeros if it does not say.
    aaguid: String,
    /// Whether it is found without a user name; null if the browser did not say.
    discoverable: Option<bool>,
    /// Whether it may be on other devices as well.
    backup_eligible: bool,
    /// Whether it is.
    backup_state: bool,
    created_at: Moment,
    last_used_at: Option<Moment>,
    /// Changes with each use.
    etag: String,
}

impl From<PasskeyRow> for PasskeyBody {
    fn from(row: PasskeyRow) -> Self {
        Self {
            etag: etag(row.version()),
            id: row.id.uuid(),
            label: row.label,
            aaguid: row.aaguid,
            discoverable: row.discoverable,
            backup_eligible: row.backup_eligible,
            backup_state: row.backup_state,
            created_at: row.created_at,
            last_used_at: row.last_used_at,
        }
    }
}

/// A passkey that an authenticator has made.
#[derive(Deserialize, Validate, ToSchema)]
struct NewPasskey {
    /// As the options came with it.
    #[garde(length(bytes, min = 1, max = 256))]
    flow: String,
    /// What `PublicKeyCredential.toJSON()` gives.
    #[garde(skip)]
    #[schema(value_type = Object)]
    credential: Value,
    /// What the caller calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    label: Option<String>,
}

/// A passkey that counts.
#[derive(Serialize, ToSchema)]
struct AddedPasskey {
    passkey: PasskeyBody,
    /// With the first second factor: ten codes, each good once, shown this once.
    recovery_codes: Vec<String>,
}

/// The passkeys of the user, as they are answered.
pub(in crate::routes) async fn list(
    c: &mut Connection,
    user: UserId,
) -> Result<Vec<PasskeyBody>, AccountsError> {
    let rows = store::of_user(c, user).await?;
    Ok(rows.into_iter().map(PasskeyBody::from).collect())
}

async fn list_passkeys(
    who: Authenticated,
    on: Use<Service>,
    sort: Sort<ByCreation>,
    paging: Paging,
) -> Result<Page<PasskeyBody>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on
        .open_db
        .read("list passkeys", async move |c| list(c, user).await);
    let bound = CursorScope {
        tenant: who.tenant,
        list: "own passkeys",
        sort: &sort.to_string(),
        filter: &who.id.to_string(),
    };
    let id = |passkey: &PasskeyBody| passkey.id;
    Ok(page_of_all(
        &paging,
        &bound,
        sort.is_descending,
        read.await?,
        id,
    )?)
}

async fn find_passkey(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<Passkey>>,
) -> Result<Versioned<PasskeyBody>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on.open_db.read("find passkey", async move |c| {
        store::find_own(c, user, *id).await
    });
    let found = read.await?.ok_or(AccountsError::NotFound)?;
    Ok(Versioned {
        version: found.version(),
        body: found.into(),
    })
}

async fn begin_passkey(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<CeremonyBody>, AccountsError> {
    service::person(&who)?;
    let ceremony = rules::begin_registration(&on, &who).await?;
    Ok(Json(ceremony.into()))
}

async fn confirm_passkey(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<NewPasskey>,
) -> Result<Json<AddedPasskey>, AccountsError> {
    service::person(&who)?;
    let NewPasskey {
        flow,
        credential,
        label,
    } = new.into_inner();
    let (passkey, codes) = rules::register(&on, &who, &flow, &credential, label).await?;
    let codes = codes.iter().map(|code| code.expose_secret().to_owned());
    Ok(Json(AddedPasskey {
        passkey: passkey.into(),
        recovery_codes: codes.collect(),
    }))
}

async fn remove_passkey(
    who: Authenticated,
    on: Use<Service>,
    id: Path<Id<Passkey>>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    let (principal, changes) = ((*who).clone(), on.changes.clone());
    let factor = Factor::Passkey(*id);
    let removed = on.asked_by(&who).act("remove passkey", async move |tx| {
        factors::remove_own(tx, &changes, &principal, factor, &seen).await
    });
    removed.await?;
    Ok(NoContent)
}
