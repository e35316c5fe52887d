//! How failures slow down the next tries of an identifier: from a known device apart from all others, so that an attacker
//! cannot lock the owner out.

use std::time::Duration;

use dotmac_platform::db::{Connection, Tx, types::Moment};

use crate::{
    AccountsError,
    store::throttle::{self as store, ThrottleRow},
};

/// Failures are counted for so long.
const WINDOW: Duration = Duration::from_secs(24 * 3600);

/// So many cost nothing.
const FREE: i32 = 5;

/// The longest wait before the failures lock.
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// The long wait of a [`Limit`] that has one.
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// From how many failures on nothing helps any more, and for how long.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limit {
    pub(crate) most: i32,
    /// Until the owner acts, without one.
    locked_for: Option<Duration>,
    /// At how many failures there is a long wait in any case.
    long_wait_at: Option<i32>,
}

impl Limit {
    /// Passwords of a sign-in (NIST SP 800-63B, 5.2.2): the owner acts by a link that sets a password, by a sign-in from a known
    /// device, or by an administrator who unlocks the account.
    pub(crate) const SIGN_IN: Self = Self {
        most: 100,
        locked_for: None,
        long_wait_at: None,
    };

    /// Passwords that a signed-in caller gives, of which the last one ends the session: it may be stolen.
    pub(crate) const PRESENT_PASSWORD: Self = Self {
        most: 20,
        locked_for: Some(WINDOW),
        long_wait_at: None,
    };

    /// Codes of second factors, of which fewer are enough, since they are short: 10 in an hour over all sign-ins. The password is
    /// known to an attacker.
    pub(crate) const FACTOR: Self = Self {
        most: 20,
        locked_for: Some(WINDOW),
        long_wait_at: Some(10),
    };
}

/// Whether a try may be made now.
///
/// # Errors
///
/// [`AccountsError::Throttled`] with the time to wait.
pub(crate) async fn check(c: &mut Connection, key: Vec<u8>) -> Result<(), AccountsError> {
    match store::find(c, key).await? {
        Some(row) => held_back(&row, Moment::now()),
        None => Ok(()),
    }
}

fn held_back(row: &ThrottleRow, now: Moment) -> Result<(), AccountsError> {
    if row.until <= now {
        return Ok(());
    }
    let (until, now): (chrono::DateTime<chrono::Utc>, chrono::DateTime<chrono::Utc>) =
        (row.until.into(), now.into());
    Err(AccountsError::Throttled(
        (until - now).to_std().unwrap_or_default(),
    ))
}

/// Counts a failure, and says how many there were; until when the next try waits is written down. `None` for what came in
/// while no try counted: of many tries at once those are counted that were judged.
pub(crate) async fn count(
    tx: &mut Tx,
    key: Vec<u8>,
    limit: Limit,
) -> Result<Option<i32>, AccountsError> {
    let row = store::hold(tx, key).await?;
    let Some(row) = counted(row, Moment::now(), limit) else {
        return Ok(None);
    };
    let failures = row.failures;
    store::set(tx, row).await?;
    Ok(Some(failures))
}

fn counted(mut row: ThrottleRow, now: Moment, limit: Limit) -> Option<ThrottleRow> {
    if row.until > now {
        return None;
    }
    if row.window_start + WINDOW < now {
        row.failures = 0;
        row.window_start = now;
    }
    row.failures += 1;
    row.until = match (wait_after(row.failures, limit), limit.locked_for) {
        (Some(wait), _) => now + wait,
        (None, Some(locked)) => now + locked,
        (None, None) => {
            // From now on it is when the owner was told.
            row.window_start = now;
            Moment::LAST
        }
    };
    Some(row)
}

/// Whether the owner is to be told once more of a lock of sign-ins.
pub(crate) async fn is_notice_due(c: &mut Connection, key: Vec<u8>) -> Result<bool, AccountsError> {
    let row = store::find(c, key).await?;
    Ok(row.is_some_and(|row| is_due(&row, Moment::now())))
}

/// The same, and takes note that the owner is told now.
pub(crate) async fn take_notice(tx: &mut Tx, key: Vec<u8>) -> Result<bool, AccountsError> {
    let row = store::hold(tx, key).await?;
    let now = Moment::now();
    let is_due = is_due(&row, now);
    if is_due {
        let told = ThrottleRow {
            window_start: now,
            ..row
        };
        store::set(tx, told).await?;
    }
    Ok(is_due)
}

/// A lock has no window: the time is when the owner was told.
fn is_due(row: &ThrottleRow, now: Moment) -> bool {
    let is_locked = row.failures >= Limit::SIGN_IN.most && row.until > now;
    is_locked && row.window_start + WINDOW <= now
}

/// Forgets the failures: the owner has authenticated.
pub(crate) async fn forget(tx: &mut Tx, key: Vec<u8>) -> Result<(), AccountsError> {
    store::delete(tx, key).await?;
    Ok(())
}

/// How long the next try waits after so many failures; `None` from the most on, which lock.
fn wait_after(failures: i32, limit: Limit) -> Option<Duration> {
    if failures < FREE {
        return Some(Duration::ZERO);
    }
    if failures >= limit.most {
        return None;
    }
    if limit.long_wait_at == Some(failures) {
        return Some(LONG_WAIT);
    }
    let doublings = u32::try_from(failures - FREE).unwrap_or_default().min(20);
    Some(Duration::from_secs(1 << doublings).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_the_fifth_failure_on_and_do_not_end_from_the_last_one_on() {
        let waits = |failures: &[i32], limit| {
            let waits = failures.iter().map(|it| wait_after(*it, limit));
            waits
                .map(|wait| wait.map(|wait| wait.as_secs()))
                .collect::<Vec<_>>()
        };
        let seconds = [0, 0, 1, 2, 32, 512, 900, 900].map(Some);
        let limit = Limit::SIGN_IN;
        assert_eq!(waits(&[0, 4, 5, 6, 10, 14, 15, 99], limit), seconds);
        assert_eq!(waits(&[100, 5000], limit), [None, None]);
        assert_eq!(
            waits(&[4, 5, 10, 19, 20], Limit::FACTOR),
            [Some(0), Some(1), Some(3600), Some(900), None]
        );
    }

    #[test]
    fn what_comes_in_while_no_try_counts_is_no_failure_and_a_lock_for_a_day_ends() {
        let now = Moment::now();
        let first = ThrottleRow {
            key_hmac: Vec::new(),
            failures: 0,
            window_start: now,
            until: now,
        };
        // A burst: as many count as could be judged before the first wait.
        let burst = (0..64).fold(first.clone(), |row, _| {
            counted(row.clone(), now, Limit::SIGN_IN).unwrap_or(row)
        });
        assert_eq!(burst.failures, FREE);
        // One try after each wait.
        let after_waits = |limit: Limit| {
            (0..limit.most).fold(first.clone(), |row, _| {
                let at = row.until;
                counted(row.clone(), at, limit).unwrap_or(row)
            })
        };
        let locked = after_waits(Limit::SIGN_IN);
        assert_eq!((locked.failures, locked.until), (100, Moment::LAST));
        // The owner is told at the lock, and a day later.
        let told = locked.window_start;
        let second = Duration::from_secs(1);
        assert!(told > now && !is_due(&locked, told + WINDOW - second));
        assert!(is_due(&locked, told + WINDOW));
        assert!(!is_due(&first, now + WINDOW));
        let locked = after_waits(Limit::FACTOR);
        assert_eq!(locked.failures, 20);
        let (end, later) = (locked.until, Duration::from_secs(1));
        assert!(counted(locked.clone(), end - later, Limit::FACTOR).is_none());
        let next = counted(locked, end + later, Limit::FACTOR);
        assert_eq!(next.map(|row| row.failures), Some(1));
    }
}
