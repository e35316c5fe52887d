//! The second step of a sign-in.

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::{
    audit::SystemActs as _,
    db::{
        Tx,
        types::{Id, Json, Moment},
    },
};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use uuid::Uuid;

use super::{
    factors::{self, Proof},
    mail::notices,
    next_step::{self, Shown, SignedIn},
    passkeys,
    passwords::epoch,
    sessions::{self, Mode},
    throttle::{self, Limit},
};
use crate::{
    AccountsError,
    audit::{Act, LOGIN_LOCK, MFA_FAIL, act_as},
    keys::Keys,
    metrics,
    password::Asker,
    secret_text::{self, Prefix},
    service::Service,
    store::{
        devices,
        factors::{self as factor_store, Held},
        flows::{self, FlowData, FlowRow},
        sessions::{COOKIE, SessionId, TOKEN},
        users::{self, Hold, UserId, UserRow},
    },
};

/// By what failures of a signed-in user are counted: apart from those of sign-ins, so that a stolen session does not lock the user
/// out.
pub(super) const STEP_UP: &str = "mfa step-up";

/// By what failures of sign-ins are counted, together with the user: of a known device apart from all others, and of recovery
/// codes apart from those of the app, which are guessed long before.
fn scope_of(method: Method, device: Option<Uuid>) -> String {
    let scope = match method {
        Method::Totp => "mfa",
        Method::RecoveryCode => "mfa recovery",
    };
    device.map_or_else(|| scope.to_owned(), |device| format!("{scope} {device}"))
}

/// Forgets the failures of all second factors of the user. An operator does it, whom no link and no role makes.
pub(crate) async fn forget_failures(
    tx: &mut Tx,
    keys: &Keys,
    user: UserId,
) -> Result<(), AccountsError> {
    let mut scopes = vec![STEP_UP.to_owned()];
    let known = devices::of_user(tx, user).await?;
    let known = known.into_iter().map(|device| Some(device.uuid()));
    for device in known.chain([None]) {
        scopes.extend([Method::Totp, Method::RecoveryCode].map(|method| scope_of(method, device)));
    }
    for scope in scopes {
        throttle::forget(tx, keys.throttle_key(&scope, &user.to_string())?).await?;
    }
    Ok(())
}

/// How long a sign-in waits for its second factor.
const GOOD_FOR: Duration = Duration::from_secs(5 * 60);

/// Wrong codes of one sign-in.
const TRIES: i32 = 5;

/// Strength of a session with two factors.
pub(super) const TWO_FACTORS: i32 = 2;

/// The kind of a code that a client brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Totp,
    RecoveryCode,
}

/// What a client brings as a second factor.
pub(crate) enum Evidence {
    Code(Method, SecretString),
    /// The answer of an authenticator to what it was asked.
    Passkey(Value),
}

impl Evidence {
    /// The kind of its code. Failures of passkeys are not counted: there is nothing to guess.
    const fn counted(&self) -> Option<Method> {
        match self {
            Self::Code(method, _) => Some(*method),
            Self::Passkey(_) => None,
        }
    }
}

/// What a user with these factors, and so many unused recovery codes, may bring.
pub(crate) fn methods(held: Held, codes_left: i64) -> Vec<&'static str> {
    let methods = [
        (held.passkeys > 0, "passkey"),
        (held.totp, "totp"),
        (codes_left > 0, "recovery_code"),
    ];
    let held = methods.into_iter().filter(|(is_held, _)| *is_held);
    held.map(|(_, method)| method).collect()
}

/// Has the sign-in wait for a second factor; the text by which it goes on, handed out once.
pub(crate) async fn begin(
    tx: &mut Tx,
    user: UserId,
    data: FlowData,
) -> Result<SecretString, AccountsError> {
    let minted = secret_text::mint_pair(Prefix::Flow)?;
    let row = FlowRow {
        id: Id::new(),
        public_id: minted.public_id,
        user_id: user,
        hash: minted.hash,
        data: Json(data),
        tries: 0,
        expires_at: Moment::now() + GOOD_FOR,
    };
    flows::insert(tx, &row).await?;
    Ok(minted.text)
}

/// The kind of session that a flow is for.
pub(crate) const fn kind(mode: Mode) -> &'static str {
    match mode {
        Mode::Cookie => COOKIE,
        Mode::Token => TOKEN,
    }
}

/// The sign-in of that text, which waits for its second factor.
///
/// # Errors
///
/// [`AccountsError::LinkGone`] for one that is over.
pub(super) async fn waiting(service: &Service, flow: &str) -> Result<FlowRow, AccountsError> {
    let given = secret_text::read_pair(Prefix::Flow, flow).ok_or(AccountsError::LinkGone)?;
    let public_id = given.public_id.to_owned();
    let read = service.open_db.read("find sign-in", async move |c| {
        flows::find(c, &public_id).await
    });
    let row = read.await?.filter(|row| {
        is_of(row, &given.hash) && row.expires_at > Moment::now() && row.tries < TRIES
    });
    row.ok_or(AccountsError::LinkGone)
}

fn is_of(flow: &FlowRow, hash: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(&flow.hash, hash).is_ok()
}

/// Goes on with a sign-in by its second factor. That of a browser goes on from this site alone: else another one could sign the
/// browser in to its own account.
///
/// # Errors
///
/// [`AccountsError::Csrf`]; [`AccountsError::LinkGone`] for a flow that is over, [`AccountsError::InvalidCredentials`] for a wrong code,
/// [`AccountsError::Throttled`], [`AccountsError::Busy`].
pub(crate) async fn verify(
    service: &Service,
    asker: Asker,
    flow: &str,
    evidence: &Evidence,
    is_of_this_site: bool,
) -> Result<SignedIn, AccountsError> {
    let text = flow;
    let given = secret_text::read_pair(Prefix::Flow, flow).ok_or(AccountsError::LinkGone)?;
    let keys = service.keys.get().await?;
    let (public_id, hash, throttles) = (given.public_id.to_owned(), given.hash, keys.clone());
    let counted = evidence.counted();
    // Before the code is checked, so that concurrent requests have no more tries than sequential ones.
    let taken = service
        .open_db
        .transaction("take try of second factor", async move |tx| {
            let flow = flows::find(tx, &public_id)
                .await?
                .ok_or(AccountsError::LinkGone)?;
            let is_right = is_of(&flow, &hash);
            if is_right && flow.data.0.kind == COOKIE && !is_of_this_site {
                return Err(AccountsError::Csrf);
            }
            if !is_right
                || flow.expires_at <= Moment::now()
                || flows::take_try(tx, flow.id, TRIES).await? == 0
            {
                return Err(AccountsError::LinkGone);
            }
            let scope = counted.map(|method| scope_of(method, flow.data.0.device));
            let key = scope.map(|scope| throttles.throttle_key(&scope, &flow.user_id.to_string()));
            let key = key.transpose()?;
            if let Some(key) = key.clone() {
                throttle::check(tx, key).await?;
            }
            Ok((flow, key))
        });
    let (flow, key) = taken.await?;
    let user = flow.user_id;
    let proof = match evidence {
        Evidence::Code(method, code) => prove(service, asker, user, *method, code).await?,
        Evidence::Passkey(credential) => {
            let used = passkeys::prove_second_factor(service, text, user, credential).await?;
            used.map(Proof::Passkey)
        }
    };
    let Some(proof) = proof else {
        count_failure(service, user, key, None).await?;
        return Err(AccountsError::InvalidCredentials);
    };
    let worked = service.clone();
    let began = service
        .open_db
        .act("sign in by second factor", async move |tx| {
            if flows::delete(tx, flow.id).await? == 0 {
                return Err(AccountsError::LinkGone);
            }
            // A password that is being set meanwhile ends what begins here, or is seen here.
            users::hold(tx, user, Hold::Shared).await?;
            if let Some(key) = key {
                // Failures of others meanwhile count against a right code among many at once.
                throttle::check(tx, key.clone()).await?;
                throttle::forget(tx, key).await?;
            }
            factors::spend(tx, &proof).await?;
            let user = users::find(tx, user).await?;
            let user = user
                .filter(UserRow::is_active)
                .ok_or(AccountsError::InvalidCredentials)?;
            let FlowData {
                kind,
                client,
                device,
                password_epoch,
                first,
            } = flow.data.0;
            if epoch(users::password(tx, user.id).await?.as_ref()) != password_epoch {
                return Err(AccountsError::LinkGone);
            }
            act_as(tx, user.id);
            let shown = Shown {
                user,
                amr: format!("{first} {}", proof.amr()),
                device: device.map(Id::from_uuid),
                client,
                mode: if kind == COOKIE {
                    Mode::Cookie
                } else {
                    Mode::Token
                },
            };
            next_step::begin(tx, &worked, &keys, shown, TWO_FACTORS).await
        });
    began.await
}

/// What the code proves; `None` if it is not right.
pub(super) async fn prove(
    service: &Service,
    asker: Asker,
    user: UserId,
    method: Method,
    code: &SecretString,
) -> Result<Option<Proof>, AccountsError> {
    let code = code.expose_secret();
    match method {
        Method::Totp => factors::prove_totp(service, user, code).await,
        Method::RecoveryCode => factors::prove_recovery(service, asker, user, code).await,
    }
}

/// Records the failure, and counts one that has a key: of the account over all its sign-ins, or of its sessions, of which the
/// last one ends that session.
///
/// # Errors
///
/// [`AccountsError::Throttled`] if failures of others have throttled it meanwhile, as for the right code.
pub(super) async fn count_failure(
    service: &Service,
    user: UserId,
    key: Option<Vec<u8>>,
    session: Option<SessionId>,
) -> Result<(), AccountsError> {
    let worked = service.clone();
    let counted = service
        .open_db
        .act("count failure of second factor", async move |tx| {
            let mut held = Ok(());
            if let Some(key) = key {
                held = throttle::check(tx, key.clone()).await;
                let failures = throttle::count(tx, key, Limit::FACTOR).await?;
                match session {
                    _ if failures != Some(Limit::FACTOR.most) => {}
                    Some(session) => {
                        let changes = &worked.changes;
                        sessions::end_by_id(tx, changes, session, "too_many_failures").await?;
                    }
                    None => {
                        let act = Act::on_user(LOGIN_LOCK, user);
                        let act = act.failed("there were too many wrong codes");
                        tx.after_commit(metrics::locked_out);
                        act.record_of(tx, user).await?.of(());
                        notices::factor_locked(tx, &worked, user).await?;
                    }
                }
            }
            let act = Act::on_user(MFA_FAIL, user).failed("the second factor is not right");
            // The count is kept, whatever the answer.
            Ok::<_, AccountsError>(act.record_of(tx, user).await?.of(held))
        });
    counted.await?
}

/// Whether what is to be done needs both factors of the user, or one.
pub(crate) async fn needed(service: &Service, user: UserId) -> Result<u8, AccountsError> {
    let read = service.open_db.read("read factors", async move |c| {
        factor_store::held(c, user).await
    });
    Ok(read.await?.needed())
}
