//! Measures how far the program's subscribers are: for metrics, and for `dotmac why`.

use std::time::Duration;

use dotmac_platform::{
    db::{Db, DbError},
    events::{EventCatalogue, SubscriberState, SubscriberStatus, subscribers},
    module::{Gauge, Mount, MountError},
};
use opentelemetry::KeyValue;

/// A subscriber that is less behind than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 5;

const GAUGES: [Gauge<SubscriberStatus>; 4] = [
    Gauge {
        name: "dotmac.events.lag",
        unit: "s",
        description: "Age of the oldest event that a subscriber has not passed",
        value: |it| it.lag_seconds,
    },
    Gauge {
        name: "dotmac.events.behind",
        unit: "",
        description: "Events that a subscriber has not passed, counted up to 10,000",
        value: |it| it.lag_events,
    },
    Gauge {
        name: "dotmac.events.held",
        unit: "",
        description: "Events that a subscriber failed to handle, and those that wait behind them",
        value: |it| it.held,
    },
    Gauge {
        name: "dotmac.events.parked",
        unit: "",
        description: "Events that a subscriber retries only on request",
        value: |it| it.parked,
    },
];

/// Adds the worker, the metrics and the sentences.
pub(crate) fn add(
    on: &mut Mount<'_>,
    catalogue: &EventCatalogue,
    every: Duration,
) -> Result<(), MountError> {
    let (why, catalogue) = ("measure the lag of subscribers", catalogue.clone());
    let measured = on.measure(every, why, move |db| measure(db, catalogue.clone()))?;
    measured.observe("dotmac.events", &GAUGES, |all: Vec<SubscriberStatus>| {
        let labelled = |it: SubscriberStatus| {
            let label = KeyValue::new("subscriber", it.name.clone());
            (it, vec![label])
        };
        all.into_iter().map(labelled).collect()
    });
    on.explain(move || measured.get().iter().filter_map(sentence).collect());
    Ok(())
}

/// The subscribers of this program, not those that another one has or had.
async fn measure(db: Db, catalogue: EventCatalogue) -> Result<Vec<SubscriberStatus>, DbError> {
    let found = db.read("measure subscribers", async |c| subscribers(c).await);
    let known = catalogue.subscriptions();
    let is_ours = |it: &SubscriberStatus| known.iter().any(|known| known.name == it.name);
    Ok(found.await?.into_iter().filter(is_ours).collect())
}

/// The explanation of a subscriber's lag.
fn sentence(it: &SubscriberStatus) -> Option<String> {
    let mut facts = Vec::new();
    if it.lag_seconds >= WORTH_SAYING {
        let SubscriberStatus {
            lag_seconds,
            lag_events,
            ..
        } = it;
        let events = match lag_events {
            1 => "1 event".to_owned(),
            10_000 => "10000 events or more".to_owned(),
            events => format!("{events} events"),
        };
        facts.push(format!("{lag_seconds} s and {events} behind"));
        facts.extend(it.held_by.clone());
    }
    match it.state {
        SubscriberState::Expired => {
            facts.push("events that it had not handled were deleted; rewind it".to_owned());
        }
        SubscriberState::Ahead => {
            facts.push("ahead of the database, which was restored into another cluster".to_owned());
        }
        SubscriberState::Parked => facts.push(format!(
            "{} events parked; correct the cause, then run `events retry {}`",
            it.parked, it.name
        )),
        SubscriberState::Running | SubscriberState::Failing | SubscriberState::HeldBack => {}
    }
    if it.held > it.parked {
        facts.push(format!(
            "{} events wait for another attempt",
            it.held - it.parked
        ));
    }
    facts.extend(it.failed.iter().map(ToString::to_string));
    (!facts.is_empty()).then(|| format!("subscriber `{}`: {}", it.name, facts.join("; ")))
}
