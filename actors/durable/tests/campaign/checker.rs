//! Compares rows, events, effects, jobs, results and audit entries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, Tx, on};
use dotmac_durable::{
    audit::{SigningKeys, Verification, Verified},
    jobs::{JobFilter, JobState, list_all, retry},
};

use crate::{
    instance::{Rig, scope},
    work::master,
};

/// The longest that it takes until all is done.
const PATIENCE: Duration = Duration::from_secs(300);

/// What there is once nothing is left to be done, all sorted, doubled ones included.
#[derive(Debug, Default, PartialEq)]
pub struct Found {
    pub rows: Vec<i64>,
    pub events: Vec<i64>,
    pub of_events: Vec<i64>,
    pub of_tallies: Vec<i64>,
    pub of_plain: Vec<i64>,
    pub results_of_tallies: Vec<i64>,
    pub results_of_plain: Vec<i64>,
    pub entries: Vec<i64>,
}

impl Found {
    async fn read(rig: &Rig) -> Self {
        let effect = |by| format!("SELECT number FROM effect WHERE by = '{by}'");
        let result = |kind| {
            format!(
                "SELECT CAST(CAST(job_result.result AS TEXT) AS BIGINT) AS number FROM job_result \
                 JOIN job ON job.id = job_result.job_id WHERE job.kind = '{kind}' AND job.state = 'completed'"
            )
        };
        let events = "SELECT CAST(data ->> 'number' AS BIGINT) AS number FROM event";
        let entries = "SELECT CAST(resource_id AS BIGINT) AS number FROM audit_entry \
                       JOIN audit_link ON audit_link.entry_id = audit_entry.id";
        Self {
            rows: numbers(rig, effect("row")).await,
            events: numbers(rig, events.to_owned()).await,
            of_events: numbers(rig, effect("event")).await,
            of_tallies: numbers(rig, effect("job")).await,
            of_plain: numbers(rig, effect("plain")).await,
            results_of_tallies: numbers(rig, result("test.tally")).await,
            results_of_plain: numbers(rig, result("test.plain")).await,
            entries: numbers(rig, entries.to_owned()).await,
        }
    }

    /// What there must be of everything, for these rows.
    fn expected(&self) -> Self {
        let rows = || self.rows.clone();
        Self {
            rows: rows(),
            events: rows(),
            of_events: rows(),
            of_tallies: rows(),
            // At least once each.
            of_plain: self.of_plain.clone(),
            results_of_tallies: rows(),
            results_of_plain: rows(),
            entries: rows(),
        }
    }

    fn counts(&self) -> [usize; 8] {
        [
            &self.rows,
            &self.events,
            &self.of_events,
            &self.of_tallies,
            &self.of_plain,
            &self.results_of_tallies,
            &self.results_of_plain,
            &self.entries,
        ]
        .map(Vec::len)
    }
}

async fn numbers(rig: &Rig, sql: String) -> Vec<i64> {
    #[derive(diesel::QueryableByName)]
    struct Number {
        #[diesel(sql_type = diesel::sql_types::BigInt)]
        number: i64,
    }
    let read =
        async move |c: &mut Connection| on!(c, |c| diesel::sql_query(sql).load::<Number>(c).await);
    let found = rig.system().read("read numbers", read).await.unwrap();
    let mut numbers: Vec<_> = found.into_iter().map(|it| it.number).collect();
    numbers.sort_unstable();
    numbers
}

/// Waits until all is done that is to be, and compares: each row, and those are more than `acknowledged`, has all that
/// belongs to it once.
pub async fn check(rig: &Rig, acknowledged: &std::collections::BTreeSet<i64>) -> Found {
    let began = Instant::now();
    let found = loop {
        send_on_parked(rig).await;
        let found = Found::read(rig).await;
        if found == found.expected() {
            break found;
        }
        let counts = found.counts();
        assert!(began.elapsed() < PATIENCE, "they do not agree: {counts:?}");
        for (what, doubled) in [
            ("events", &found.events),
            ("effects of events", &found.of_events),
            ("effects of jobs", &found.of_tallies),
            ("results", &found.results_of_tallies),
            ("results", &found.results_of_plain),
            ("audit entries", &found.entries),
        ] {
            let twice = doubled.windows(2).find(|two| two[0] == two[1]);
            assert_eq!(twice, None, "{what} are there twice");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    let lost = acknowledged
        .iter()
        .filter(|number| found.rows.binary_search(number).is_err());
    assert_eq!(lost.count(), 0, "acknowledged rows are lost");
    let mut plain = found.of_plain.clone();
    plain.dedup();
    assert_eq!(plain, found.rows, "plain jobs are done at least once");
    let verified = verified(rig).await;
    assert_eq!(verified.broken, None);
    assert_eq!(verified.last, found.rows.len() as i64);
    found
}

/// Jobs that were parked by many kills are sent on, as an operator does.
async fn send_on_parked(rig: &Rig) {
    let filter = JobFilter {
        state: Some(JobState::Parked),
        ..JobFilter::default()
    };
    let read = async move |c: &mut Connection| list_all(c, &filter, None, 200).await;
    for job in rig.system().read("list jobs", read).await.unwrap() {
        let again = async move |tx: &mut Tx| retry(tx, job.id).await;
        rig.system().transaction("retry", again).await.unwrap();
    }
}

async fn verified(rig: &Rig) -> Verified {
    let keys = async |c: &mut Connection| SigningKeys::load(c, Some(&master())).await;
    let keys = Arc::new(
        rig.system()
            .read::<_, DbError, _>("load keys", keys)
            .await
            .unwrap(),
    );
    let verification = Verification::new(scope().tenant(), keys);
    verification.run(&rig.system(), || {}).await.unwrap()
}
