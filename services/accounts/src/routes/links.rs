//! Using what was mailed. A link is used by `POST` alone: what only reads it uses up nothing.

use std::time::Instant;

use dotmac_platform::{
    prelude::*,
    routing::{ClientAddress, RequestHead, WithHeaders},
};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    BODY, LINKS, SECOND_FACTORS,
    auth::{LoginBody, SessionMode, first_step},
    flow::Browser,
    session::floored,
    user_agent, visible,
};
use crate::{
    AccountsError, cookies,
    problems::{OF_FLOW, OF_LINK, OF_SIGN_IN},
    rules::{addresses, mail_sign_in, next_step::Wanted, one_time::Given, registration},
    service::{self, Service},
    store::sessions::Client,
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/magic-link/confirm", sign_in_by_link)
        .problems(OF_FLOW)
        .summary("Sign in by the link of a mail")
        .rate_limits(LINKS)
        .body_limit(BODY);
    routes
        .post("/code/confirm", sign_in_by_code)
        .problems(OF_SIGN_IN)
        .summary("Sign in by the code of a mail")
        .rate_limits(SECOND_FACTORS)
        .body_limit(BODY);
    routes
        .post("/email/verify", verify_email)
        .problems(OF_LINK)
        .summary("Prove an address by the link that was mailed to it")
        .rate_limits(LINKS)
        .body_limit(BODY);
    routes
        .post("/email/undo", undo_email)
        .problems(OF_LINK)
        .summary("Put the former address of an account back")
        .rate_limits(LINKS)
        .body_limit(BODY);
}

/// A link that was mailed.
#[derive(Deserialize, Validate, ToSchema)]
struct Link {
    /// What stands behind `#token=` in the link.
    #[garde(length(bytes, min = 1, max = 256))]
    token: String,
    /// The code of the mail, in another browser than the one that asked for it.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
}

/// A link that signs in.
#[derive(Deserialize, Validate, ToSchema)]
struct SignInLink {
    /// What stands behind `#token=` in the link.
    #[garde(length(bytes, min = 1, max = 256))]
    token: String,
    /// The code of the mail, in another browser than the one that asked for it.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
    /// How the session is held; `cookie` by default.
    #[serde(default)]
    #[garde(skip)]
    mode: SessionMode,
    /// What the list of sessions calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    device_name: Option<String>,
}

/// A code that signs in.
#[derive(Deserialize, Validate, ToSchema)]
struct SignInCode {
    /// The address that the code was mailed to.
    #[garde(length(bytes, min = 1, max = 320))]
    email: String,
    /// Eight digits.
    #[garde(length(bytes, min = 1, max = 64))]
    code: String,
    /// How the session is held; `cookie` by default.
    #[serde(default)]
    #[garde(skip)]
    mode: SessionMode,
    /// What the list of sessions calls it.
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 100), custom(visible)))]
    device_name: Option<String>,
}

/// What a client brings to use a link: of a browser from this site alone.
pub(super) fn given(
    on: &Service,
    head: &RequestHead,
    token: String,
    code: Option<String>,
) -> Result<Given, AccountsError> {
    cookies::check_sign_in(head, &on.settings.public_url)?;
    Ok(Given {
        token: token.into(),
        code: code.map(SecretString::from),
        browser: Browser::given(on, head),
    })
}

/// What a session is made of that a client asks for.
pub(super) fn wanted(
    on: &Service,
    head: &RequestHead,
    from: ClientAddress,
    mode: SessionMode,
    device_name: Option<String>,
) -> Wanted {
    let is_secure = on.settings.has_secure_cookies(head.is_secure());
    let device = head.cookie(cookies::device_name(is_secure));
    Wanted {
        client: Client {
            device_name,
            network: Some(service::network(from.0).to_string()),
            user_agent: user_agent(head),
        },
        mode: mode.into(),
        device: device.map(str::to_owned),
    }
}

async fn sign_in_by_link(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    link: Valid<SignInLink>,
) -> Result<WithHeaders<Json<LoginBody>>, AccountsError> {
    let began = Instant::now();
    let SignInLink {
        token,
        code,
        mode,
        device_name,
    } = link.into_inner();
    let given = given(&on, &head, token, code)?;
    let wanted = wanted(&on, &head, from, mode, device_name);
    let signed_in = mail_sign_in::by_link(&on, given, wanted).await;
    let first = floored(began, signed_in).await;
    first_step(&on, &head, first.map_err(AccountsError::of_credentials)?).await
}

async fn sign_in_by_code(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    code: Valid<SignInCode>,
) -> Result<WithHeaders<Json<LoginBody>>, AccountsError> {
    let began = Instant::now();
    cookies::check_sign_in(&head, &on.settings.public_url)?;
    let SignInCode {
        email,
        code,
        mode,
        device_name,
    } = code.into_inner();
    let wanted = wanted(&on, &head, from, mode, device_name);
    let signed_in = match registration::address(&email) {
        Ok(email) => mail_sign_in::by_code(&on, email, code.into(), wanted).await,
        Err(_) => Err(AccountsError::InvalidCredentials),
    };
    let first = floored(began, signed_in).await;
    first_step(&on, &head, first.map_err(AccountsError::of_credentials)?).await
}

async fn verify_email(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    link: Valid<Link>,
) -> Result<NoContent, AccountsError> {
    let began = Instant::now();
    let Link { token, code } = link.into_inner();
    let given = given(&on, &head, token, code)?;
    floored(began, addresses::verify(&on, given).await).await?;
    Ok(NoContent)
}

async fn undo_email(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    link: Valid<Link>,
) -> Result<NoContent, AccountsError> {
    let began = Instant::now();
    let Link { token, code } = link.into_inner();
    let given = given(&on, &head, token, code)?;
    floored(began, addresses::undo(&on, given).await).await?;
    Ok(NoContent)
}
