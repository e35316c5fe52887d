//! Looks how the program's jobs are doing, again and again: for metrics, and for `dotmac why`.
//!
//! Each instance looks for itself, since any of them may be asked. What was seen last is kept here; while the database is
//! away nothing is known, and nothing is shown.

use std::{
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use dotmac_platform::{
    db::{Db, DbError, ModuleDb},
    jobs::{JobCatalogue, KindStats, VacuumHolder, queues, stats_of_all, vacuum_holder},
};
use opentelemetry::{KeyValue, global};

/// A job that is ready for less than that is not worth a sentence, in seconds.
const WORTH_SAYING: i64 = 5;

/// A gauge by its name, unit and description, and what it shows of a kind.
type Gauge = (
    &'static str,
    &'static str,
    &'static str,
    fn(&KindStats) -> i64,
);

const GAUGES: [Gauge; 6] = [
    (
        "dotmac.jobs.oldest.ready",
        "s",
        "How long the oldest job has waited for a worker",
        |it| it.oldest_ready_seconds,
    ),
    (
        "dotmac.jobs.ready",
        "",
        "Jobs that wait for a worker",
        |it| it.ready,
    ),
    (
        "dotmac.jobs.running",
        "",
        "Jobs that run, on any instance",
        |it| it.running,
    ),
    (
        "dotmac.jobs.waiting",
        "",
        "Jobs that wait for their time or for another attempt",
        |it| it.scheduled + it.retrying,
    ),
    (
        "dotmac.jobs.failed",
        "",
        "Jobs that have failed and are kept",
        |it| it.failed,
    ),
    (
        "dotmac.jobs.parked",
        "",
        "Jobs that are held because they took their process down",
        |it| it.parked,
    ),
];

/// What was seen last. Clones are the same.
#[derive(Clone)]
pub(crate) struct Watch(Arc<Inner>);

struct Inner {
    db: Db,
    catalogue: JobCatalogue,
    seen: RwLock<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    kinds: Vec<KindStats>,
    paused: Vec<String>,
    vacuum_holder: Option<VacuumHolder>,
}

impl Watch {
    pub(crate) fn new(db: &ModuleDb, catalogue: JobCatalogue) -> Self {
        Self(Arc::new(Inner {
            db: db.system("how jobs are doing is watched"),
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
        let looked = self.0.db.read("watch jobs", async |c| {
            let kinds = stats_of_all(c).await?.kinds;
            let queues = queues(c).await?;
            let paused = queues.into_iter().filter(|it| it.paused_at.is_some());
            let paused = paused.map(|it| it.name).collect();
            Ok::<_, DbError>(Seen {
                kinds,
                paused,
                vacuum_holder: vacuum_holder(c).await?,
            })
        });
        let (seen, failed) = match looked.await {
            Ok(seen) => (seen, None),
            Err(error) => (Seen::default(), Some(error)),
        };
        *self.0.seen.write().unwrap_or_else(PoisonError::into_inner) = seen;
        failed.map_or(Ok(()), Err)
    }

    fn seen(&self) -> Seen {
        let seen = self.0.seen.read();
        seen.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is worth saying of jobs that wait, and of those that were given up.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let seen = self.seen();
        let slots = self.0.catalogue.slots();
        let mut sentences = Vec::new();
        for it in &seen.kinds {
            if it.oldest_ready_seconds >= WORTH_SAYING {
                let in_use = slots
                    .iter()
                    .find(|slot| slot.kind == it.kind && slot.queue == it.queue);
                let cause = if seen.paused.contains(&it.queue) {
                    format!("queue `{}` is paused", it.queue)
                } else if let Some(slot) = in_use.filter(|slot| slot.running >= slot.slots) {
                    format!("{} of {} slots in `{}`", slot.running, slot.slots, it.kind)
                } else if self.0.catalogue.find(&it.kind).is_none() {
                    format!("this program does no jobs `{}`", it.kind)
                } else {
                    format!(
                        "{} ready, {} running in `{}`",
                        it.ready, it.running, it.kind
                    )
                };
                let seconds = it.oldest_ready_seconds;
                sentences.push(format!("oldest ready job {seconds} s: {cause}"));
            }
            if it.parked > 0 {
                let (parked, kind) = (it.parked, &it.kind);
                sentences.push(format!(
                    "{parked} jobs `{kind}` are parked: each was running when its process ended, three times"
                ));
            }
        }
        if let Some(it) = &seen.vacuum_holder {
            let time = humantime::format_duration(Duration::from_secs(it.seconds.unsigned_abs()));
            sentences.push(format!(
                "vacuum held back by pid {}, {} {time}",
                it.pid, it.state
            ));
        }
        sentences
    }

    /// Shows what was seen last in the metrics. Of kinds that the program has.
    pub(crate) fn observe(&self) {
        let meter = global::meter("dotmac.jobs");
        for (name, unit, description, of) in GAUGES {
            let watch = self.clone();
            meter
                .i64_observable_gauge(name)
                .with_unit(unit)
                .with_description(description)
                .with_callback(move |gauge| {
                    for it in watch.seen().kinds {
                        if watch.0.catalogue.find(&it.kind).is_none() {
                            continue;
                        }
                        let value = of(&it);
                        let labels = [
                            KeyValue::new("kind", it.kind),
                            KeyValue::new("queue", it.queue),
                        ];
                        gauge.observe(value, &labels);
                    }
                })
                .build();
        }
    }
}
