//! Measures the queues: for metrics, and for `dotmac why`.

use std::time::Duration;

use dotmac_platform::{
    db::{Db, DbError},
    jobs::{
        JobCatalogue, JobId, KindSpec, KindStats, SlotsInUse, VacuumHolder, oldest_ready, queues,
        stats_of_all, vacuum_holders,
    },
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
        description: "Jobs that are held because their process ended while they ran",
        value: |it| it.parked,
    },
];

const SLOTS: [Gauge<SlotsInUse>; 2] = [
    Gauge {
        name: "dotmac.jobs.slots",
        unit: "",
        description: "Jobs that this instance may run at once",
        value: |it| it.slots.into(),
    },
    Gauge {
        name: "dotmac.jobs.slots.in.use",
        unit: "",
        description: "Jobs that this instance runs",
        value: |it| it.running.into(),
    },
];

#[derive(Clone, Default)]
struct Queues {
    kinds: Vec<KindStats>,
    /// The oldest jobs that are ready, where they wait for long, by the place of their kind.
    oldest: Vec<Option<JobId>>,
    paused: Vec<String>,
    vacuum_holders: Vec<VacuumHolder>,
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
    let slots = catalogue.clone();
    measured.observe("dotmac.jobs", &SLOTS, move |_: Queues| {
        let labelled = |it: SlotsInUse| {
            let kind = KeyValue::new("kind", it.kind);
            let queue = KeyValue::new("queue", it.queue.clone());
            (it, vec![kind, queue])
        };
        let all = with_unused(slots.slots(), slots.kinds());
        all.into_iter().map(labelled).collect()
    });
    let catalogue = catalogue.clone();
    on.explain(move || sentences(&measured.get(), &catalogue));
    Ok(())
}

/// Those in use, and those of kinds of which no job runs in their own queue.
fn with_unused(mut slots: Vec<SlotsInUse>, kinds: &[KindSpec]) -> Vec<SlotsInUse> {
    for spec in kinds {
        let (kind, queue) = (spec.kind, spec.rules.queue);
        if slots
            .iter()
            .all(|it| (it.kind, &*it.queue) != (kind, queue))
        {
            slots.push(SlotsInUse {
                queue: queue.to_owned(),
                kind,
                running: 0,
                slots: spec.rules.slots,
            });
        }
    }
    slots
}

async fn measure(db: Db) -> Result<Queues, DbError> {
    let measured = db.read("measure queues", async |c| {
        let kinds = stats_of_all(c).await?.kinds;
        let mut oldest = Vec::new();
        for it in &kinds {
            oldest.push(match it.oldest_ready_seconds >= WORTH_SAYING {
                true => oldest_ready(c, &it.kind, &it.queue).await?,
                false => None,
            });
        }
        let queues = queues(c).await?.into_iter();
        let paused = queues.filter(|it| it.paused_at.is_some()).map(|it| it.name);
        Ok::<_, DbError>(Queues {
            kinds,
            oldest,
            paused: paused.collect(),
            vacuum_holders: vacuum_holders(c).await?,
        })
    });
    measured.await
}

/// The explanation of waiting and parked jobs, and of delayed vacuum.
fn sentences(measured: &Queues, catalogue: &JobCatalogue) -> Vec<String> {
    let (mut sentences, slots) = (Vec::new(), catalogue.slots());
    let mut oldest = measured.oldest.iter();
    for it in &measured.kinds {
        let id = oldest.next().copied().flatten();
        if it.oldest_ready_seconds >= WORTH_SAYING {
            let spec = catalogue.find(&it.kind);
            let cause = cause(it, &measured.paused, spec.as_ref(), &slots);
            let job = id.map(|id| format!("; job {id}")).unwrap_or_default();
            let seconds = it.oldest_ready_seconds;
            sentences.push(format!("oldest ready job {seconds} s: {cause}{job}"));
        }
        if it.parked > 0 {
            sentences.push(format!(
                "{} jobs `{}` are parked: each was running when its process ended, three times",
                it.parked, it.kind
            ));
        }
    }
    sentences.extend(measured.vacuum_holders.iter().map(|it| {
        let time = it.seconds.map(i64::unsigned_abs).map(|seconds| {
            let time = humantime::format_duration(Duration::from_secs(seconds));
            format!(" {time}")
        });
        format!(
            "vacuum held back by {}{}",
            it.name,
            time.unwrap_or_default()
        )
    }));
    sentences
}

/// Why jobs of a kind wait.
fn cause(
    it: &KindStats,
    paused: &[String],
    spec: Option<&KindSpec>,
    slots: &[SlotsInUse],
) -> String {
    let KindStats {
        kind,
        queue,
        ready,
        running,
        ..
    } = it;
    let full = slots
        .iter()
        .find(|slot| slot.kind == kind && slot.queue == *queue && slot.running >= slot.slots);
    let Some(spec) = spec else {
        return format!("this program runs no jobs `{kind}`");
    };
    let total = spec.rules.total.filter(|it| *running >= i64::from(*it));
    if paused.contains(queue) {
        format!("queue `{queue}` is paused")
    } else if let Some(slot) = full {
        format!("{} of {} slots in `{kind}`", slot.running, slot.slots)
    } else if let Some(total) = total {
        format!("{running} of {total} in `{kind}` on all instances together")
    } else if let Some(rate) = spec.rules.rate {
        let per = humantime::format_duration(rate.per);
        format!(
            "`{kind}` starts {} jobs in {per}, {ready} are ready",
            rate.jobs
        )
    } else {
        format!("{ready} ready, {running} running in `{kind}`; see the state of `job_runner`")
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::jobs::{Job, Rate, Rules};
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize)]
    struct Render;

    impl Job for Render {
        const KIND: &'static str = "files.render";
        type Output = ();
        const RULES: Rules = Rules {
            total: Some(9),
            rate: Some(Rate {
                jobs: 10,
                per: Duration::from_secs(60),
            }),
            ..Rules::DEFAULT
        };
    }

    #[test]
    fn slots_of_kinds_that_run_nothing_are_shown_as_well() {
        let used = |queue: &str, running| SlotsInUse {
            queue: queue.to_owned(),
            kind: "files.render",
            running,
            slots: Rules::DEFAULT.slots,
        };
        let kinds = [KindSpec::of::<Render>()];
        let bulk = used("bulk", 3);
        let all = with_unused(vec![bulk.clone()], &kinds);
        assert_eq!(all, [bulk, used("default", 0)]);
        let full = used("default", 8);
        assert_eq!(with_unused(vec![full.clone()], &kinds), [full]);
    }

    #[test]
    fn what_holds_back_the_vacuum_is_a_sentence() {
        let catalogue = JobCatalogue::default();
        let of = |name: &str, seconds| Queues {
            vacuum_holders: vec![VacuumHolder {
                name: name.to_owned(),
                seconds,
            }],
            ..Queues::default()
        };
        let said = |queues: Queues| sentences(&queues, &catalogue).join("; ");
        assert_eq!(
            said(of("pid 4711, idle in transaction", Some(720))),
            "vacuum held back by pid 4711, idle in transaction 12m"
        );
        assert_eq!(
            said(of("replication slot `a`, 20000 transactions behind", None)),
            "vacuum held back by replication slot `a`, 20000 transactions behind"
        );
    }

    #[test]
    fn the_cause_of_waiting_is_named() {
        let spec = KindSpec::of::<Render>();
        let waiting = |running| KindStats {
            kind: "files.render".to_owned(),
            queue: "default".to_owned(),
            ready: 3,
            running,
            oldest_ready_seconds: 40,
            ..KindStats::default()
        };
        let slots = |running| SlotsInUse {
            queue: "default".to_owned(),
            kind: "files.render",
            running,
            slots: 8,
        };
        let paused = ["default".to_owned()];
        for (paused, spec, running, slot, expected) in [
            (&paused[..], Some(&spec), 8, 8, "queue `default` is paused"),
            (&[], Some(&spec), 9, 8, "8 of 8 slots in `files.render`"),
            (
                &[],
                Some(&spec),
                9,
                4,
                "9 of 9 in `files.render` on all instances together",
            ),
            (
                &[],
                Some(&spec),
                1,
                1,
                "`files.render` starts 10 jobs in 1m, 3 are ready",
            ),
            (&[], None, 0, 0, "this program runs no jobs `files.render`"),
        ] {
            let found = cause(&waiting(running), paused, spec, &[slots(slot)]);
            assert_eq!(found, expected);
        }
    }
}
