//! The second step of a sign-in, and authenticating again within a session.

use std::time::Instant;

use dotmac_platform::{
    prelude::*,
    routing::{ClientAddress, RequestHead, WithHeaders},
};
use garde::Validate;
use serde::Deserialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    BODY, PASSWORDS, SECOND_FACTORS, refused,
    session::{SessionBody, answer, floored},
};
use crate::{
    AccountsError, cookies,
    metrics::{self, Outcome},
    password::Asker,
    problems::{OF_FLOW, OF_OWN},
    rules::{
        mfa::{self, Evidence, Method},
        next_step::SignedIn,
        step_up,
    },
    service::{self, Service},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/mfa/verify", verify)
        .problems(OF_FLOW)
        .summary("Go on with a sign-in by a second factor")
        .rate_limits(SECOND_FACTORS)
        .body_limit(BODY);
    routes
        .post("/step-up", step_up_session)
        .problems(OF_OWN)
        .summary("Prove again who you are, for what needs a young authentication")
        .description(
            "What changes users, roles, tenants and keys answers 403 `step_up_required` once the authentication is too old, or too \
             weak. The session of this answer takes the place of the present one, with secrets of its own, and ends when that \
             would have. A user with a second factor gives its code, or shows a passkey.",
        )
        .rate_limit(PASSWORDS)
        .body_limit(BODY);
}

/// A kind of second factor.
#[derive(Clone, Copy, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum FactorMethod {
    /// The code that an authenticator app shows.
    #[default]
    Totp,
    /// One of the codes for the day on which app or passkeys are lost.
    RecoveryCode,
    /// A passkey, asked for by `POST /api/v1/auth/passkey/options`.
    Passkey,
}

/// What is brought as a second factor; a field that is missing or too many is refused.
fn evidence(
    method: FactorMethod,
    code: Option<String>,
    credential: Option<Value>,
) -> Result<Evidence, AccountsError> {
    match (method, code, credential) {
        (FactorMethod::Totp, Some(code), None) => Ok(Evidence::Code(Method::Totp, code.into())),
        (FactorMethod::RecoveryCode, Some(code), None) => {
            Ok(Evidence::Code(Method::RecoveryCode, code.into()))
        }
        (FactorMethod::Passkey, None, Some(credential)) => Ok(Evidence::Passkey(credential)),
        (FactorMethod::Passkey, ..) => Err(refused(
            "credential",
            "is given for a passkey, and no `code`",
        )),
        _ => Err(refused("code", "is given, and no `credential`")),
    }
}

/// The second step of a sign-in.
#[derive(Deserialize, Validate, ToSchema)]
struct Verification {
    /// As the first step gave it.
    #[garde(length(bytes, min = 1, max = 256))]
    flow: String,
    /// Which factor.
    #[garde(skip)]
    method: FactorMethod,
    /// The code, unless it is a passkey.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
    /// Of a passkey: what `PublicKeyCredential.toJSON()` gives.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    credential: Option<Value>,
}

/// What the user is authenticated by: the password, or a second factor if there is one, its code or a passkey.
#[derive(Deserialize, Validate, ToSchema)]
struct StepUp {
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 1024)))]
    #[schema(format = Password)]
    password: Option<String>,
    /// Of `code`; `totp` by default.
    #[serde(default)]
    #[garde(skip)]
    method: FactorMethod,
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
    /// Of a passkey: as `POST /api/v1/auth/step-up/options` gave it.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 256)))]
    flow: Option<String>,
    /// Of a passkey: what `PublicKeyCredential.toJSON()` gives.
    #[serde(default)]
    #[garde(skip)]
    #[schema(value_type = Option<Object>)]
    credential: Option<Value>,
}

async fn verify(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    body: Valid<Verification>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let began = Instant::now();
    let Verification {
        flow,
        method,
        code,
        credential,
    } = body.into_inner();
    let evidence = evidence(method, code, credential)?;
    let asker = Asker {
        network: Some(service::network(from.0)),
        is_known: false,
    };
    let is_of_this_site = cookies::check_sign_in(&head, &on.settings.public_url).is_ok();
    let verified = mfa::verify(&on, asker, &flow, &evidence, is_of_this_site).await;
    metrics::signed_in(Outcome::of(&verified));
    let SignedIn {
        issued,
        user,
        device,
    } = floored(began, verified)
        .await
        .map_err(AccountsError::of_credentials)?;
    let answer = answer(&on, &head, issued, user, device);
    answer.await.map_err(AccountsError::of_credentials)
}

async fn step_up_session(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
    body: Valid<StepUp>,
) -> Result<WithHeaders<Json<SessionBody>>, AccountsError> {
    let began = Instant::now();
    let StepUp {
        password,
        method,
        code,
        flow,
        credential,
    } = body.into_inner();
    let stepped_up = match (password, code, flow, credential) {
        (Some(password), None, None, None) => {
            step_up::by_password(&on, &who, password.into()).await
        }
        (None, Some(code), None, None) => {
            let method = match method {
                FactorMethod::Totp => Method::Totp,
                FactorMethod::RecoveryCode => Method::RecoveryCode,
                FactorMethod::Passkey => return Err(refused("method", "is of a code here")),
            };
            step_up::by_code(&on, &who, method, &code.into()).await
        }
        (None, None, Some(flow), Some(credential)) => {
            step_up::by_passkey(&on, &who, &flow, &credential).await
        }
        _ => {
            return Err(refused(
                "password",
                "is given, or `code`, or `flow` and `credential`",
            ));
        }
    };
    let (issued, user) = floored(began, stepped_up).await?;
    answer(&on, &head, issued, user, None).await
}
