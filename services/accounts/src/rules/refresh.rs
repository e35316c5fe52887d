//! Refresh tokens: derived, not stored. A row knows the present generation and a salt; the code is a keyed hash whose key
//! is not in the database in the clear.
//!
//! A token that is used a second time gives the same successor for a short while, since tabs and retries do that. It also
//! does if the answer with the successor seems to have been lost, which is known from no token of it having been seen.
//! Any other second use is theft: the session ends.

use std::time::Duration;

use aws_lc_rs::constant_time;
use dotmac_platform::db::{Tx, types::Moment};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::{
    mail::notices,
    sessions::{self, Issued, Secret},
};
use crate::{
    AccountsError,
    audit::{Act, Resource, TOKEN_REUSE},
    keys::{CODE_BYTES, Keys},
    secret_text::{self, Prefix, random},
    service::Service,
    store::sessions::{self as store, By, Found, RefreshRow, SessionId, SessionRow},
};

const VERSION: u8 = 1;

/// Bytes of a salt.
const SALT: usize = 16;

/// Version, key number, session, generation, code.
const BYTES: usize = 1 + 1 + 16 + 4 + CODE_BYTES;

/// How often a successor whose answer was lost is given again.
const LOST: i32 = 3;

/// What a refresh token says.
struct Given {
    key: u8,
    session: SessionId,
    generation: u32,
    code: Zeroizing<[u8; CODE_BYTES]>,
}

/// What came of a refresh.
pub(crate) enum Refreshed {
    Issued(Box<Issued>),
    /// The token was used before; the session was ended, which is to be committed.
    Reused,
}

/// What is to be done with a token of `given`, once its code was found to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Rotate,
    /// The same successor again.
    Again,
    /// The same successor again, and count that its answer was lost.
    Lost,
    Reuse,
    /// A generation that does not exist yet.
    Invalid,
}

/// The state of a session's first refresh token.
pub(super) fn first(session: &SessionRow) -> Result<RefreshRow, AccountsError> {
    Ok(RefreshRow {
        session_id: session.id,
        tenant_id: session.tenant_id,
        salt: random::<SALT>()?.to_vec(),
        generation: 1,
        confirmed_gen: 0,
        rotated_at: session.created_at,
        lost_replays: 0,
    })
}

/// The token of a generation.
pub(super) fn token(
    keys: &Keys,
    session: SessionId,
    generation: i64,
    salt: &[u8],
) -> Result<SecretString, AccountsError> {
    let key = keys.secret_number().ok_or(AccountsError::NoSigningKey)?;
    let generation = u32::try_from(generation).map_err(|_| AccountsError::SessionEnded)?;
    let head = head(key, session, generation);
    let code = keys
        .refresh_code(key, &[&head, salt])
        .ok_or(AccountsError::NoSigningKey)?;
    let bytes = Zeroizing::new([&head[..], &code[..]].concat());
    Ok(secret_text::encode(Prefix::Refresh, &bytes))
}

fn head(key: u8, session: SessionId, generation: u32) -> Vec<u8> {
    let mut head = vec![VERSION, key];
    head.extend_from_slice(session.uuid().as_bytes());
    head.extend_from_slice(&generation.to_be_bytes());
    head
}

fn read(text: &str) -> Option<Given> {
    let bytes = secret_text::decode::<BYTES>(Prefix::Refresh, text)?;
    let (head, code) = bytes.split_last_chunk::<CODE_BYTES>()?;
    let (first, generation) = head.split_last_chunk::<4>()?;
    let (version_and_key, session) = first.split_last_chunk::<16>()?;
    let [VERSION, key] = version_and_key else {
        return None;
    };
    Some(Given {
        key: *key,
        session: SessionId::from_uuid(uuid::Uuid::from_bytes(*session)),
        generation: u32::from_be_bytes(*generation),
        code: Zeroizing::new(*code),
    })
}

/// Whether the text may be a refresh token. What is none costs no transaction.
pub(crate) fn is_well_formed(text: &str) -> bool {
    read(text).is_some()
}

/// Gives the next tokens for a refresh token, if its session `may_go_on`: asked once the token has proved to be of it.
///
/// # Errors
///
/// [`AccountsError::TokenInvalid`], which changes nothing; [`AccountsError::SessionEnded`]; what `may_go_on` says.
pub(crate) async fn refresh(
    tx: &mut Tx,
    service: &Service,
    keys: &Keys,
    text: &str,
    may_go_on: impl Fn(SessionId) -> Result<(), AccountsError>,
) -> Result<Refreshed, AccountsError> {
    let (settings, changes) = (&service.settings, &service.changes);
    let given = read(text).ok_or(AccountsError::TokenInvalid)?;
    let (found, row) = checked(tx, keys, &given).await?;
    may_go_on(given.session)?;
    let now = Moment::now();
    if !found.is_live(now) {
        return Err(AccountsError::SessionEnded);
    }
    let mut row = row;
    let mut step = step(given.generation, &row, settings.refresh_grace, now);
    if step == Step::Rotate && store::rotate(tx, given.session, row.generation).await? == 0 {
        // Another request with the same token was faster.
        row = store::refresh_of(tx, given.session)
            .await?
            .ok_or(AccountsError::SessionEnded)?;
        step = self::step(given.generation, &row, settings.refresh_grace, now);
    } else if step == Step::Rotate {
        row.generation += 1;
    }
    if step == Step::Lost && store::count_lost(tx, given.session, row.generation, LOST).await? == 0
    {
        // Others with the same token were faster, or a token of its successor has arrived.
        step = Step::Reuse;
    }
    match step {
        Step::Rotate | Step::Again | Step::Lost => {}
        Step::Invalid => return Err(AccountsError::TokenInvalid),
        Step::Reuse => {
            sessions::end(tx, changes, &found.session, "refresh_reused").await?;
            let act = Act::done(TOKEN_REUSE, Resource::Session, given.session.uuid());
            let act = act.failed("a refresh token was used a second time");
            let act = act.detail("user", found.session.user_id.to_string());
            act.record_in(tx, found.session.tenant_id)?.of(());
            notices::refresh_reused(tx, service, found.session.user_id).await?;
            return Ok(Refreshed::Reused);
        }
    }
    let mut session = found.session;
    session.idle_until = (now + settings.refresh_idle).min(session.expires_at);
    store::touch(tx, session.id, session.idle_until).await?;
    let secret = Secret::Tokens(sessions::tokens(keys, settings, &session, &row)?);
    Ok(Refreshed::Issued(Box::new(Issued { session, secret })))
}

/// The session of the token, if its code is right.
async fn checked(
    tx: &mut Tx,
    keys: &Keys,
    given: &Given,
) -> Result<(Found, RefreshRow), AccountsError> {
    let row = store::refresh_of(tx, given.session)
        .await?
        .ok_or(AccountsError::TokenInvalid)?;
    let head = head(given.key, given.session, given.generation);
    let code = keys
        .refresh_code(given.key, &[&head, &row.salt])
        .ok_or(AccountsError::TokenInvalid)?;
    constant_time::verify_slices_are_equal(&code, &*given.code)
        .map_err(|_| AccountsError::TokenInvalid)?;
    let found = store::find(tx, By::Id(given.session))
        .await?
        .ok_or(AccountsError::SessionEnded)?;
    Ok((found, row))
}

fn step(generation: u32, row: &RefreshRow, grace: Duration, now: Moment) -> Step {
    let present = row.generation;
    match present - i64::from(generation) {
        0 => Step::Rotate,
        1 if grace.is_zero() => Step::Reuse,
        1 if row.rotated_at + grace > now => Step::Again,
        1 if row.confirmed_gen < present && row.lost_replays < LOST => Step::Lost,
        behind if behind > 0 => Step::Reuse,
        _ => Step::Invalid,
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::db::types::Id;

    use super::*;
    use crate::store::tenants::DEFAULT;

    /// What becomes of a token of the generation 4 when the session is at `present`.
    fn step_of(present: i64, age: u64, confirmed: i64, replays: i32, grace: u64) -> Step {
        let now = Moment::now();
        let row = RefreshRow {
            session_id: Id::from_uuid(uuid::Uuid::nil()),
            tenant_id: DEFAULT,
            salt: Vec::new(),
            generation: present,
            confirmed_gen: confirmed,
            rotated_at: now - Duration::from_secs(age),
            lost_replays: replays,
        };
        step(4, &row, Duration::from_secs(grace), now)
    }

    #[test]
    fn a_second_use_is_told_from_theft_by_time_and_by_what_was_seen_of_the_successor() {
        for (what, step, expected) in [
            ("the present one", step_of(4, 0, 0, 0, 30), Step::Rotate),
            ("within the grace", step_of(5, 29, 5, 0, 30), Step::Again),
            (
                "its successor never arrived",
                step_of(5, 31, 4, 0, 30),
                Step::Lost,
            ),
            (
                "asked for a third time",
                step_of(5, 31, 4, 2, 30),
                Step::Lost,
            ),
            ("asked for too often", step_of(5, 31, 4, 3, 30), Step::Reuse),
            (
                "its successor was seen",
                step_of(5, 31, 5, 0, 30),
                Step::Reuse,
            ),
            ("two behind", step_of(6, 1, 4, 0, 30), Step::Reuse),
            ("without a grace", step_of(5, 0, 4, 0, 0), Step::Reuse),
            ("of the future", step_of(3, 0, 0, 0, 30), Step::Invalid),
        ] {
            assert_eq!(step, expected, "{what}");
        }
    }
}
