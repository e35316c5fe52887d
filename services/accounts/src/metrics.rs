//! What is measured of accounts. No label names a user, an address, a tenant or a key: outcomes are closed sets.

use std::{
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use opentelemetry::{
    KeyValue, global,
    metrics::{Counter, Histogram, Meter},
};

use crate::{AccountsError, changes::Changes, password::Hasher};

static SIGN_INS: LazyLock<Counter<u64>> =
    LazyLock::new(|| counter("dotmac.accounts.sign_ins", "Sign-in attempts, by outcome"));

static REFRESHES: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.accounts.refreshes",
        "Uses of refresh tokens, by outcome",
    )
});

static LOCKOUTS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    counter(
        "dotmac.accounts.lockouts",
        "Identifiers whose sign-in by password is refused after too many failures, and users whose second factor is",
    )
});

/// Requests with credentials, by the source of the caller. Each request adds one, and an atomic number costs less than a counter
/// of OpenTelemetry with its labels.
static LOOKUPS: [AtomicU64; Source::ALL.len()] = [const { AtomicU64::new(0) }; Source::ALL.len()];

static HASHES: LazyLock<Histogram<f64>> = LazyLock::new(|| {
    meter()
        .f64_histogram("dotmac.accounts.hash.duration")
        .with_unit("s")
        .with_description("Time of the work on passwords: hashing, checking, rating a new one")
        .build()
});

/// What came of a try to sign in, or to refresh a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// A session began or went on.
    Ok,
    /// The password was right, and a second factor is to follow.
    SecondFactor,
    /// The credentials were not right, or no longer.
    Refused,
    /// A refresh token was used a second time.
    Reused,
    /// There were too many failures, or too many requests.
    Throttled,
    /// The queue of password hashes was full.
    Busy,
    /// The database or the keys were not available.
    Failed,
}

impl Outcome {
    const OF_SIGN_INS: [Self; 6] = [
        Self::Ok,
        Self::SecondFactor,
        Self::Refused,
        Self::Throttled,
        Self::Busy,
        Self::Failed,
    ];
    const OF_REFRESHES: [Self; 5] = [
        Self::Ok,
        Self::Refused,
        Self::Reused,
        Self::Throttled,
        Self::Failed,
    ];

    const fn text(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::SecondFactor => "second_factor",
            Self::Refused => "refused",
            Self::Reused => "reused",
            Self::Throttled => "throttled",
            Self::Busy => "busy",
            Self::Failed => "failed",
        }
    }

    pub(crate) fn of<T>(result: &Result<T, AccountsError>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(AccountsError::RefreshReused) => Self::Reused,
            Err(AccountsError::Throttled(_)) => Self::Throttled,
            Err(AccountsError::Busy) => Self::Busy,
            Err(
                AccountsError::InvalidCredentials
                | AccountsError::LinkGone
                | AccountsError::TokenInvalid
                | AccountsError::TokenExpired
                | AccountsError::SessionEnded
                | AccountsError::Csrf
                | AccountsError::Forbidden(_)
                | AccountsError::Invalid(_),
            ) => Self::Refused,
            Err(AccountsError::Problem(problem)) => match problem.status() {
                429 => Self::Throttled,
                400..=499 => Self::Refused,
                _ => Self::Failed,
            },
            Err(_) => Self::Failed,
        }
    }
}

/// Where the caller of a request was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Memory,
    Database,
}

impl Source {
    const ALL: [Self; 2] = [Self::Memory, Self::Database];

    const fn text(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Database => "database",
        }
    }
}

/// Shows every series from the start on, so that an alert notices the first failure.
pub(crate) fn observe(hasher: &Hasher, changes: &Changes) {
    for outcome in Outcome::OF_SIGN_INS {
        SIGN_INS.add(0, &labels("outcome", outcome.text()));
    }
    for outcome in Outcome::OF_REFRESHES {
        REFRESHES.add(0, &labels("outcome", outcome.text()));
    }
    LOCKOUTS.add(0, &[]);
    LazyLock::force(&HASHES);
    let hasher = hasher.clone();
    meter()
        .u64_observable_gauge("dotmac.accounts.hash.waiting")
        .with_description("Work on passwords that waits for a thread")
        .with_callback(move |gauge| gauge.observe(hasher.waiting() as u64, &[]))
        .build();
    meter()
        .u64_observable_counter("dotmac.accounts.lookups")
        .with_description("Requests with credentials, by the source of the caller")
        .with_callback(|counter| {
            for source in Source::ALL {
                let count = LOOKUPS[source as usize].load(Relaxed);
                counter.observe(count, &labels("source", source.text()));
            }
        })
        .build();
    let changes = changes.clone();
    meter()
        .f64_observable_gauge("dotmac.accounts.changes.age")
        .with_unit("s")
        .with_description("Time since the last read of the changes of other instances")
        .with_callback(move |gauge| {
            if let Some(age) = changes.age() {
                gauge.observe(age.as_secs_f64(), &[]);
            }
        })
        .build();
}

pub(crate) fn signed_in(outcome: Outcome) {
    SIGN_INS.add(1, &labels("outcome", outcome.text()));
}

pub(crate) fn refreshed(outcome: Outcome) {
    REFRESHES.add(1, &labels("outcome", outcome.text()));
}

pub(crate) fn looked_up(source: Source) {
    LOOKUPS[source as usize].fetch_add(1, Relaxed);
}

pub(crate) fn locked_out() {
    LOCKOUTS.add(1, &[]);
}

pub(crate) fn hashed(took: Duration) {
    HASHES.record(took.as_secs_f64(), &[]);
}

fn labels(name: &'static str, value: &'static str) -> [KeyValue; 1] {
    [KeyValue::new(name, value)]
}

fn counter(name: &'static str, description: &'static str) -> Counter<u64> {
    meter()
        .u64_counter(name)
        .with_description(description)
        .build()
}

fn meter() -> Meter {
    global::meter("dotmac.accounts")
}
