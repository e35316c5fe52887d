//! Signing in by a passkey, and what an authenticator is asked for where a passkey is a second factor.

pub(super) mod own;

use std::time::Instant;

use dotmac_platform::{
    prelude::*,
    routing::{ClientAddress, RequestHead, WithHeaders},
};
use garde::Validate;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

pub(super) use own::{PasskeyBody, list};

use super::{
    BODY, CALLS, SECOND_FACTORS,
    auth::SessionMode,
    flow::Browser,
    links::wanted,
    refused,
    session::{SessionBody, answer, floored},
    visible,
};
use crate::{
    AccountsError, cookies,
    names::Identifier,
    problems::{OF_FLOW, OF_OPTIONS},
    rules::{next_step::SignedIn, passkeys as rules},
    service::Service,
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/passkey/options", passkey_options)
        .problems(OF_OPTIONS)
        .summary("What an authenticator is asked for, to sign in or as a second factor")
        .description(
            "Without a body field: any passkey, for a button or for the suggestions of a browser (`mediation: \"conditional\"`). With \
             `identifier`: those of a user; an identifier without one, or without a user, is answered the same. With `flow`: those of the \
             user who is signing in and has to show a second factor. The answer sets a cookie: `POST /api/v1/auth/passkey/verify` must \
             come from the same browser.",
        )
        .rate_limits(SECOND_FACTORS)
        .body_limit(BODY);
    routes
        .post("/passkey/verify", passkey_sign_in)
        .problems(OF_FLOW)
        .summary("Sign in by a passkey")
        .rate_limits(SECOND_FACTORS)
        .body_limit(BODY);
    routes
        .post("/step-up/options", step_up_options)
        .problems(OF_OPTIONS)
        .summary("What your authenticator is asked for, to step up")
        .rate_limit(CALLS);
}

/// What an authenticator is to be asked for.
#[derive(Deserialize, Validate, ToSchema)]
struct PasskeyAsked {
    /// Of a sign-in that waits for its second factor.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 256)))]
    flow: Option<String>,
    /// E-mail address or user name.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 320)))]
    identifier: Option<String>,
}

/// What an authenticator is asked for.
#[derive(Serialize, ToSchema)]
pub(super) struct CeremonyBody {
    /// By which the answer is given; good once, for five minutes.
    flow: String,
    /// For `PublicKeyCredential.parseRequestOptionsFromJSON()`, or of a registration `parseCreationOptionsFromJSON()`.
    #[schema(value_type = Object)]
    options: Value,
}

impl From<rules::Ceremony> for CeremonyBody {
    fn from(ceremony: rules::Ceremony) -> Self {
        Self {
            flow: ceremony.flow.expose_secret().to_owned(),
            options: ceremony.options,
        }
    }
}

/// The answer of an authenticator.
#[derive(Deserialize, Validate, ToSchema)]
struct PasskeySignIn {
    /// As the options came with it.
    #[garde(length(bytes, min = 1, max = 256))]
    flow: String,
    /// What `PublicKeyCredential.toJSON()` gives.
    #[garde(skip)]
    #[schema(value_type = Object)]
    credential: Value,
    /// How the session is held.
    #[garde(skip)]
    mode: SessionMode,
    /// What the list of sessions calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    device_name: Option<String>,
}

async fn passkey_options(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<PasskeyAsked>,
) -> Result<WithHeaders<Json<CeremonyBody>>, AccountsError> {
    match asked.into_inner() {
        PasskeyAsked {
            flow: Some(flow),
            identifier: None,
        } => {
            let ceremony = rules::begin_second_factor(&on, &flow).await?;
            Ok(WithHeaders::new(Json(ceremony.into())))
        }
        PasskeyAsked {
            flow: None,
            identifier,
        } => {
            let identifier = identifier.as_deref().map(Identifier::read);
            let browser = Browser::of(&on, &head)?;
            let begun = rules::begin_sign_in(&on, identifier, browser.hash.clone()).await;
            let ceremony = begun.map_err(AccountsError::of_credentials)?;
            Ok(browser.remembered(WithHeaders::new(Json(ceremony.into()))))
        }
        _ => Err(refused("flow", "is given, or `identifier`, and not both")),
    }
}

async fn passkey_sign_in(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    body: Valid<PasskeySignIn>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let began = Instant::now();
    // Else another site could sign a browser in to its own account.
    cookies::check_sign_in(&head, &on.settings.public_url)?;
    let PasskeySignIn {
        flow,
        credential,
        mode,
        device_name,
    } = body.into_inner();
    let browser = Browser::given(&on, &head);
    let wanted = wanted(&on, &head, from, mode, device_name);
    let signed_in = rules::sign_in(&on, &flow, &credential, browser, wanted).await;
    let SignedIn {
        issued,
        user,
        device,
    } = floored(began, signed_in)
        .await
        .map_err(AccountsError::of_credentials)?;
    let answer = answer(&on, &head, issued, user, device);
    answer.await.map_err(AccountsError::of_credentials)
}

async fn step_up_options(
    who: Authenticated,
    on: Use<Service>,
) -> Result<Json<CeremonyBody>, AccountsError> {
    let ceremony = rules::begin_step_up(&on, &who).await?;
    Ok(Json(ceremony.into()))
}
