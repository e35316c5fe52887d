//! Mails: those that are asked for, and notices to the owner of an account.
//!
//! A request for a mail is answered before any query: a job finds out whether the address has an account. So neither the answer
//! nor its time reveals that.

mod letters;
mod limits;
pub(crate) mod notices;

use std::time::Duration;

use dotmac_platform::{
    db::{Tx, types::Moment},
    jobs::{Enqueue as _, Job, JobError, Rules, Run},
    mail::{EmailAddress, Mail, MailTemplate},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{
    one_time::{self, Letter, NewLink},
    passwords::epoch,
    registration,
};
use crate::{
    AccountsError,
    audit::{Act, LINK_MAILED, RESET_LINK_CREATED},
    keys::Keys,
    names::Identifier,
    service::Service,
    store::{
        tenants::DEFAULT,
        users::{self, Hold, UserId, UserRow},
    },
};
use letters::{CHANGE, CHANGED, CODE, HAVE_ACCOUNT, RESET, SIGN_IN, VERIFY};

/// How long a link is good that proves an address.
pub(super) const VERIFY_FOR: Duration = Duration::from_secs(24 * 3600);

/// How long a link or a code signs in (ASVS 6.5.5).
const SIGN_IN_FOR: Duration = Duration::from_secs(10 * 60);

/// How long a change of the address can be undone.
const UNDO_FOR: Duration = Duration::from_secs(7 * 24 * 3600);

/// What a mail is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Purpose {
    /// To set a password.
    Reset,
    /// To prove the address of an account, or of one that is to be.
    Verify,
    /// The same for one that was registered just now.
    Register,
    /// To sign in by a link.
    SignIn,
    /// To sign in by a code.
    Code,
    /// To make the address that of the account of a signed-in user.
    Change(UserId),
}

/// A mail was asked for: a job of the system, since it is not known yet whose account it is about.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct AskedMail {
    purpose: Purpose,
    /// In its normal form.
    email: String,
    /// The hash of the cookie of the browser that asked.
    browser: Vec<u8>,
}

impl Job for AskedMail {
    const KIND: &'static str = "accounts.mail";
    type Output = ();
    const RULES: Rules = Rules {
        max_attempts: 5,
        ..Rules::DEFAULT
    };
}

/// Has the mail written, if there is an account to write to.
///
/// # Errors
///
/// [`AccountsError::Busy`] while too many wait.
pub(crate) async fn ask(
    service: &Service,
    purpose: Purpose,
    email: String,
    browser: Vec<u8>,
) -> Result<(), AccountsError> {
    let asked = AskedMail {
        purpose,
        email,
        browser,
    };
    let enqueued = service
        .open_db
        .transaction("ask for mail", async move |tx| {
            tx.enqueue(&asked).await?;
            Ok::<_, AccountsError>(())
        });
    enqueued.await
}

/// Writes the mail that was asked for, once.
pub(crate) async fn write(service: Service, run: Run<AskedMail>) -> Result<(), JobError> {
    let keys = service.keys.get().await?;
    let db = service.open_db.clone();
    let written = db.transaction("write mail", async move |tx| {
        run.guard(tx).await?;
        answer(tx, &service, &keys, &run).await?;
        run.complete(tx, &()).await?;
        Ok::<_, AccountsError>(())
    });
    Ok(written.await?)
}

async fn answer(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    asked: &AskedMail,
) -> Result<(), AccountsError> {
    let identifier = Identifier::Email(asked.email.clone());
    let user = users::find_by(tx, &identifier).await?;
    // What it changes is held, so that the link is bound to it as it is.
    if let Some(user) = &user {
        users::hold(tx, user.id, Hold::Alone).await?;
    }
    let user = match user {
        Some(user) => users::find(tx, user.id).await?,
        None => None,
    };
    let browser = asked.browser.clone();
    match (asked.purpose, user) {
        (Purpose::Change(owner), taken) => change(tx, service, keys, owner, taken, asked).await,
        (Purpose::Register | Purpose::Verify, None) => {
            registration::mail_link(tx, service, keys, asked.purpose, &asked.email).await
        }
        (_, None) => Ok(()),
        (_, Some(user)) if !user.is_active() => Ok(()),
        (Purpose::Register, Some(user)) => {
            registration::forget(tx, &asked.email).await?;
            let has_password = users::password(tx, user.id).await?.is_some();
            if !limits::may_mail(tx, keys, &asked.email).await? {
                return Ok(());
            }
            if has_password {
                send(tx, service, &user, &HAVE_ACCOUNT, &[], None).await
            } else {
                // An administrator created it, and its user has not signed in yet.
                mail_link(tx, service, keys, &user, Purpose::Reset, browser).await
            }
        }
        (Purpose::Verify, Some(user)) if user.email_verified_at.is_some() => Ok(()),
        (purpose, Some(user)) => {
            if limits::may_mail(tx, keys, &asked.email).await? {
                mail_link(tx, service, keys, &user, purpose, browser).await?;
            }
            Ok(())
        }
    }
}

/// Mails a link, or a code, for an account.
async fn mail_link(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    user: &UserRow,
    purpose: Purpose,
    browser: Vec<u8>,
) -> Result<(), AccountsError> {
    let (name, page, good_for, letter) = match purpose {
        Purpose::Reset => (one_time::PASSWORD, "reset", one_time::PASSWORD_FOR, &RESET),
        Purpose::SignIn => (one_time::SIGN_IN, "sign-in", SIGN_IN_FOR, &SIGN_IN),
        Purpose::Code => (one_time::CODE, "sign-in", SIGN_IN_FOR, &CODE),
        Purpose::Verify | Purpose::Register | Purpose::Change(_) => {
            (one_time::VERIFY, "verify", VERIFY_FOR, &VERIFY)
        }
    };
    let password = users::password(tx, user.id).await?;
    let link = NewLink {
        user: user.id,
        purpose: name,
        bound_to: bound_to(user, &epoch(password.as_ref())),
        good_for,
        made_by: None,
        address: None,
    };
    let issued = one_time::issue_mailed(tx, keys, link, browser).await?;
    record(tx, user.id, name).await?;
    let data = data(service, page, &issued);
    send(tx, service, user, letter, &data, Some(issued.expires_at)).await
}

/// Mails a link to an address that is to be that of `owner`. If the address has an account, its owner gets a notice, and the
/// caller learns nothing.
async fn change(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    owner: UserId,
    taken: Option<UserRow>,
    asked: &AskedMail,
) -> Result<(), AccountsError> {
    if !limits::may_mail(tx, keys, &asked.email).await? {
        return Ok(());
    }
    if let Some(taken) = taken {
        return if taken.id == owner || !taken.is_active() {
            Ok(())
        } else {
            send(tx, service, &taken, &HAVE_ACCOUNT, &[], None).await
        };
    }
    users::hold(tx, owner, Hold::Alone).await?;
    let user = users::find(tx, owner).await?.filter(UserRow::is_active);
    let Some(user) = user else {
        return Ok(());
    };
    let password = users::password(tx, user.id).await?;
    let link = NewLink {
        user: user.id,
        purpose: one_time::CHANGE,
        bound_to: bound_to(&user, &epoch(password.as_ref())),
        good_for: VERIFY_FOR,
        made_by: None,
        address: Some(asked.email.clone()),
    };
    let issued = one_time::issue_mailed(tx, keys, link, asked.browser.clone()).await?;
    record(tx, user.id, one_time::CHANGE).await?;
    let to = EmailAddress::parse(&asked.email).ok_or(AccountsError::NotFound)?;
    let data = data(service, "verify", &issued);
    send_to(
        tx,
        service,
        (&user, to),
        &CHANGE,
        &data,
        Some(issued.expires_at),
    )
    .await
}

/// Mails a notice of a change, which was asked for at `asked_at`, to the former address, with a link that undoes it.
pub(super) async fn notify_former_address(
    tx: &mut Tx,
    service: &Service,
    former: &UserRow,
    now: &UserRow,
    asked_at: Moment,
) -> Result<(), AccountsError> {
    let Some((text, address)) = former
        .email
        .clone()
        .and_then(|text| Some((text.clone(), EmailAddress::parse(&text)?)))
    else {
        return Ok(());
    };
    let password = users::password(tx, now.id).await?;
    let link = NewLink {
        user: now.id,
        purpose: one_time::UNDO,
        bound_to: now.email_normal.clone().unwrap_or_default(),
        good_for: UNDO_FOR,
        // Who knew the password may have changed the address, to be able to change it back.
        made_by: password.and_then(|row| row.set_by),
        address: Some(text),
    };
    let (minted, expires_at) = one_time::issue_undo(tx, link, asked_at).await?;
    let url = link_to(service, "undo", &minted.text);
    let data = [("url", url)];
    send_to(
        tx,
        service,
        (former, address),
        &CHANGED,
        &data,
        Some(expires_at),
    )
    .await
}

/// Records that a link or a code was mailed.
async fn record(tx: &mut Tx, user: UserId, purpose: &'static str) -> Result<(), AccountsError> {
    let act = if purpose == one_time::PASSWORD {
        Act::on_user(RESET_LINK_CREATED, user).detail("by", "mail")
    } else {
        Act::on_user(LINK_MAILED, user).detail("purpose", purpose)
    };
    act.record_of(tx, user).await?.of(());
    Ok(())
}

/// The state that a mailed link is bound to: address and password of the account.
pub(super) fn bound_to(user: &UserRow, epoch: &str) -> String {
    format!(
        "{} {epoch}",
        user.email_normal.as_deref().unwrap_or_default()
    )
}

/// Where a link leads: to a page of this installation, whatever host a request names.
pub(super) fn link_to(service: &Service, page: &str, token: &SecretString) -> String {
    let (issuer, token) = (service.settings.issuer(), token.expose_secret());
    format!("{issuer}/account/{page}#token={token}")
}

/// What is put into a mail with a link and a code.
pub(super) fn data(service: &Service, page: &str, issued: &Letter) -> [(&'static str, String); 2] {
    [
        ("url", link_to(service, page, &issued.token)),
        ("code", issued.code.expose_secret().to_owned()),
    ]
}

/// Mails to the address of the account as it is stored.
pub(super) async fn send(
    tx: &mut Tx,
    service: &Service,
    user: &UserRow,
    letter: &'static MailTemplate,
    data: &[(&'static str, String)],
    expires_at: Option<Moment>,
) -> Result<(), AccountsError> {
    match user.email.as_deref().and_then(EmailAddress::parse) {
        Some(to) => send_to(tx, service, (user, to), letter, data, expires_at).await,
        None => Ok(()),
    }
}

/// Mails to an address; by name, if the user has proved it.
async fn send_to(
    tx: &mut Tx,
    service: &Service,
    (user, to): (&UserRow, EmailAddress),
    letter: &'static MailTemplate,
    data: &[(&'static str, String)],
    expires_at: Option<Moment>,
) -> Result<(), AccountsError> {
    // A user writes the name. Whoever has not proved to read mail there may be somebody else.
    let is_proved =
        user.email_verified_at.is_some() && user.email_normal.as_deref() == Some(to.normal());
    let name = user.full_name.clone().or_else(|| user.username.clone());
    let name = name.filter(|_| is_proved);
    let mail = Mail {
        expires_at,
        ..mail(service, letter, to, name.as_deref(), data)
    };
    let mail = mail.user(user.id.uuid(), name);
    let tenant = tx.tenant().or(user.managed_by).unwrap_or(DEFAULT);
    service.mailer.queue(tx, tenant, mail).await?;
    Ok(())
}

/// A mail with what each has: whom it greets, and where.
pub(super) fn mail(
    service: &Service,
    letter: &'static MailTemplate,
    to: EmailAddress,
    name: Option<&str>,
    data: &[(&'static str, String)],
) -> Mail {
    let host = service.settings.public_url.host_str().unwrap_or("dotmac");
    let mut values: Map<String, Value> = data
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone().into()))
        .collect();
    let name = name.unwrap_or(to.as_str()).to_owned();
    values.insert("name".to_owned(), name.into());
    values.insert("host".to_owned(), host.into());
    Mail::of_template(to, letter, Value::Object(values))
}

/// The letter for an account that is to be.
pub(super) const REGISTERED: &MailTemplate = &VERIFY;

/// Whether one more mail may go to the address; it is counted.
pub(super) async fn may_mail(
    tx: &mut Tx,
    keys: &Keys,
    email_normal: &str,
) -> Result<bool, AccountsError> {
    limits::may_mail(tx, keys, email_normal).await
}
