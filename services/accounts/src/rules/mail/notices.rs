//! Mails to the owner of an account about what happened to it. No request asks for them, so they have no limit.

use std::time::Duration;

use dotmac_platform::{
    db::{Tx, types::Moment},
    jobs::{Job, JobError, Rules, Run},
    mail::MailTemplate,
};
use serde::{Deserialize, Serialize};

use super::{
    letters::{
        FACTOR_ADDED, FACTOR_LOCKED, FACTOR_REMOVED, KEY_REPORTED, LOCKED, PASSWORD_CHANGED,
        REFRESH_REUSED,
    },
    link_to, send,
};
use crate::{
    AccountsError,
    rules::{
        one_time::{self, NewLink},
        passwords,
    },
    secret_text::MintedPair,
    service::Service,
    store::{
        api_keys::ApiKeyRow,
        bindings,
        users::{self, UserId, UserRow},
    },
};

/// Owners of a tenant who are written to.
const MOST_OWNERS: i64 = 10;

/// How long the link of a notice signs in.
const SIGN_IN_FOR: Duration = Duration::from_secs(30 * 60);

/// The password was set or changed.
pub(crate) async fn password_changed(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let Some(user) = users::find(tx, user).await? else {
        return Ok(());
    };
    send(tx, service, &user, &PASSWORD_CHANGED, &[], None).await
}

/// A second factor of that kind was added.
pub(crate) async fn factor_added(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
    kind: &str,
) -> Result<(), AccountsError> {
    of_factor(tx, service, user, &FACTOR_ADDED, (kind, Moment::now())).await
}

async fn of_factor(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
    letter: &'static MailTemplate,
    (kind, at): (&str, Moment),
) -> Result<(), AccountsError> {
    let Some(user) = users::find(tx, user).await? else {
        return Ok(());
    };
    let factor = match kind {
        "totp" => "authenticator app",
        kind => kind,
    };
    let at: chrono::DateTime<chrono::Utc> = at.into();
    let data = [
        ("factor", factor.to_owned()),
        ("at", at.format("%Y-%m-%d at %H:%M UTC").to_string()),
    ];
    send(tx, service, &user, letter, &data, None).await
}

/// Second factors of these kinds were removed: a job, since a command also removes some, and a command sends no mail.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct RemovedFactors {
    user: UserId,
    kinds: Vec<String>,
    at: Moment,
}

impl Job for RemovedFactors {
    const KIND: &'static str = "accounts.factors_removed";
    type Output = ();
    const RULES: Rules = Rules {
        max_attempts: 5,
        ..Rules::DEFAULT
    };
}

impl RemovedFactors {
    /// Removed just now.
    pub(crate) fn now(user: UserId, kinds: &[&str]) -> Self {
        Self {
            user,
            kinds: kinds.iter().map(|kind| (*kind).to_owned()).collect(),
            at: Moment::now(),
        }
    }
}

/// Writes a mail for each kind, once.
pub(crate) async fn write_removed(
    service: Service,
    run: Run<RemovedFactors>,
) -> Result<(), JobError> {
    let db = service.open_db.clone();
    let written = db.transaction("write notice", async move |tx| {
        run.guard(tx).await?;
        for kind in &run.kinds {
            of_factor(tx, &service, run.user, &FACTOR_REMOVED, (kind, run.at)).await?;
        }
        run.complete(tx, &()).await?;
        Ok::<_, AccountsError>(())
    });
    Ok(written.await?)
}

/// A refresh token of the user was used a second time.
pub(crate) async fn refresh_reused(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let Some(user) = users::find(tx, user).await? else {
        return Ok(());
    };
    send(tx, service, &user, &REFRESH_REUSED, &[], None).await
}

/// Codes were locked: the client that gave the wrong ones had passed the first step of the sign-in.
pub(crate) async fn factor_locked(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let user = users::find(tx, user).await?.filter(UserRow::is_active);
    match user {
        Some(user) => send(tx, service, &user, &FACTOR_LOCKED, &[], None).await,
        None => Ok(()),
    }
}

/// An API key was reported and revoked: to its owner; of a service account to the owners of its tenant.
pub(crate) async fn key_reported(
    tx: &mut Tx,
    service: &Service,
    key: &ApiKeyRow,
) -> Result<(), AccountsError> {
    let owners = match key.user_id {
        Some(user) => vec![user],
        None => bindings::active_owners(tx, key.tenant_id, MOST_OWNERS).await?,
    };
    for owner in owners {
        let Some(user) = users::find(tx, owner).await?.filter(UserRow::is_active) else {
            continue;
        };
        // Not its name, which an attacker may have chosen.
        let data = [("key", key.public_id.clone())];
        send(tx, service, &user, &KEY_REPORTED, &data, None).await?;
    }
    Ok(())
}

/// Passwords from unknown devices let the user in no more; a link that does, and that ends the lock. Once a day while tries go on.
pub(crate) async fn locked(
    tx: &mut Tx,
    service: &Service,
    user: UserId,
) -> Result<(), AccountsError> {
    let user = users::find(tx, user).await?.filter(UserRow::is_active);
    let Some(user) = user else {
        return Ok(());
    };
    let password = users::password(tx, user.id).await?;
    let link = NewLink {
        user: user.id,
        purpose: one_time::SIGN_IN,
        bound_to: super::bound_to(&user, &passwords::epoch(password.as_ref())),
        good_for: SIGN_IN_FOR,
        made_by: None,
        address: None,
    };
    let (MintedPair { text, .. }, expires_at) = one_time::issue(tx, link).await?;
    let url = link_to(service, "sign-in", &text);
    send(
        tx,
        service,
        &user,
        &LOCKED,
        &[("url", url)],
        Some(expires_at),
    )
    .await
}
