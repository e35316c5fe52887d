//! Signing in by a link or a code that was mailed: one factor, which a lock of passwords does not concern.

use dotmac_platform::{audit::SystemActs as _, db::types::Id};
use secrecy::SecretString;

use super::{
    addresses,
    next_step::{self, FirstStep, Shown, Wanted},
    one_time::{self, Given},
    passwords,
    users::forget_failures,
};
use crate::{
    AccountsError,
    audit::act_as,
    metrics::{self, Outcome},
    names::Identifier,
    secret_text::{self, Prefix},
    service::Service,
    store::{
        devices,
        one_time::{self as store, OneTimeRow},
        users::{self, Hold, UserRow},
    },
};

/// The factor, as a session has it: RFC 8176 has no word for it.
const AMR: &str = "mail";

/// Signs in by the link of a mail.
///
/// # Errors
///
/// As [`one_time::prove`].
pub(crate) async fn by_link(
    service: &Service,
    given: Given,
    wanted: Wanted,
) -> Result<FirstStep, AccountsError> {
    let proved = one_time::prove(service, &[one_time::SIGN_IN], &given).await;
    let signed_in = match proved {
        Ok(row) => sign_in(service, row, wanted).await,
        Err(error) => Err(error),
    };
    measured(signed_in)
}

/// Signs in by the code of a mail.
///
/// # Errors
///
/// [`AccountsError::InvalidCredentials`], also for an address without an account.
pub(crate) async fn by_code(
    service: &Service,
    email: String,
    code: SecretString,
    wanted: Wanted,
) -> Result<FirstStep, AccountsError> {
    let signed_in = match row_of_code(service, email, code).await {
        Ok(row) => sign_in(service, row, wanted).await,
        Err(error) => Err(error),
    };
    measured(signed_in.map_err(|error| match error {
        AccountsError::LinkGone => AccountsError::InvalidCredentials,
        error => error,
    }))
}

fn measured(signed_in: Result<FirstStep, AccountsError>) -> Result<FirstStep, AccountsError> {
    metrics::signed_in(match &signed_in {
        Ok(FirstStep::SecondFactor(_)) => Outcome::SecondFactor,
        Err(AccountsError::Invalid(_)) => Outcome::Refused,
        result => Outcome::of(result),
    });
    signed_in
}

/// The row of the newest code that was mailed to the address, if that is the code.
async fn row_of_code(
    service: &Service,
    email: String,
    code: SecretString,
) -> Result<OneTimeRow, AccountsError> {
    let read = service.open_db.read("find code", async move |c| {
        let user = users::find_by(c, &Identifier::Email(email)).await?;
        // The same queries for an address that has no account.
        let id = user.map(|user| user.id).unwrap_or_default();
        store::find_of(c, id, one_time::CODE).await
    });
    let row = read.await?.ok_or(AccountsError::InvalidCredentials)?;
    if !row.is_good() || !one_time::is_code(service, &row, code).await? {
        return Err(AccountsError::InvalidCredentials);
    }
    Ok(row)
}

async fn sign_in(
    service: &Service,
    row: OneTimeRow,
    wanted: Wanted,
) -> Result<FirstStep, AccountsError> {
    let Wanted {
        client,
        mode,
        device,
    } = wanted;
    let device = device.and_then(|text| secret_text::read(Prefix::Device, &text));
    let (keys, worked) = (service.keys.get().await?, service.clone());
    let began = service.open_db.act("sign in by mail", async move |tx| {
        // A password that is being set meanwhile ends what begins here, or is seen here.
        users::hold(tx, row.user_id, Hold::Alone).await?;
        let user = users::find(tx, row.user_id).await?;
        let user = user
            .filter(UserRow::is_active)
            .ok_or(AccountsError::LinkGone)?;
        if !passwords::is_bound(tx, &row, &user).await? {
            return Err(AccountsError::LinkGone);
        }
        one_time::use_up(tx, &row).await?;
        act_as(tx, user.id);
        let user = if user.email_verified_at.is_none() {
            addresses::set_verified(tx, &user).await?;
            users::find(tx, user.id)
                .await?
                .ok_or(AccountsError::LinkGone)?
        } else {
            user
        };
        // From whichever devices they were: the owner has signed in.
        forget_failures(tx, &keys, &user).await?;
        let device: Option<Id<devices::Device>> = match device {
            Some(hash) => devices::find(tx, user.id, hash).await?,
            None => None,
        };
        let shown = Shown {
            user,
            amr: AMR.to_owned(),
            device,
            client,
            mode,
        };
        next_step::go_on(tx, &worked, &keys, shown).await
    });
    began.await
}
