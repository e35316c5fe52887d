//! Measures how far the sealer is behind: for metrics, and for `dotmac why`.

use std::time::Duration;

use dotmac_platform::{
    audit::{SealerStatus, status},
    db::Db,
    module::{Gauge, Mount, MountError},
};

/// Entries that wait for less than that are not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 5;

const GAUGES: [Gauge<SealerStatus>; 2] = [
    Gauge {
        name: "dotmac.audit.lag",
        unit: "s",
        description: "Age of the oldest audit entry that is not linked into its chain",
        value: |it| it.oldest_seconds,
    },
    Gauge {
        name: "dotmac.audit.waiting",
        unit: "",
        description: "Audit entries that are not linked into their chain, counted up to 10,000",
        value: |it| it.waiting,
    },
];

/// Adds the worker, the metrics and the sentences.
pub(crate) fn add(on: &mut Mount<'_>, every: Duration) -> Result<(), MountError> {
    let why = "measure how far the sealer of the audit log is behind";
    let measured = on.measure(every, why, async |db: Db| {
        let found = db.read("measure audit sealer", async |c| status(c).await);
        found.await.map(Some)
    })?;
    measured.observe("dotmac.audit", &GAUGES, |it: Option<SealerStatus>| {
        it.into_iter().map(|it| (it, Vec::new())).collect()
    });
    on.explain(move || measured.get().iter().filter_map(sentence).collect());
    Ok(())
}

/// The explanation of the sealer's lag.
fn sentence(it: &SealerStatus) -> Option<String> {
    if it.oldest_seconds < WORTH_SAYING {
        return None;
    }
    let SealerStatus {
        waiting,
        oldest_seconds,
        held_by,
    } = it;
    let why = held_by.as_deref();
    let why = why.map_or_else(
        || "see the state of `audit_sealer`".to_owned(),
        str::to_owned,
    );
    Some(format!(
        "{waiting} entries are not in their chain yet, the oldest for {oldest_seconds} s: {why}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_entries_that_wait_long_are_spoken_of() {
        let mut status = SealerStatus {
            waiting: 3,
            oldest_seconds: 4,
            held_by: Some("held back by transaction 8 of pid 9 since 42 s".to_owned()),
        };
        assert_eq!(sentence(&status), None);
        status.oldest_seconds = 42;
        assert_eq!(
            sentence(&status).as_deref(),
            Some(
                "3 entries are not in their chain yet, the oldest for 42 s: held back by transaction 8 of pid 9 since 42 s"
            )
        );
    }
}
