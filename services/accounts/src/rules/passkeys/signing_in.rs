//! Uses of a passkey: to sign in, as the second factor of a sign-in, and to step up. It is never locked, since it cannot be
//! guessed.

use dotmac_platform::{access::Principal, audit::SystemActs as _, db::types::Id};
use serde_json::Value;

use super::{
    AMR, Ceremony, Purpose, Refused, UsedPasskey, descriptors, keep, new_row, prove, relying_party,
    take,
};
use crate::{
    AccountsError,
    audit::act_as,
    keys::Keys,
    metrics::{self, Outcome},
    names::Identifier,
    relying_party::Descriptor,
    rules::{
        mfa::{self, TWO_FACTORS},
        next_step::{self, Shown, SignedIn, Wanted},
        sign_in::{NO_USER, record_failure},
        users::forget_failures,
    },
    secret_text::{self, Prefix},
    service::{self, Service},
    store::{
        ceremonies::CeremonyRow,
        devices, passkeys as store,
        sessions::Client,
        users::{self, Hold, UserId, UserRow},
    },
};

/// How a passkey that does not exist is reached: of this device, or of a phone.
const DECOY_TRANSPORTS: i32 = 0b110;

/// Lengths of the ids of passkeys that are seen often.
const DECOY_LENGTHS: [usize; 4] = [16, 20, 32, 32];

/// What an authenticator is asked to sign in: any passkey, as for the suggestions of a browser, or one of the user of
/// `identifier`. An identifier without a passkey, or without a user, has one that there is not, and always the same.
///
/// # Errors
///
/// [`AccountsError::Db`], [`AccountsError::Sealing`].
pub(crate) async fn begin_sign_in(
    service: &Service,
    identifier: Option<Identifier>,
    browser: Vec<u8>,
) -> Result<Ceremony, AccountsError> {
    let party = relying_party(service)?;
    let (begun, purpose, user) = match identifier {
        None => (party.begin_discoverable()?, Purpose::SignIn, None),
        Some(identifier) => {
            let keys = service.keys.get().await?;
            let decoys = decoys(&keys, &identifier)?;
            let read = service.open_db.read("find passkeys", async move |c| {
                let user = users::find_by(c, &identifier).await?;
                // The same queries for an identifier without a user.
                let user = user.map_or(NO_USER, |user| user.id);
                Ok::<_, AccountsError>((user, store::of_user(c, user).await?))
            });
            let (user, passkeys) = read.await?;
            let listed = match passkeys.is_empty() {
                true => decoys,
                false => descriptors(&passkeys),
            };
            let user = Some(user).filter(|user| *user != NO_USER);
            (party.begin_listed(listed)?, Purpose::NamedSignIn, user)
        }
    };
    let (flow, mut ceremony) = new_row(purpose, begun.state)?;
    ceremony.user_id = user;
    ceremony.browser = Some(browser);
    keep(service, ceremony).await?;
    Ok(Ceremony {
        flow,
        options: begun.options,
    })
}

/// What an authenticator is asked for as the second factor of the sign-in `flow`, which the answer goes on with.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] for a sign-in that is over; [`AccountsError::NotFound`] for a user without a passkey.
pub(crate) async fn begin_second_factor(
    service: &Service,
    flow: &str,
) -> Result<Ceremony, AccountsError> {
    let sign_in = mfa::waiting(service, flow).await?;
    let (options, state) = begin_for(service, sign_in.user_id).await?;
    let (_, row) = new_row(Purpose::SecondFactor, state)?;
    let ceremony = CeremonyRow {
        // The same text: the client has one flow.
        public_id: sign_in.public_id,
        hash: sign_in.hash,
        user_id: Some(sign_in.user_id),
        expires_at: sign_in.expires_at.min(row.expires_at),
        ..row
    };
    keep(service, ceremony).await?;
    Ok(Ceremony {
        flow: flow.into(),
        options,
    })
}

/// What the caller's authenticator is asked to step up.
///
/// # Errors
///
/// [`AccountsError::NotFound`] for a user without a passkey.
pub(crate) async fn begin_step_up(
    service: &Service,
    who: &Principal,
) -> Result<Ceremony, AccountsError> {
    service::person(who)?;
    let user = Id::from_uuid(who.id);
    let (options, state) = begin_for(service, user).await?;
    let (flow, mut ceremony) = new_row(Purpose::StepUp, state)?;
    ceremony.user_id = Some(user);
    ceremony.session_id = who.session.map(Id::from_uuid);
    keep(service, ceremony).await?;
    Ok(Ceremony { flow, options })
}

/// Signs in by a passkey, which is two factors by itself. The browser must be the one that asked.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] for a ceremony that is over or another browser's; [`AccountsError::InvalidCredentials`].
pub(crate) async fn sign_in(
    service: &Service,
    flow: &str,
    credential: &Value,
    browser: Option<Vec<u8>>,
    wanted: Wanted,
) -> Result<SignedIn, AccountsError> {
    let signed_in = try_to_sign_in(service, flow, credential, browser, wanted).await;
    metrics::signed_in(Outcome::of(&signed_in));
    signed_in
}

async fn try_to_sign_in(
    service: &Service,
    flow: &str,
    credential: &Value,
    browser: Option<Vec<u8>>,
    wanted: Wanted,
) -> Result<SignedIn, AccountsError> {
    let ceremony = take(service, flow, move |purpose, row| {
        matches!(purpose, Purpose::SignIn | Purpose::NamedSignIn)
            && browser.is_some()
            && row.browser == browser
    });
    let ceremony = ceremony.await?;
    let client = wanted.client.clone();
    let proof = match prove(service, &ceremony, credential).await? {
        Ok(proof) => proof,
        Err(Refused(user)) => return refuse(service, user, client).await,
    };
    let user = proof.user();
    let device = wanted.device.as_deref();
    let device = device.and_then(|text| secret_text::read(Prefix::Device, text));
    let (keys, worked) = (service.keys.get().await?, service.clone());
    let began = service.open_db.act("sign in by passkey", async move |tx| {
        // What is being changed meanwhile ends what begins here, or is seen here.
        users::hold(tx, user, Hold::Shared).await?;
        let row = users::find(tx, user).await?.filter(UserRow::is_active);
        let row = row.ok_or(AccountsError::InvalidCredentials)?;
        act_as(tx, user);
        proof.spend(tx).await?;
        // Failures of others are forgotten: the owner has signed in.
        forget_failures(tx, &keys, &row).await?;
        let device = match device {
            Some(hash) => devices::find(tx, user, hash).await?,
            None => None,
        };
        let shown = Shown {
            user: row,
            amr: AMR.to_owned(),
            device,
            client: wanted.client,
            mode: wanted.mode,
        };
        next_step::begin(tx, &worked, &keys, shown, TWO_FACTORS).await
    });
    match began.await {
        Err(AccountsError::InvalidCredentials) => refuse(service, Some(user), client).await,
        began => began,
    }
}

/// What the passkey proves that was shown as the second factor of the sign-in `flow`; `None` if it does not count.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] if none was asked for.
pub(crate) async fn prove_second_factor(
    service: &Service,
    flow: &str,
    user: UserId,
    credential: &Value,
) -> Result<Option<UsedPasskey>, AccountsError> {
    let ceremony = take(service, flow, move |purpose, row| {
        purpose == Purpose::SecondFactor && row.user_id == Some(user)
    });
    let ceremony = ceremony.await?;
    Ok(prove(service, &ceremony, credential).await?.ok())
}

/// What the passkey proves that the caller showed to step up; `None` if it does not count.
///
/// # Errors
///
/// As [`prove_second_factor`].
pub(crate) async fn prove_step_up(
    service: &Service,
    who: &Principal,
    flow: &str,
    credential: &Value,
) -> Result<Option<UsedPasskey>, AccountsError> {
    let user = Some(Id::from_uuid(who.id));
    let session = who.session.map(Id::from_uuid);
    let ceremony = take(service, flow, move |purpose, row| {
        purpose == Purpose::StepUp && row.user_id == user && row.session_id == session
    });
    let ceremony = ceremony.await?;
    Ok(prove(service, &ceremony, credential).await?.ok())
}

/// Options and state of a request for one of the user's passkeys.
async fn begin_for(service: &Service, user: UserId) -> Result<(Value, Vec<u8>), AccountsError> {
    let read = service.open_db.read("read passkeys", async move |c| {
        store::of_user(c, user).await
    });
    let passkeys = read.await?;
    if passkeys.is_empty() {
        return Err(AccountsError::NotFound);
    }
    let begun = relying_party(service)?.begin_listed(descriptors(&passkeys))?;
    Ok((begun.options, begun.state))
}

/// Records that a passkey did not let its sender in.
async fn refuse(
    service: &Service,
    user: Option<UserId>,
    client: Client,
) -> Result<SignedIn, AccountsError> {
    if let Some(stands_for) = service.failures.sample(&client.network) {
        let worked = service.clone();
        let recorded = service
            .open_db
            .transaction("record refused passkey", async move |tx| {
                let user = user.unwrap_or(NO_USER);
                record_failure(tx, &worked, user, &client, stands_for).await
            });
        recorded.await?;
    }
    Err(AccountsError::InvalidCredentials)
}

/// A passkey that there is not, always the same for an identifier.
fn decoys(keys: &Keys, identifier: &Identifier) -> Result<Vec<Descriptor>, AccountsError> {
    let mut id = Vec::new();
    for part in ["1", "2", "length"] {
        let scope = format!("passkey decoy {part}");
        id.extend(keys.throttle_key(&scope, identifier.text())?);
    }
    let last = id.last().copied().unwrap_or_default();
    id.truncate(DECOY_LENGTHS[usize::from(last) % DECOY_LENGTHS.len()]);
    Ok(vec![(id, DECOY_TRANSPORTS)])
}
