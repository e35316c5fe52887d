//! Accounts that users create for themselves. Until the address is proved there is no account: a registration holds neither the
//! address nor the user name, and is over after 7 days.
//!
//! The password of a registration counts if the browser that gave it proves the address. In another browser, where the code of
//! the mail proves it, the password may be that of an attacker who registered the address of another person: it is dropped.

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::{
    audit::{AcrossActs as _, Audited},
    db::{
        AcrossTx, TenantScope, Tx,
        types::{Id, Moment},
    },
    events::Emit as _,
    mail::EmailAddress,
};
use secrecy::{ExposeSecret, SecretString};

use super::{
    held,
    mail::{self, Purpose},
    new_passwords,
    one_time::{self, Given, Letter, TRIES},
    passwords, roles,
    users::{self as user_rules, NewUser},
};
use crate::{
    AccountsError,
    audit::{Act, USER_CREATED, act_as},
    events::UserCreated,
    keys::Keys,
    names::{self, Identifier},
    password::Asker,
    secret_text::{self, Prefix},
    service::Service,
    settings::RegistrationMode,
    store::{
        registrations::{self as store, Link, RegistrationRow},
        tenants::DEFAULT,
        users::{self, UserRow},
    },
};

/// How long a registration waits for its proof.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// The role of a user who registers.
const ROLE: &str = "member";

/// Takes an account to be, and has its link mailed: the same work whether the address has an account or not.
///
/// # Errors
///
/// [`AccountsError::RegistrationClosed`]; [`AccountsError::Invalid`] for a name, an address or a password that is not accepted.
pub(crate) async fn register(
    service: &Service,
    asker: Asker,
    new: NewUser,
    password: Option<SecretString>,
    browser: Vec<u8>,
) -> Result<(), AccountsError> {
    if service.settings.registration == RegistrationMode::Closed {
        return Err(AccountsError::RegistrationClosed);
    }
    let user = user_rules::row(new, DEFAULT)?;
    let phc = match password {
        Some(password) => {
            let hashed = new_passwords::hash_new(service, asker, &user, "password", password);
            Some(hashed.await?.phc)
        }
        None => None,
    };
    let (email, email_normal) = (
        user.email.unwrap_or_default(),
        user.email_normal.unwrap_or_default(),
    );
    let now = Moment::now();
    let row = RegistrationRow {
        id: Id::new(),
        email,
        email_normal: email_normal.clone(),
        username: user.username,
        full_name: user.full_name,
        phc,
        browser: browser.clone(),
        public_id: None,
        hash: None,
        code_hmac: None,
        tries: 0,
        link_until: now,
        created_at: now,
        expires_at: now + KEPT,
    };
    let stored = service
        .open_db
        .transaction("store registration", async move |tx| {
            store::replace(tx, row).await
        });
    match stored.await {
        // Another request with the address was faster. Its registration is as good, and the answer must be the same.
        Err(error) if error.is_unique_violation() => {}
        stored => stored?,
    }
    mail::ask(service, Purpose::Register, email_normal, browser).await
}

/// Forgets the registration of an address that has an account.
pub(super) async fn forget(tx: &mut Tx, email_normal: &str) -> Result<(), AccountsError> {
    if let Some(row) = store::find_by(tx, email_normal).await? {
        store::delete(tx, row.id).await?;
    }
    Ok(())
}

/// Mails the link of a registration whose address has no account.
pub(super) async fn mail_link(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    purpose: Purpose,
    email_normal: &str,
) -> Result<(), AccountsError> {
    let Some(row) = store::find_by(tx, email_normal).await? else {
        return Ok(());
    };
    if service.settings.registration != RegistrationMode::Open {
        // No administrator has made an account for the address.
        if purpose == Purpose::Register {
            store::delete(tx, row.id).await?;
        }
        return Ok(());
    }
    let Some(to) = EmailAddress::parse(&row.email) else {
        return Ok(());
    };
    if row.expires_at <= Moment::now() || !mail::may_mail(tx, keys, email_normal).await? {
        return Ok(());
    }
    let (minted, code) = (
        secret_text::mint_pair(Prefix::OneTime)?,
        secret_text::mail_code()?,
    );
    let until = Moment::now() + mail::VERIFY_FOR;
    let link = Link {
        code_hmac: keys.mail_code(&minted.public_id, code.expose_secret())?,
        public_id: minted.public_id,
        hash: minted.hash,
        until,
    };
    store::set_link(tx, row.id, link).await?;
    let letter = Letter {
        token: minted.text,
        code,
        expires_at: until,
    };
    let data = mail::data(service, "verify", &letter);
    // The name is what the sender of the request wrote: it is not put into a mail to whatever address.
    let mail = mail::mail(service, mail::REGISTERED, to, None, &data).expires_at(until);
    service.mailer.queue(tx, DEFAULT, mail).await?;
    Ok(())
}

/// Makes the account whose address a link proves.
///
/// # Errors
///
/// [`AccountsError::LinkGone`]; [`AccountsError::Invalid`] for a code that is needed, or wrong.
pub(crate) async fn confirm(service: &Service, given: &Given) -> Result<(), AccountsError> {
    let (row, is_of_browser) = proved(service, given).await?;
    let changes = service.changes.clone();
    let made = service.open_db.act_across(
        "make registered account",
        async move |mut tx: AcrossTx<'_>| {
            let system = tx.system().await?;
            if store::delete(system, row.id).await? == 0 {
                return Err(AccountsError::LinkGone);
            }
            // An administrator may have made an account with the address meanwhile.
            let email = Identifier::Email(row.email_normal.clone());
            if users::find_by(system, &email).await?.is_some() {
                return Err(AccountsError::LinkGone);
            }
            let user = user_of(system, &row).await?;
            users::insert(system, &user).await?;
            act_as(system, user.id);
            if let Some(phc) = row.phc.filter(|_| is_of_browser) {
                passwords::set_own(system, user.id, phc).await?;
            }
            let scope = TenantScope::system(DEFAULT, "make a registered account");
            let own = tx.tenant(&scope).await?;
            roles::seed(own).await?;
            users::join(own, DEFAULT, user.id).await?;
            let role = roles::named(own, ROLE).await?;
            held::give_role_by_operator(own, &changes, user.id, &role).await?;
            own.emit(&UserCreated { user: user.id })?;
            let act = Act::on_user(USER_CREATED, user.id).detail("by", "registration");
            let recorded = act.record(tx.system().await?)?;
            Ok::<Audited<()>, AccountsError>(recorded.of(()))
        },
    );
    made.await
}

/// The user of a registration, with a user name if that is still free.
async fn user_of(tx: &mut Tx, row: &RegistrationRow) -> Result<UserRow, AccountsError> {
    let username = match row.username.clone() {
        Some(name) => {
            let taken = users::find_by(tx, &Identifier::Username(name.clone())).await?;
            Some(name).filter(|_| taken.is_none())
        }
        None => None,
    };
    let new = NewUser {
        email: row.email.clone(),
        username,
        full_name: row.full_name.clone(),
    };
    Ok(UserRow {
        email_verified_at: Some(Moment::now()),
        ..user_rules::row(new, DEFAULT)?
    })
}

/// The registration whose link that is, and whether the browser proves it that registered.
async fn proved(
    service: &Service,
    given: &Given,
) -> Result<(RegistrationRow, bool), AccountsError> {
    let pair = secret_text::read_pair(Prefix::OneTime, given.token.expose_secret());
    let pair = pair.ok_or(AccountsError::LinkGone)?;
    let (public_id, hash) = (pair.public_id.to_owned(), pair.hash);
    let read = service.open_db.read("read registration", async move |c| {
        store::find_public(c, &public_id).await
    });
    let row = read.await?.ok_or(AccountsError::LinkGone)?;
    let stored = row.hash.as_deref().unwrap_or_default();
    let is_right = constant_time::verify_slices_are_equal(stored, &hash).is_ok();
    if !is_right || row.link_until <= Moment::now() {
        return Err(AccountsError::LinkGone);
    }
    if one_time::is_of_browser(Some(&row.browser), given.browser.as_deref()) {
        return Ok((row, true));
    }
    let code = given.code.clone().ok_or_else(one_time::code_needed)?;
    let id = row.id;
    let taken = service
        .open_db
        .transaction("take try of code", async move |tx| {
            store::take_try(tx, id, TRIES).await
        });
    if taken.await? == 0 {
        return Err(AccountsError::LinkGone);
    }
    let keys = service.keys.get().await?;
    let place = row.public_id.as_deref().unwrap_or_default();
    let computed = keys.mail_code(place, code.expose_secret().trim())?;
    let stored = row.code_hmac.as_deref().unwrap_or_default();
    match constant_time::verify_slices_are_equal(stored, &computed) {
        Ok(()) => Ok((row, false)),
        Err(_) => Err(one_time::wrong_code()),
    }
}

/// The normal form of an address to mail to.
///
/// # Errors
///
/// [`AccountsError::Invalid`] for what is none.
pub(crate) fn address(text: &str) -> Result<String, AccountsError> {
    names::email(text)
        .ok_or_else(|| AccountsError::field("email", "email_invalid", "is not an e-mail address"))
}
