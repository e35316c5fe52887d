//! Measures what waits: for metrics, and for `dotmac why`.

use std::time::Duration;

use dotmac_platform::{
    db::{Db, DbError, types::Moment},
    module::{Gauge, Mount, MountError},
};
use opentelemetry::KeyValue;

use crate::{channel::Channel, store::deliveries};

/// A delivery that is due for less than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 30;

/// What waits in one channel.
#[derive(Clone)]
struct Queued {
    channel: Channel,
    count: i64,
    oldest_due: i64,
}

const GAUGES: [Gauge<Queued>; 2] = [
    Gauge {
        name: "dotmac.notifications.queued",
        unit: "",
        description: "Deliveries that wait for their time or for another attempt",
        value: |it| it.count,
    },
    Gauge {
        name: "dotmac.notifications.oldest.due",
        unit: "s",
        description: "Time since the oldest waiting delivery became due",
        value: |it| it.oldest_due,
    },
];

/// Adds the worker, the metrics and the sentences.
pub(crate) fn add(on: &mut Mount<'_>, every: Duration, has_relay: bool) -> Result<(), MountError> {
    let measured = on.measure(every, "measure deliveries that wait", measure)?;
    measured.observe("dotmac.notifications", &GAUGES, |all: Vec<Queued>| {
        let labelled = |it: Queued| {
            let channel = KeyValue::new("channel", it.channel.as_str());
            (it, vec![channel])
        };
        all.into_iter().map(labelled).collect()
    });
    on.explain(move || {
        let waiting = measured.get().into_iter();
        let waiting = waiting.filter(|it| it.oldest_due >= WORTH_SAYING);
        let sentence = |it: Queued| {
            let (channel, count, seconds) = (it.channel, it.count, it.oldest_due);
            let cause = match (channel, has_relay) {
                (Channel::Email, false) => ": no relay is configured (DOTMAC_SMTP_HOST)",
                (Channel::Email, true) => ": see the state of `smtp`",
                _ => "",
            };
            format!("oldest delivery by {channel} due for {seconds} s, {count} waiting{cause}")
        };
        waiting.map(sentence).collect()
    });
    Ok(())
}

async fn measure(db: Db) -> Result<Vec<Queued>, DbError> {
    let queued = db.read("measure deliveries", async |c| deliveries::queued(c).await);
    let now: chrono::DateTime<chrono::Utc> = Moment::now().into();
    let measured = queued.await?.into_iter().map(|(channel, count, oldest)| {
        let oldest = oldest.map(chrono::DateTime::<chrono::Utc>::from);
        let due = oldest.map_or(0, |it| (now - it).num_seconds().max(0));
        Queued {
            channel,
            count,
            oldest_due: due,
        }
    });
    Ok(measured.collect())
}
