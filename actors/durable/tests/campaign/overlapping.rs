//! Whether two attempts of one job ran at once: each says when it begins and when it ends, and one whose process was killed ran
//! until then at the latest.

use std::{
    collections::HashMap,
    time::{SystemTime, UNIX_EPOCH},
};

fn micros(at: SystemTime) -> u128 {
    at.duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_micros()
}

/// An attempt of the job with that number, until it is dropped.
pub struct Attempt {
    number: i64,
    token: u64,
}

impl Attempt {
    pub fn begin(number: i64) -> Self {
        let token = fastrand::u64(..);
        println!("begins {number} {token} {}", micros(SystemTime::now()));
        Self { number, token }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        let Self { number, token } = self;
        println!("ends {number} {token} {}", micros(SystemTime::now()));
    }
}

/// When an attempt began and ended, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    number: i64,
    from: u128,
    to: u128,
}

/// The attempts of a process that ran until `alive` at least.
pub fn attempts_of(lines: &[String], alive: SystemTime) -> Vec<Ran> {
    let mut ran: HashMap<u64, Ran> = HashMap::new();
    for line in lines {
        let words: Vec<_> = line.split_whitespace().collect();
        // The test's own harness may have begun the line.
        let Some(&[what, number, token, at]) = words.last_chunk::<4>() else {
            continue;
        };
        let (Ok(number), Ok(token), Ok(at)) = (number.parse(), token.parse(), at.parse()) else {
            continue;
        };
        if what == "begins" {
            let to = micros(alive).max(at);
            let from = at;
            ran.insert(token, Ran { number, from, to });
        } else if let Some(it) = ran.get_mut(&token).filter(|_| what == "ends") {
            it.to = at;
        }
    }
    ran.into_values().collect()
}

/// Two attempts of one job that ran at once, if there are any.
pub fn overlap(attempts: &mut [Ran]) -> Option<(Ran, Ran)> {
    attempts.sort_unstable();
    let mut last: Option<Ran> = None;
    for &next in attempts.iter() {
        match last {
            Some(last) if last.number == next.number && next.from < last.to => {
                return Some((last, next));
            }
            // One that began later may have ended sooner.
            Some(before) if before.number == next.number && before.to > next.to => {}
            _ => last = Some(next),
        }
    }
    None
}

#[test]
fn attempts_that_overlap_are_found() {
    let at = |micros| UNIX_EPOCH + std::time::Duration::from_micros(micros);
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let killed = attempts_of(
        &lines("test a ... begins 1 7 100\nbegins 2 8 100\nends 2 8 150"),
        at(200),
    );
    let with = |later: &str| {
        let mut all = killed.clone();
        all.extend(attempts_of(&lines(later), at(1000)));
        overlap(&mut all).map(|(first, _)| first.number)
    };
    assert_eq!(with("begins 1 9 200\nends 1 9 210\nbegins 2 10 150"), None);
    assert_eq!(with("begins 1 9 199\nends 1 9 210"), Some(1));
    assert_eq!(with("begins 2 9 149"), Some(2));
}
