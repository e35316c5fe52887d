//! Measures the queues: for metrics, and for `dotmac why`.

use std::time::Duration;

use dotmac_platform::{
    db::{Db, DbError},
    jobs::{JobCatalogue, KindStats, VacuumHolder, queues, stats_of_all, vacuum_holder},
    module::{Gauge, Mount, MountError},
};
use opentelemetry::KeyValue;

/// A job that is ready for less than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 5;

const GAUGES: [Gauge<KindStats>; 6] = [
    Gauge {
        name: "dotmac.jobs.oldest.ready",
        unit: "s",
        description: "How long the oldest job has waited for a worker",
        value: |it| it.oldest_ready_seconds,
    },
    Gauge {
        name: "dotmac.jobs.ready",
        unit: "",
        description: "Jobs that wait for a worker",
        value: |it| it.ready,
    },
    Gauge {
        name: "dotmac.jobs.running",
        unit: "",
        description: "Jobs that run, on any instance",
        value: |it| it.running,
    },
    Gauge {
        name: "dotmac.jobs.waiting",
        unit: "",
        description: "Jobs that wait for their time or for another attempt",
        value: |it| it.scheduled + it.retrying,
    },
    Gauge {
        name: "dotmac.jobs.failed",
        unit: "",
        description: "Jobs that have failed and are kept",
        value: |it| it.failed,
    },
    Gauge {
        name: "dotmac.jobs.parked",
        unit: "",
        description: "Jobs that are held because they took their process down",
        value: |it| it.parked,
    },
];

#[derive(Clone, Default)]
struct Queues {
    kinds: Vec<KindStats>,
    paused: Vec<String>,
    vacuum_holder: Option<VacuumHolder>,
}

/// Adds the worker, the metrics and the sentences.
pub(crate) fn add(
    on: &mut Mount<'_>,
    catalogue: &JobCatalogue,
    every: Duration,
) -> Result<(), MountError> {
    let measured = on.measure(every, "measure the queues", measure)?;
    let known = catalogue.clone();
    measured.observe("dotmac.jobs", &GAUGES, move |all: Queues| {
        let ours = all
            .kinds
            .into_iter()
            .filter(|it| known.find(&it.kind).is_some());
        let labelled = |it: KindStats| {
            let kind = KeyValue::new("kind", it.kind.clone());
            let queue = KeyValue::new("queue", it.queue.clone());
            (it, vec![kind, queue])
        };
        ours.map(labelled).collect()
    });
    let catalogue = catalogue.clone();
    on.explain(move || sentences(&measured.get(), &catalogue));
    Ok(())
}

async fn measure(db: Db) -> Result<Queues, DbError> {
    let measured = db.read("measure queues", async |c| {
        let kinds = stats_of_all(c).await?.kinds;
        let queues = queues(c).await?.into_iter();
        let paused = queues.filter(|it| it.paused_at.is_some()).map(|it| it.name);
        Ok::<_, DbError>(Queues {
            kinds,
            paused: paused.collect(),
            vacuum_holder: vacuum_holder(c).await?,
        })
    });
    measured.await
}

/// What is worth saying of jobs that wait, of those that are parked, and of what holds back vacuum.
fn sentences(measured: &Queues, catalogue: &JobCatalogue) -> Vec<String> {
    let mut sentences = Vec::new();
    for it in &measured.kinds {
        if it.oldest_ready_seconds >= WORTH_SAYING {
            let (seconds, cause) = (it.oldest_ready_seconds, cause(it, measured, catalogue));
            sentences.push(format!("oldest ready job {seconds} s: {cause}"));
        }
        if it.parked > 0 {
            sentences.push(format!(
                "{} jobs `{}` are parked: each was running when its process ended, three times",
                it.parked, it.kind
            ));
        }
    }
    sentences.extend(measured.vacuum_holder.as_ref().map(|it| {
        let time = humantime::format_duration(Duration::from_secs(it.seconds.unsigned_abs()));
        format!("vacuum held back by pid {}, {} {time}", it.pid, it.state)
    }));
    sentences
}

/// Why jobs of a kind wait.
fn cause(it: &KindStats, measured: &Queues, catalogue: &JobCatalogue) -> String {
    let KindStats {
        kind,
        queue,
        ready,
        running,
        ..
    } = it;
    let slots = catalogue.slots();
    let full = slots
        .iter()
        .find(|slot| slot.kind == kind && slot.queue == *queue && slot.running >= slot.slots);
    if measured.paused.contains(queue) {
        format!("queue `{queue}` is paused")
    } else if let Some(slot) = full {
        format!("{} of {} slots in `{kind}`", slot.running, slot.slots)
    } else if catalogue.find(kind).is_none() {
        format!("this program does no jobs `{kind}`")
    } else {
        format!("{ready} ready, {running} running in `{kind}`")
    }
}
