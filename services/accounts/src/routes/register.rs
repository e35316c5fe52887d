//! Making an account of one's own.

use std::time::Instant;

use dotmac_platform::{
    prelude::*,
    routing::{ClientAddress, Noted, RequestHead, WithHeaders},
};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BODY, REGISTRATIONS, flow::Browser, personal, session::floored};
use crate::{
    AccountsError, cookies,
    password::Asker,
    problems::OF_REGISTRATION,
    rules::{registration, users::NewUser},
    service::{self, Service},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/register", register)
        .problems(OF_REGISTRATION)
        .summary("Make an account, which is there once its address is proved")
        .description(
            "The answer is the same whether the address has an account or not; the owner of the address gets the \
            result by mail. `DOTMAC_ACCOUNTS_REGISTRATION` decides who may register.",
        )
        .rate_limits(REGISTRATIONS)
        .body_limit(BODY);
}

/// An account to be.
#[derive(Deserialize, Validate, ToSchema)]
struct Registration {
    #[garde(length(bytes, min = 1, max = 320))]
    email: String,
    /// 15 to 128 characters. It counts if the address is proved in the same browser; else it is set by a link later.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 1024)))]
    #[schema(format = Password)]
    password: Option<String>,
    /// Left out if another user has it.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    username: Option<String>,
    #[serde(default)]
    #[garde(inner(length(chars, min = 1, max = 200), custom(personal)))]
    full_name: Option<String>,
}

/// The same for every address: it says nothing about who has an account.
async fn register(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    new: Valid<Registration>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    let began = Instant::now();
    cookies::check_sign_in(&head, &on.settings.public_url)?;
    let Registration {
        email,
        password,
        username,
        full_name,
    } = new.into_inner();
    let new = NewUser {
        email,
        username,
        full_name,
    };
    let asker = Asker {
        network: Some(service::network(from.0)),
        is_known: false,
    };
    let browser = Browser::of(&on, &head)?;
    let password = password.map(SecretString::from);
    let registered = registration::register(&on, asker, new, password, browser.hash.clone());
    floored(began, registered.await).await?;
    Ok(browser.remembered(WithHeaders::new(Noted)))
}
