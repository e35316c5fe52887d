//! Looks how far the program's subscribers are, again and again: for metrics, and for `dotmac why`.
//!
//! Each instance looks for itself, since any of them may be asked. What was seen last is kept here; while the database is
//! away nothing is known, and nothing is shown.

use std::sync::{Arc, PoisonError, RwLock};

use dotmac_platform::{
    db::{Db, DbError, ModuleDb},
    events::{EventCatalogue, SubscriberState, SubscriberStatus, subscribers},
};
use opentelemetry::{KeyValue, global};

/// A subscriber that is less behind than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 5;

/// A gauge by its name, unit and description, and what it shows of a subscriber.
type Gauge = (
    &'static str,
    &'static str,
    &'static str,
    fn(&SubscriberStatus) -> i64,
);

const GAUGES: [Gauge; 4] = [
    (
        "dotmac.events.lag",
        "s",
        "Age of the oldest event that a subscriber has not passed",
        |it| it.lag_seconds,
    ),
    (
        "dotmac.events.behind",
        "",
        "Events that a subscriber has not passed, counted up to 10,000",
        |it| it.lag_events,
    ),
    (
        "dotmac.events.held",
        "",
        "Events at which a subscriber failed, and those that wait behind them",
        |it| it.held,
    ),
    (
        "dotmac.events.parked",
        "",
        "Events that a subscriber does not try again until it is rewound",
        |it| it.parked,
    ),
];

/// What was seen last. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Inner>);

struct Inner {
    db: Db,
    catalogue: EventCatalogue,
    seen: RwLock<Vec<SubscriberStatus>>,
}

impl Watch {
    pub(crate) fn new(db: &ModuleDb, catalogue: EventCatalogue) -> Self {
        Self(Arc::new(Inner {
            db: db.system("measure the lag of subscribers"),
            catalogue,
            seen: RwLock::default(),
        }))
    }

    /// Looks once.
    ///
    /// # Errors
    ///
    /// [`DbError`]; then nothing is known.
    pub(crate) async fn look(self) -> Result<(), DbError> {
        let looked = self
            .0
            .db
            .read("watch subscribers", async |c| subscribers(c).await);
        let (looked, failed) = match looked.await {
            Ok(seen) => (seen, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        // Not those that another program has, or had.
        let known = self.0.catalogue.subscriptions();
        let is_ours = |status: &SubscriberStatus| known.iter().any(|it| it.name == status.name);
        let ours = looked.into_iter().filter(is_ours).collect();
        *self.0.seen.write().unwrap_or_else(PoisonError::into_inner) = ours;
        failed.map_or(Ok(()), Err)
    }

    fn seen(&self) -> Vec<SubscriberStatus> {
        let seen = self.0.seen.read();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is worth saying of subscribers that are behind, or hold events.
    pub(crate) fn sentences(&self) -> Vec<String> {
        self.seen().iter().filter_map(sentence).collect()
    }

    /// Shows what was seen last in the metrics.
    pub(crate) fn observe(&self) {
        let meter = global::meter("dotmac.events");
        for (name, unit, description, of) in GAUGES {
            let watch = self.clone();
            meter
                .i64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |gauge| {
                    for status in watch.seen() {
                        let value = of(&status);
                        gauge.observe(value, &[KeyValue::new("subscriber", status.name)]);
                    }
                })
                .build();
        }
    }
}

fn sentence(it: &SubscriberStatus) -> Option<String> {
    let mut facts = Vec::new();
    if it.lag_seconds >= WORTH_SAYING {
        let SubscriberStatus {
            lag_seconds,
            lag_events,
            ..
        } = it;
        let events = match lag_events {
            10_000 => "10000 events or more".to_owned(),
            events => format!("{events} events"),
        };
        facts.push(format!("{lag_seconds} s and {events} behind"));
        facts.extend(it.held_by.clone());
    }
    match it.state {
        SubscriberState::Expired => {
            facts.push("events that it had not handled are gone; rewind it".to_owned());
        }
        SubscriberState::Ahead => {
            facts.push("ahead of the database, which was restored into another cluster".to_owned());
        }
        SubscriberState::Running | SubscriberState::HeldBack => {}
    }
    if it.parked > 0 {
        facts.push(format!("{} events parked", it.parked));
    }
    if it.held > it.parked {
        facts.push(format!(
            "{} events wait for another try",
            it.held - it.parked
        ));
    }
    let is_worth = !facts.is_empty();
    is_worth.then(|| format!("subscriber `{}`: {}", it.name, facts.join(", ")))
}
