//! Requests for mails. Each gets the same answer, whether its address has an account or not, before any query.

use std::time::Instant;

use dotmac_platform::{
    db::types::Id,
    prelude::*,
    routing::{Noted, RequestHead, WithHeaders},
};
use garde::Validate;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{BODY, CHANGES, MAILS, flow::Browser, session::floored};
use crate::{
    AccountsError, cookies,
    problems::{OF_MAIL, OF_OWN},
    rules::{
        mail::{self, Purpose},
        mfa, registration,
    },
    service::{self, Service},
};

pub(super) fn declare(routes: &mut Routes) {
    routes
        .post("/password/forgot", forgot_password)
        .problems(OF_MAIL)
        .summary("Have a link mailed that sets a password")
        .rate_limits(MAILS)
        .body_limit(BODY);
    routes
        .post("/email/resend", resend_verification)
        .problems(OF_MAIL)
        .summary("Have the link mailed again that proves an address")
        .rate_limits(MAILS)
        .body_limit(BODY);
    routes
        .post("/magic-link", ask_for_link)
        .problems(OF_MAIL)
        .summary("Have a link mailed that signs in")
        .rate_limits(MAILS)
        .body_limit(BODY);
    routes
        .post("/code", ask_for_code)
        .problems(OF_MAIL)
        .summary("Have a code mailed that signs in")
        .rate_limits(MAILS)
        .body_limit(BODY);
    routes
        .post("/email/change", change_email)
        .problems(OF_OWN)
        .summary("Have a link mailed to another address, which makes it that of your account")
        .rate_limit(CHANGES)
        .body_limit(BODY);
}

/// Where a mail is to go.
#[derive(Deserialize, Validate, ToSchema)]
struct MailRequest {
    /// An e-mail address.
    #[garde(length(bytes, min = 1, max = 320))]
    email: String,
}

/// Has a mail written, which is bound to the browser that asks.
async fn ask(
    on: &Service,
    head: &RequestHead,
    purpose: Purpose,
    email: &str,
) -> Result<WithHeaders<Noted>, AccountsError> {
    let began = Instant::now();
    let asked = async {
        // Else another site could have the links of its own account accepted in this browser.
        cookies::check_sign_in(head, &on.settings.public_url)?;
        let email = registration::address(email)?;
        let browser = Browser::of(on, head)?;
        mail::ask(on, purpose, email, browser.hash.clone()).await?;
        Ok(browser)
    };
    let browser = floored(began, asked.await).await?;
    Ok(browser.remembered(WithHeaders::new(Noted)))
}

async fn forgot_password(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<MailRequest>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    ask(&on, &head, Purpose::Reset, &asked.email).await
}

async fn resend_verification(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<MailRequest>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    ask(&on, &head, Purpose::Verify, &asked.email).await
}

async fn ask_for_link(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<MailRequest>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    ask(&on, &head, Purpose::SignIn, &asked.email).await
}

async fn ask_for_code(
    _: Public,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<MailRequest>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    ask(&on, &head, Purpose::Code, &asked.email).await
}

async fn change_email(
    who: Authenticated,
    on: Use<Service>,
    head: RequestHead,
    asked: Valid<MailRequest>,
) -> Result<WithHeaders<Noted>, AccountsError> {
    service::person(&who)?;
    let user = Id::from_uuid(who.id);
    let needed = mfa::needed(&on, user).await?;
    service::authenticated_now(&who, needed)?;
    ask(&on, &head, Purpose::Change(user), &asked.email).await
}
