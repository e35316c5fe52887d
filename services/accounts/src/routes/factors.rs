//! The caller's own second factors. To change them takes an authentication of a moment ago, with the factor that there is.

use dotmac_platform::{
    audit::SystemActs as _,
    db::types::{Id, Moment},
    prelude::*,
};
use garde::Validate;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    BODY, CALLS, CODE_SETS, CONFIRMATIONS, SECOND_FACTORS,
    passkeys::{self, PasskeyBody},
    visible,
};
use crate::{
    AccountsError,
    rules::{
        factors::{self as rules, Factor},
        mfa,
    },
    service::{self, Service},
    store::{
        factors as store,
        users::{self, UserId},
    },
};

/// Below `/auth/me/factors`.
pub(super) fn declare(routes: &mut Routes) {
    routes
        .get("", list_factors)
        .summary("Your second factors")
        .rate_limit(CALLS);
    routes
        .post("/totp", begin_totp)
        .summary("A secret for an authenticator app, which does not count yet")
        .rate_limit(CALLS)
        .body_limit(BODY);
    routes
        .post("/totp/confirm", confirm_totp)
        .summary("Let the app count, by the first code that it shows")
        .rate_limit(SECOND_FACTORS)
        .rate_limit(CONFIRMATIONS)
        .body_limit(BODY);
    routes
        .delete("/totp", remove_totp)
        .summary("Take the app away, and the recovery codes with the last second factor")
        .rate_limit(CALLS);
    routes
        .post("/recovery-codes", renew_codes)
        .summary("New recovery codes in place of the former ones")
        .rate_limit(SECOND_FACTORS)
        .rate_limit(CODE_SETS);
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
    /// Since when it counts.
    confirmed_at: Moment,
}

/// An app to be.
#[derive(Deserialize, Validate, ToSchema)]
struct TotpPost {
    /// What the caller calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    label: Option<String>,
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
        let totp = totp.and_then(|row| Some((row.confirmed_at?, row.label)));
        Ok::<_, AccountsError>(Factors {
            totp: totp.map(|(confirmed_at, label)| TotpBody {
                label,
                confirmed_at,
            }),
            passkeys: passkeys::list(c, user).await?,
            recovery_codes_left: store::codes_left(c, user).await?,
        })
    });
    Ok(Json(read.await?))
}

async fn begin_totp(
    who: Authenticated,
    on: Use<Service>,
    new: Valid<TotpPost>,
) -> Result<Json<TotpSetup>, AccountsError> {
    service::person(&who)?;
    let id: UserId = Id::from_uuid(who.id);
    service::authenticated_now(&who, mfa::needed(&on, id).await?)?;
    let read = on
        .open_db
        .read("read user", async move |c| users::find(c, id).await);
    let user = read.await?.ok_or(AccountsError::SessionEnded)?;
    let setup = rules::begin_totp(&on, &user, new.into_inner().label).await?;
    Ok(Json(TotpSetup {
        secret: setup.secret.expose_secret().to_owned(),
        uri: setup.uri.expose_secret().to_owned(),
    }))
}

async fn confirm_totp(
    who: Authenticated,
    on: Use<Service>,
    first: Valid<FirstCode>,
) -> Result<Json<Codes>, AccountsError> {
    service::person(&who)?;
    service::authenticated_now(&who, 1)?;
    let codes = rules::confirm_totp(&on, &who, &first.code).await?;
    Ok(shown(&codes))
}

async fn remove_totp(who: Authenticated, on: Use<Service>) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    let (principal, changes) = ((*who).clone(), on.changes.clone());
    let removed = on.asked_by(&who).act("remove TOTP", async move |tx| {
        rules::remove_own(tx, &changes, &principal, Factor::Totp).await
    });
    removed.await?;
    Ok(NoContent)
}

async fn renew_codes(who: Authenticated, on: Use<Service>) -> Result<Json<Codes>, AccountsError> {
    service::person(&who)?;
    Ok(shown(&rules::renew_codes(&on, &who).await?))
}

fn shown(codes: &[SecretString]) -> Json<Codes> {
    let codes = codes.iter().map(|code| code.expose_secret().to_owned());
    Json(Codes {
        recovery_codes: codes.collect(),
    })
}
