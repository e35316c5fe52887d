//! How many mails one address gets that others have asked for: 3 an hour and 10 a day, whatever for.

use std::time::Duration;

use dotmac_platform::db::{Tx, types::Moment};

use crate::{
    AccountsError,
    keys::Keys,
    store::throttle::{self as store, ThrottleRow},
};

/// By what they are counted, how many there may be, and in what time.
const LIMITS: [(&str, i32, Duration); 2] = [
    ("mail hour", 3, Duration::from_secs(3600)),
    ("mail day", 10, Duration::from_secs(24 * 3600)),
];

/// Counts a mail to the address, if it may get one more.
pub(super) async fn may_mail(
    tx: &mut Tx,
    keys: &Keys,
    email_normal: &str,
) -> Result<bool, AccountsError> {
    let now = Moment::now();
    let mut counted = Vec::new();
    for (scope, most, window) in LIMITS {
        let row = store::hold(tx, keys.throttle_key(scope, email_normal)?).await?;
        let Some(row) = with_one_more(row, now, most, window) else {
            return Ok(false);
        };
        counted.push(row);
    }
    for row in counted {
        store::set(tx, row).await?;
    }
    Ok(true)
}

fn with_one_more(
    mut row: ThrottleRow,
    now: Moment,
    most: i32,
    window: Duration,
) -> Option<ThrottleRow> {
    if row.window_start + window <= now {
        row.window_start = now;
        row.failures = 0;
    }
    row.failures += 1;
    row.until = now;
    (row.failures <= most).then_some(row)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fourth_mail_within_an_hour_is_one_too_many() {
        let (now, hour) = (Moment::now(), Duration::from_secs(3600));
        let first = ThrottleRow {
            key_hmac: Vec::new(),
            failures: 0,
            window_start: now,
            until: now,
        };
        let mut row = first;
        for _ in 0..3 {
            row = match with_one_more(row, now, 3, hour) {
                Some(row) => row,
                None => unreachable!("three are allowed"),
            };
        }
        assert!(with_one_more(row.clone(), now, 3, hour).is_none());
        let later = with_one_more(row, now + hour, 3, hour);
        assert_eq!(later.map(|row| row.failures), Some(1));
    }
}
