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

    /// How many of the mails are sent that are asked for at these hours.
    fn sent(hours: &[u64]) -> usize {
        let begin = Moment::now();
        let mut rows = LIMITS.map(|_| ThrottleRow {
            key_hmac: Vec::new(),
            failures: 0,
            window_start: begin,
            until: begin,
        });
        let mut sent = 0;
        for hour in hours {
            let now = begin + Duration::from_secs(hour * 3600);
            let counted = rows.iter().zip(LIMITS);
            let counted: Option<Vec<_>> = counted
                .map(|(row, (_, most, window))| with_one_more(row.clone(), now, most, window))
                .collect();
            if let Some(counted) = counted.and_then(|rows| rows.try_into().ok()) {
                rows = counted;
                sent += 1;
            }
        }
        sent
    }

    #[test]
    fn an_address_gets_three_mails_an_hour_and_ten_a_day() {
        assert_eq!(sent(&[0; 9]), 3);
        assert_eq!(sent(&[0, 0, 0, 0, 1, 1, 1, 1]), 6);
        let of_a_day: Vec<u64> = (0..24).flat_map(|hour| [hour; 4]).collect();
        assert_eq!(sent(&of_a_day), 10);
        let of_two: Vec<u64> = (0..48).flat_map(|hour| [hour; 4]).collect();
        assert_eq!(sent(&of_two), 20);
    }
}
