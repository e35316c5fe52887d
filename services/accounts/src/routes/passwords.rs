//! Setting and changing passwords.

use std::time::Instant;

use dotmac_platform::{
    db::types::Id,
    prelude::*,
    routing::{ClientAddress, RequestHead},
};
use garde::Validate;
use secrecy::SecretString;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BODY, LINKS, PASSWORDS, links::given, session::floored};
use crate::{
    AccountsError, cookies,
    password::Asker,
    problems::{OF_LINK, OF_OWN},
    rules::{
        mfa,
        passwords::{self, Ends},
    },
    secret_text::{self, Prefix},
    service::{self, Service},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/password/reset", reset_password)
        .problems(OF_LINK)
        .summary("Set the password that a link allows to set")
        .rate_limits(LINKS)
        .body_limit(BODY);
    routes
        .post("/password/change", change_password)
        .problems(OF_OWN)
        .summary("Change your own password")
        .rate_limit(PASSWORDS)
        .body_limit(BODY);
}

/// A link and the password that it sets.
#[derive(Deserialize, Validate, ToSchema)]
struct Reset {
    /// What stands behind `#token=` in the link.
    #[garde(length(bytes, min = 1, max = 256))]
    token: String,
    /// 15 to 128 characters; at least 8 for a user with a second factor.
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    password: String,
    /// The code of the mail, in another browser than the one that asked for it.
    #[serde(default)]
    #[garde(inner(length(bytes, min = 1, max = 64)))]
    code: Option<String>,
}

/// The present password and the new one.
#[derive(Deserialize, Validate, ToSchema)]
struct PasswordChange {
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    current: String,
    /// 15 to 128 characters; at least 8 for a user with a second factor.
    #[garde(length(bytes, min = 1, max = 1024))]
    #[schema(format = Password)]
    new: String,
    /// Whether all other sessions end, and no other device is known any more.
    #[serde(default = "yes")]
    #[garde(skip)]
    end_others: bool,
    /// Whether your API keys are revoked; `end_others` by default.
    #[serde(default)]
    #[garde(skip)]
    revoke_keys: Option<bool>,
}

const fn yes() -> bool {
    true
}

async fn reset_password(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    from: ClientAddress,
    body: Valid<Reset>,
) -> Result<NoContent, AccountsError> {
    let began = Instant::now();
    let Reset {
        token,
        password,
        code,
    } = body.into_inner();
    let given = given(&on, &head, token, code)?;
    let asker = Asker {
        network: Some(service::network(from.0)),
        is_known: false,
    };
    let reset = passwords::reset(&on, asker, given, password.into()).await;
    floored(began, reset).await?;
    Ok(NoContent)
}

async fn change_password(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
    body: Valid<PasswordChange>,
) -> Result<NoContent, AccountsError> {
    service::person(&who)?;
    let PasswordChange {
        current,
        new,
        end_others,
        revoke_keys,
    } = body.into_inner();
    let needed = mfa::needed(&on, Id::from_uuid(who.id)).await?;
    if needed > 1 {
        service::authenticated_now(&who, needed)?;
    }
    let both = (SecretString::from(current), SecretString::from(new));
    let device = head.cookie(cookies::device_name(
        on.settings.has_secure_cookies(head.is_secure()),
    ));
    let ends = Ends {
        others: end_others,
        device: device.and_then(|text| secret_text::read(Prefix::Device, text)),
        keys: revoke_keys.unwrap_or(end_others),
    };
    passwords::change(&on, &who, both, ends).await?;
    Ok(NoContent)
}
