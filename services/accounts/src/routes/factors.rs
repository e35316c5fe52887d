//! The caller's own second factors. To change them requires a recent authentication, with the existing factor.

use dotmac_platform::{
    access::Principal,
    audit::SystemActs as _,
    db::types::{Id, Moment},
    prelude::*,
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    BODY, CALLS, CODE_SETS, CONFIRMATIONS, SECOND_FACTORS, SET_UPS, etag,
    passkeys::{self, PasskeyBody},
    visible,
};
use crate::{
    AccountsError,
    problems::{OF_OWN, OF_OWN_LIST, OF_OWN_READING},
    rules::{
        factors::{self as rules, Factor},
        mfa,
    },
    service::{self, Service},
    store::{
        factors::{self as store, TotpRow},
        users::{self, UserId},
    },
};

/// Below `/auth/me/factors`.
pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_factors)
        .problems(OF_OWN_LIST)
        .summary("Your second factors")
        .rate_limit(CALLS);
    routes
        .get("/totp", find_totp)
        .problems(OF_OWN_READING)
        .summary("Your authenticator app")
        .rate_limit(CALLS);
    routes
        .post("/totp", set_up_totp)
        .problems(OF_OWN)
        .summary("A secret for an authenticator app, which does not count before its first code")
        .description(
            "With `code`, the first one that the app shows, it activates the app: as `POST …/totp/confirm`, with the same answer.",
        )
        .rate_limits(SECOND_FACTORS)
        .rate_limit(SET_UPS)
        .body_limit(BODY);
    routes
        .post("/totp/confirm", confirm_totp)
        .problems(OF_OWN)
        .summary("Let the app count, by the first code that it shows")
        .rate_limits(SECOND_FACTORS)
        .rate_limit(CONFIRMATIONS)
        .body_limit(BODY);
    routes
        .delete("/totp", remove_totp)
        .problems(OF_OWN)
        .summary("Take the app away, and the recovery codes with the last second factor")
        .rate_limit(CALLS);
    routes
        .get("/recovery-codes", count_codes)
        .problems(OF_OWN_LIST)
        .summary("How many recovery codes you have left")
        .rate_limit(CALLS);
    routes
        .post("/recovery-codes", renew_codes)
        .problems(OF_OWN)
        .summary("New recovery codes in place of the former ones")
        .rate_limits(SECOND_FACTORS)
        .rate_limit(CODE_SETS);
    routes
        .delete("/recovery-codes", delete_codes)
        .problems(OF_OWN)
        .summary("Delete the recovery codes that you have left")
        .rate_limit(CALLS);
}

/// The second factors of the caller.
#[derive(Serialize, ToSchema)]
struct Factors {
    /// The authenticator app, if one counts.
    totp: Option<TotpBody>,
    /// The passkeys, the oldest first.
    passkeys: Vec<PasskeyBody>,
    /// Recovery codes that were not used.
    recovery_codes_left: i64,
}

/// An authenticator app.
#[derive(Serialize, ToSchema)]
struct TotpBody {
    label: Option<String>,
    /// When its first code confirmed it.
    confirmed_at: Moment,
    etag: String,
}

impl TotpBody {
    /// The app of the row, if it is confirmed.
    fn of(row: TotpRow) -> Option<Versioned<Self>> {
        let (version, confirmed_at) = (row.version(), row.confirmed_at?);
        let body = Self {
            label: row.label,
            confirmed_at,
            etag: etag(version),
        };
        Some(Versioned { version, body })
    }
}

/// An app to be.
#[derive(Deserialize, Validate, ToSchema)]
struct TotpPost {
    /// What the caller calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    label: Option<String>,
    /// The first code of the app that was set up before.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
}

/// A secret for an app, or the recovery codes with the first one that counts.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
enum SetUp {
    Begun(TotpSetup),
    Confirmed(Codes),
}

/// Recovery codes that were not used.
#[derive(Serialize, ToSchema)]
struct CodesLeft {
    left: i64,
}

/// What an app is set up by, shown this once.
#[derive(Serialize, ToSchema)]
struct TotpSetup {
    /// In base 32, to be typed.
    secret: String,
    /// `otpauth://totp/…`, for a QR code.
    uri: String,
}

/// The first code of an app.
#[derive(Deserialize, Validate, ToSchema)]
struct FirstCode {
    #[garde(length(bytes, min = 1, max = 64))]
    code: String,
}

/// Recovery codes, shown this once.
#[derive(Serialize, ToSchema)]
struct Codes {
    /// Each is good once. None if there are codes from an earlier second factor.
    recovery_codes: Vec<String>,
}

async fn list_factors(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<Factors>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on.open_db.read("list factors", async move |c| {
        let totp = store::totp_of(c, user).await?;
        Ok::<_, AccountsError>(Factors {
            totp: totp.and_then(TotpBody::of).map(|totp| totp.body),
            passkeys: passkeys::list(c, user).await?,
            recovery_codes_left: store::codes_left(c, user).await?,
        })
    });
    Ok(Json(read.await?))
}

async fn find_totp(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Versioned<TotpBody>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on
        .open_db
        .read("read TOTP", async move |c| store::totp_of(c, user).await);
    let confirmed = read.await?.and_then(TotpBody::of);
    confirmed.ok_or(AccountsError::NotFound)
}

async fn count_codes(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<CodesLeft>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let read = on.open_db.read("count recovery codes", async move |c| {
        store::codes_left(c, user).await
    });
    let left = read.await?;
    Ok(Json(CodesLeft { left }))
}

async fn set_up_totp(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<TotpPost>,
) -> Result<Json<SetUp>, AccountsError> {
    service::person(&who)?;
    let TotpPost { label, code } = new.into_inner();
    Ok(Json(match code {
        None => SetUp::Begun(begin_totp(&who, &on, label).await?),
        Some(code) => SetUp::Confirmed(confirm(&who, &on, &code).await?),
    }))
}

async fn begin_totp(
    who: &Principal,
    on: &Service,
    label: Option<String>,
) -> Result<TotpSetup, AccountsError> {
    let id: UserId = Id::from_uuid(who.id);
    service::authenticated_now(who, mfa::needed(on, id).await?)?;
    let read = on
        .open_db
        .read("read user", async move |c| users::find(c, id).await);
    let user = read.await?.ok_or(AccountsError::SessionEnded)?;
    let setup = rules::begin_totp(on, &user, label).await?;
    Ok(TotpSetup {
        secret: setup.secret.expose_secret().to_owned(),
        uri: setup.uri.expose_secret().to_owned(),
    })
}

async fn confirm_totp(
    who: Authenticated,
    on: Use<Service>,
    first: Valid<FirstCode>,
) -> Result<Json<Codes>, AccountsError> {
    service::person(&who)?;
    Ok(Json(confirm(&who, &on, &first.code).await?))
}

async fn confirm(who: &Principal, on: &Service, code: &str) -> Result<Codes, AccountsError> {
    service::authenticated_now(who, 1)?;
    Ok(shown(&rules::confirm_totp(on, who, code).await?))
}

async fn remove_totp(
    who: Authenticated,
    on: Use<Service>,
    seen: IfMatch,
) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    let (principal, changes) = ((*who).clone(), on.changes.clone());
    let removed = on.asked_by(&who).act("remove TOTP", async move |tx| {
        rules::remove_own(tx, &changes, &principal, Factor::Totp, &seen).await
    });
    removed.await?;
    Ok(NoContent)
}

async fn renew_codes(who: Authenticated, on: Use<Service>) -> Result<Json<Codes>, AccountsError> {
    service::person(&who)?;
    Ok(Json(shown(&rules::renew_codes(&on, &who).await?)))
}

async fn delete_codes(who: Authenticated, on: Use<Service>) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    rules::delete_codes(&on, &who).await?;
    Ok(NoContent)
}

fn shown(codes: &[SecretString]) -> Codes {
    let codes = codes.iter().map(|code| code.expose_secret().to_owned());
    Codes {
        recovery_codes: codes.collect(),
    }
}
