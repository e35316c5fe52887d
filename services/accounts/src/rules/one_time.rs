//! Links that are good once. Their text is handed out once and never stored.
//!
//! A mailed link is bound to the browser that asked for it: a mail scanner does not use it up, and a mail that an attacker asked
//! for does not sign its reader in. Another browser also needs the code of the mail.

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::{
    audit::SystemActs as _,
    db::{
        Connection, Tx,
        types::{Id, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};

use crate::{
    AccountsError,
    audit::{Act, LINK_FAIL},
    keys::Keys,
    secret_text::{self, MintedPair, Prefix},
    service::Service,
    store::{
        one_time::{self as store, OneTimeRow},
        users::UserId,
    },
};

/// Sets a password: the first one, or a new one.
pub(crate) const PASSWORD: &str = "password_reset";

/// Proves the address of an account.
pub(crate) const VERIFY: &str = "email_verify";

/// Proves another address, and makes it the account's.
pub(crate) const CHANGE: &str = "email_change";

pub(crate) use crate::store::one_time::UNDO;

/// Signs in.
pub(crate) const SIGN_IN: &str = "sign_in";

/// Signs in by the code alone.
pub(crate) const CODE: &str = "sign_in_code";

/// How long a link for a password is good.
pub(crate) const PASSWORD_FOR: Duration = Duration::from_secs(30 * 60);

/// Codes of one mail that are tried.
pub(super) const TRIES: i32 = 5;

/// A link to be, for a user whose row is held.
pub(crate) struct NewLink {
    pub(crate) user: UserId,
    pub(crate) purpose: &'static str,
    /// The state that it changes: once that is another, the link is over.
    pub(crate) bound_to: String,
    pub(crate) good_for: Duration,
    /// The administrator who made it.
    pub(crate) made_by: Option<UserId>,
    /// The address that it makes the account's.
    pub(crate) address: Option<String>,
}

/// A new link, in place of the former ones for the same purpose except [`UNDO`].
pub(crate) async fn issue(
    tx: &mut Tx,
    link: NewLink,
) -> Result<(MintedPair, Moment), AccountsError> {
    let minted = secret_text::mint_pair(Prefix::OneTime)?;
    let row = row(&minted, link);
    replace(tx, &row).await?;
    Ok((minted, row.expires_at))
}

/// A link that undoes what was asked for at `asked_at`, which is when it counts as made.
pub(crate) async fn issue_undo(
    tx: &mut Tx,
    link: NewLink,
    asked_at: Moment,
) -> Result<(MintedPair, Moment), AccountsError> {
    let minted = secret_text::mint_pair(Prefix::OneTime)?;
    let row = OneTimeRow {
        created_at: asked_at,
        ..row(&minted, link)
    };
    replace(tx, &row).await?;
    Ok((minted, row.expires_at))
}

/// What is written in a mail, and shown nowhere else.
pub(crate) struct Letter {
    pub(crate) token: SecretString,
    pub(crate) code: SecretString,
    pub(crate) expires_at: Moment,
}

/// The same for a mail that `browser` has asked for, by the hash of its cookie; in place of those alone that were asked for.
pub(crate) async fn issue_mailed(
    tx: &mut Tx,
    keys: &Keys,
    link: NewLink,
    browser: Vec<u8>,
) -> Result<Letter, AccountsError> {
    let (minted, code) = (
        secret_text::mint_pair(Prefix::OneTime)?,
        secret_text::mail_code()?,
    );
    let row = OneTimeRow {
        code_hmac: Some(keys.mail_code(&minted.public_id, code.expose_secret())?),
        browser: Some(browser),
        ..row(&minted, link)
    };
    replace(tx, &row).await?;
    Ok(Letter {
        token: minted.text,
        code,
        expires_at: row.expires_at,
    })
}

fn row(minted: &MintedPair, link: NewLink) -> OneTimeRow {
    let now = Moment::now();
    OneTimeRow {
        id: Id::new(),
        public_id: minted.public_id.clone(),
        user_id: link.user,
        purpose: link.purpose.to_owned(),
        hash: minted.hash.clone(),
        bound_to: link.bound_to,
        created_at: now,
        expires_at: now + link.good_for,
        used_at: None,
        made_by: link.made_by,
        browser: None,
        code_hmac: None,
        tries: 0,
        address: link.address,
    }
}

/// The newest link for a purpose ends those before it, unless it restores an address: an attacker who changes the address twice
/// must not end the link of its owner. One that was asked for ends others that were asked for and no more, since anybody may ask:
/// those of administrators, operators and notices stay.
async fn replace(tx: &mut Tx, row: &OneTimeRow) -> Result<(), AccountsError> {
    let (user, purpose) = (row.user_id, row.purpose.clone());
    if row.browser.is_some() {
        store::delete_asked_for(tx, user, purpose).await?;
    } else if row.purpose != UNDO {
        store::delete_of(tx, user, purpose).await?;
    }
    store::insert(tx, row).await?;
    Ok(())
}

/// What a client brings to use a link.
pub(crate) struct Given {
    /// The text of the link.
    pub(crate) token: SecretString,
    /// The code of the mail.
    pub(crate) code: Option<SecretString>,
    /// The hash of the cookie by which a browser shows that it asked for the mail.
    pub(crate) browser: Option<Vec<u8>>,
}

/// Whether the text may be a link's. What is none costs no query.
pub(crate) fn is_well_formed(text: &str) -> bool {
    secret_text::read_pair(Prefix::OneTime, text).is_some()
}

/// The row of a link for one of `purposes` that is still good, whose holder is the browser that asked for it or has the code of
/// the mail. It is not used up.
///
/// # Errors
///
/// [`AccountsError::LinkGone`], whatever is wrong with it; [`AccountsError::Invalid`] for a code that is needed, or wrong.
pub(crate) async fn prove(
    service: &Service,
    purposes: &'static [&'static str],
    given: &Given,
) -> Result<OneTimeRow, AccountsError> {
    if !is_well_formed(given.token.expose_secret()) {
        return Err(AccountsError::LinkGone);
    }
    let token = given.token.clone();
    let read = service.open_db.read("read link", async move |c| {
        look(c, purposes, token.expose_secret()).await
    });
    let row = read.await?;
    if is_of_browser(row.browser.as_deref(), given.browser.as_deref()) {
        return Ok(row);
    }
    let code = given.code.clone().ok_or_else(code_needed)?;
    if is_code(service, &row, code).await? {
        Ok(row)
    } else {
        Err(wrong_code())
    }
}

/// Whether a link that is bound to `wanted`, if it is bound at all, is used by that browser.
pub(super) fn is_of_browser(wanted: Option<&[u8]>, given: Option<&[u8]>) -> bool {
    match (wanted, given) {
        (None, _) => true,
        (Some(wanted), Some(given)) => {
            constant_time::verify_slices_are_equal(wanted, given).is_ok()
        }
        (Some(_), None) => false,
    }
}

/// Whether that is the code of the mail. Takes one of its tries, before the code is compared, so that many requests at once have
/// no more tries than one after the other.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] once there is none left.
pub(super) async fn is_code(
    service: &Service,
    row: &OneTimeRow,
    code: SecretString,
) -> Result<bool, AccountsError> {
    let (id, keys) = (row.id, service.keys.get().await?);
    let taken = service
        .open_db
        .transaction("take try of code", async move |tx| {
            store::take_try(tx, id, TRIES).await
        });
    if taken.await? == 0 {
        return Err(AccountsError::LinkGone);
    }
    let given = keys.mail_code(&row.public_id, code.expose_secret().trim())?;
    let stored = row.code_hmac.as_deref().unwrap_or_default();
    if constant_time::verify_slices_are_equal(stored, &given).is_ok() {
        return Ok(true);
    }
    let (user, purpose) = (row.user_id, row.purpose.clone());
    let failed = service.open_db.act("record wrong code", async move |tx| {
        let act = Act::on_user(LINK_FAIL, user).failed("the code of the mail is not right");
        let act = act.detail("purpose", purpose);
        Ok::<_, AccountsError>(act.record_of(tx, user).await?.of(false))
    });
    failed.await
}

pub(super) fn code_needed() -> AccountsError {
    let why = "is needed, since another browser has asked for the mail; the mail has it";
    AccountsError::field("code", "code_needed", why)
}

pub(super) fn wrong_code() -> AccountsError {
    AccountsError::field("code", "code_wrong", "is not the code of the mail")
}

/// The row of a link that is still good, whatever browser it is of.
async fn look(
    c: &mut Connection,
    purposes: &'static [&'static str],
    text: &str,
) -> Result<OneTimeRow, AccountsError> {
    let given = secret_text::read_pair(Prefix::OneTime, text).ok_or(AccountsError::LinkGone)?;
    let row = store::find(c, given.public_id)
        .await?
        .ok_or(AccountsError::LinkGone)?;
    let is_right = constant_time::verify_slices_are_equal(&row.hash, &given.hash).is_ok();
    if is_right && purposes.contains(&row.purpose.as_str()) && row.is_good() {
        Ok(row)
    } else {
        Err(AccountsError::LinkGone)
    }
}

/// Uses the link up.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] if another request did before.
pub(crate) async fn use_up(tx: &mut Tx, row: &OneTimeRow) -> Result<(), AccountsError> {
    match store::use_up(tx, row.id).await? {
        0 => Err(AccountsError::LinkGone),
        _ => Ok(()),
    }
}
