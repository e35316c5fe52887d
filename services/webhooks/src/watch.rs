//! Measures what waits: for metrics, for `dotmac why`, and for the bound of what may wait for one endpoint.

use std::time::Duration;

use dotmac_platform::{
    db::{Db, DbError, types::Moment},
    delivery::database_now,
    module::{Gauge, Mount, MountError},
};

use crate::{
    service::Full,
    store::{
        deliveries::{self, Backlog},
        endpoints, lanes,
        states::EndpointState,
    },
};

/// A delivery that is due for less than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 10;

/// What all endpoints together look like.
#[derive(Clone, Debug, Default)]
struct Status {
    backlog: Backlog,
    oldest_due_seconds: i64,
    held: i64,
    disabled: i64,
}

const GAUGES: [Gauge<Status>; 5] = [
    Gauge {
        name: "dotmac.webhooks.pending",
        unit: "",
        description: "Deliveries of webhooks that wait, due or not",
        value: |it| it.backlog.pending,
    },
    Gauge {
        name: "dotmac.webhooks.sending",
        unit: "",
        description: "Attempts to deliver webhooks that are under way, on any instance",
        value: |it| it.backlog.sending,
    },
    Gauge {
        name: "dotmac.webhooks.oldest.due",
        unit: "s",
        description: "Time since the oldest delivery of an active, answering endpoint became due",
        value: |it| it.oldest_due_seconds,
    },
    Gauge {
        name: "dotmac.webhooks.endpoints.held",
        unit: "",
        description: "Endpoints that are held for a time, because they fail or requested it",
        value: |it| it.held,
    },
    Gauge {
        name: "dotmac.webhooks.endpoints.disabled",
        unit: "",
        description: "Endpoints that are disabled, because they failed for days or answered 410",
        value: |it| it.disabled,
    },
];

/// Adds the worker, the metrics and the sentences. Endpoints for which `most` deliveries wait are put into `full`.
pub(crate) fn add(
    on: &mut Mount<'_>,
    every: Duration,
    (most, full): (i64, Full),
) -> Result<(), MountError> {
    let why = "measure the deliveries of webhooks";
    let measured = on.measure(every, why, move |db: Db| measure(db, most, full.clone()))?;
    measured.observe("dotmac.webhooks", &GAUGES, |it: Option<Status>| {
        it.into_iter().map(|it| (it, Vec::new())).collect()
    });
    on.explain(move || measured.get().iter().flat_map(sentences).collect());
    Ok(())
}

async fn measure(db: Db, most: i64, full: Full) -> Result<Option<Status>, DbError> {
    let measured = db.read("measure webhooks", async move |c| {
        let now = database_now(c).await?;
        let backlog = deliveries::backlog(c).await?;
        let waits_long = backlog.pending >= most;
        let filled = match waits_long {
            true => deliveries::full(c, most).await?,
            false => Vec::new(),
        };
        let oldest = deliveries::oldest_due(c, now).await?;
        let states = endpoints::count_by_state(c).await?;
        let disabled = states
            .iter()
            .find(|(state, _)| *state == EndpointState::Disabled);
        let status = Status {
            backlog,
            oldest_due_seconds: oldest.map_or(0, |oldest| seconds(oldest, now)),
            held: lanes::count_held(c, now).await?,
            disabled: disabled.map_or(0, |(_, count)| *count),
        };
        Ok::<_, DbError>((status, filled))
    });
    let (status, filled) = measured.await?;
    full.set(filled);
    Ok(Some(status))
}

fn seconds(from: Moment, to: Moment) -> i64 {
    let (from, to) = (
        chrono::DateTime::<chrono::Utc>::from(from),
        chrono::DateTime::<chrono::Utc>::from(to),
    );
    (to - from).num_seconds().max(0)
}

/// What is worth saying of deliveries that wait and of endpoints that fail.
fn sentences(it: &Status) -> Vec<String> {
    let mut sentences = Vec::new();
    if it.oldest_due_seconds >= WORTH_SAYING {
        let Backlog { pending, sending } = it.backlog;
        sentences.push(format!(
            "oldest due delivery {} s: {pending} wait, {sending} are being sent",
            it.oldest_due_seconds
        ));
    }
    if it.held > 0 {
        let held = it.held;
        sentences.push(format!(
            "{held} endpoints are held because they fail or requested it"
        ));
    }
    if it.disabled > 0 {
        let disabled = it.disabled;
        sentences.push(format!(
            "{disabled} endpoints are disabled until their owners resume them"
        ));
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_waits_long_is_spoken_of() {
        let mut status = Status {
            backlog: Backlog {
                pending: 7,
                sending: 2,
            },
            oldest_due_seconds: 9,
            ..Status::default()
        };
        assert!(sentences(&status).is_empty());
        status.oldest_due_seconds = 42;
        status.held = 1;
        let said = sentences(&status);
        assert_eq!(
            said[0],
            "oldest due delivery 42 s: 7 wait, 2 are being sent"
        );
        assert_eq!(said.len(), 2);
    }
}
