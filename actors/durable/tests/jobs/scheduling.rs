//! Schedules: each due time is one job, on any number of instances; and the handling of missed times.

use std::{collections::BTreeSet, time::Duration};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{DbError, TenantTx, Tx, on, types::Moment};
use dotmac_durable::jobs::{
    Draft, JobState, KindSpec, Missed, Occurrence, OccurrenceState, Schedule, ScheduleError,
    ScheduleId, Timing, create_schedule, delete_schedule, find_schedule, list_occurrences,
    replace_schedule, trigger_schedule,
};
use serde_json::{Value, json};

use crate::{
    rig::{Rig, Work, noting, on_both, patiently, scope},
    support::eventually,
};

diesel::table! {
    use dotmac_db::types::sql::*;

    job_schedule (id) {
        id -> Uuid,
        anchor_at -> Timestamp,
        next_at -> Nullable<Timestamp>,
    }
}

fn draft(name: &str, every: u64, missed: Missed) -> Draft {
    Draft {
        name: name.to_owned(),
        kind: "test.work".to_owned(),
        args: json!({"number": 7}),
        timing: Timing::every(Duration::from_secs(every)).unwrap(),
        missed,
        grace: Duration::from_secs(3600),
        is_paused: false,
    }
}

impl Rig {
    async fn schedule(&self, draft: Draft) -> Schedule {
        patiently(async || {
            let draft = draft.clone();
            let create = async move |tx: &mut TenantTx| match create_schedule(tx, draft).await {
                Ok(schedule) => Ok(schedule),
                Err(ScheduleError::Database(error)) => Err(error),
                Err(error) => unreachable!("{error}"),
            };
            self.db
                .tenant(&scope())
                .transaction("schedule", create)
                .await
        })
        .await
    }

    async fn schedule_now(&self, id: ScheduleId) -> Schedule {
        patiently(async || {
            let find = async move |tx: &mut TenantTx| find_schedule(tx, id).await;
            self.db.tenant(&scope()).read("find schedule", find).await
        })
        .await
        .unwrap()
    }

    async fn replace(&self, schedule: &Schedule, draft: Draft) -> Option<Schedule> {
        let former = schedule.clone();
        let replace = async move |tx: &mut TenantTx| replace_schedule(tx, &former, draft).await;
        let db = self.db.tenant(&scope());
        db.transaction("replace schedule", replace).await.unwrap()
    }

    /// The newest first.
    async fn occurrences(&self, id: ScheduleId) -> Vec<Occurrence> {
        patiently(async || {
            let list = async move |tx: &mut TenantTx| list_occurrences(tx, id, None, 1000).await;
            self.db
                .tenant(&scope())
                .read("list occurrences", list)
                .await
        })
        .await
    }

    /// As if no instance had run since `ago`, when it was due for the first time.
    async fn leave_alone(&self, id: ScheduleId, ago: Duration, every: Duration) {
        let due = Moment::now() - ago;
        let set = async move |tx: &mut Tx| {
            let update = diesel::update(job_schedule::table.find(id)).set((
                job_schedule::anchor_at.eq(due - every),
                job_schedule::next_at.eq(due),
            ));
            on!(tx, |c| update.execute(c).await).map(drop)
        };
        let set = self.system().transaction("leave alone", set);
        set.await.unwrap();
    }
}

fn count(occurrences: &[Occurrence], state: OccurrenceState) -> usize {
    occurrences.iter().filter(|it| it.state == state).count()
}

#[actix::test]
async fn each_time_is_one_job_whatever_the_number_of_instances() {
    on_both(async |target| {
        let one = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        let made = one.schedule(draft("each second", 1, Missed::RunAll)).await;
        assert_eq!(made.next_at, Some(made.anchor + Duration::from_secs(1)));
        eventually("five occurrences", || async {
            (one.occurrences(made.id).await.len() >= 5).then_some(())
        })
        .await;
        let held = Draft {
            is_paused: true,
            ..made.draft.clone()
        };
        let held = one.replace(&made, held).await.unwrap();
        assert_eq!(held.next_at, None);
        let occurrences = other.occurrences(made.id).await;
        let times: Vec<_> = occurrences.iter().map(|it| it.due_at).collect();
        let number = u32::try_from(times.len()).unwrap();
        let expected = (1..=number).rev();
        let expected: Vec<_> = expected
            .map(|it| made.anchor + Duration::from_secs(1) * it)
            .collect();
        assert_eq!(times, expected, "none is left out, none is doubled");
        let jobs: BTreeSet<_> = occurrences.iter().map(|it| it.job_id.unwrap()).collect();
        assert_eq!(jobs.len(), times.len());
        one.until_done(&vec![7; times.len()]).await;
        for id in jobs {
            let job = one.until_state(id, JobState::Completed).await;
            assert_eq!(job.attempt, 1);
        }
        one.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn what_was_missed_is_enqueued_or_noted_as_the_policy_says() {
    on_both(async |target| {
        let idle = Rig::start(&target, |_| Vec::new()).await;
        let every = Duration::from_secs(600);
        let mut made = Vec::new();
        for (name, missed) in [
            ("skip", Missed::Skip),
            ("once", Missed::RunOnce),
            ("all", Missed::RunAll),
        ] {
            let schedule = idle.schedule(draft(name, 600, missed)).await;
            // Due 31 times; the last time five minutes ago.
            idle.leave_alone(schedule.id, every * 30 + every / 2, every)
                .await;
            made.push((schedule.id, missed));
        }
        let short = Draft {
            grace: Duration::from_secs(60),
            ..draft("short grace", 600, Missed::Skip)
        };
        let short = idle.schedule(short).await.id;
        idle.leave_alone(short, every * 3 + every / 2, every).await;
        idle.supervisor.halt().await;

        let rig = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        for (id, missed) in made {
            let occurrences = eventually("the occurrences", || async {
                let found = rig.occurrences(id).await;
                (found.len() == 31).then_some(found)
            })
            .await;
            let runs = match missed {
                Missed::Skip | Missed::RunOnce => 1,
                Missed::RunAll => 24,
            };
            let count = |state| count(&occurrences, state);
            assert_eq!(count(OccurrenceState::Enqueued), runs, "{missed:?}");
            assert_eq!(count(OccurrenceState::Missed), 31 - runs, "{missed:?}");
            assert!(occurrences[..runs].iter().all(|it| it.job_id.is_some()));
            assert!(rig.schedule_now(id).await.next_at.unwrap() > Moment::now());
        }
        eventually("four missed ones", || async {
            let found = rig.occurrences(short).await;
            assert_eq!(count(&found, OccurrenceState::Missed), found.len());
            (found.len() == 4).then_some(())
        })
        .await;
        rig.until_done(&[7; 26]).await;
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_job_that_the_queue_refuses_is_noted_and_the_schedule_goes_on() {
    on_both(async |target| {
        let rig = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        let wrong = Draft {
            args: json!({"number": "seven"}),
            ..draft("wrong", 1, Missed::RunAll)
        };
        let made = rig.schedule(wrong).await;
        let occurrences = eventually("two occurrences", || async {
            let found = rig.occurrences(made.id).await;
            (found.len() >= 2).then_some(found)
        })
        .await;
        for it in occurrences {
            assert_eq!((it.state, it.job_id), (OccurrenceState::Refused, None));
            assert!(
                it.error
                    .unwrap()
                    .contains("wrong arguments for a job `test.work`")
            );
        }
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_schedule_is_held_triggered_resumed_and_deleted() {
    on_both(async |target| {
        let rig = Rig::start(&target, |db| vec![noting(db)]).await;
        let other = Rig::start(&target, |db| vec![noting(db)]).await;
        let made = rig.schedule(draft("hourly", 3600, Missed::Skip)).await;
        let held = Draft {
            is_paused: true,
            ..made.draft.clone()
        };
        let held = rig.replace(&made, held).await.unwrap();
        assert_eq!((held.next_at, held.version), (None, 2));
        assert!(
            rig.replace(&made, made.draft.clone()).await.is_none(),
            "it has changed since"
        );
        let given = held.clone();
        let trigger = async move |tx: &mut TenantTx| {
            let kind = KindSpec::of::<Work>();
            Ok::<_, DbError>(trigger_schedule(tx, &given, &kind).await?)
        };
        let db = rig.db.tenant(&scope());
        let triggered = db.transaction("trigger", trigger).await.unwrap();
        assert_eq!(triggered.state, OccurrenceState::Triggered);
        rig.until_state(triggered.job_id.unwrap(), JobState::Completed)
            .await;
        assert_eq!(rig.occurrences(made.id).await, [triggered]);

        let resumed = rig.replace(&held, made.draft.clone()).await.unwrap();
        assert!(resumed.next_at.unwrap() > Moment::now());
        let retimed = Draft {
            timing: Timing::cron("30 2 * * *", "Europe/Berlin").unwrap(),
            args: Value::Null,
            ..made.draft.clone()
        };
        let retimed = rig.replace(&resumed, retimed).await.unwrap();
        let stored = rig.schedule_now(made.id).await;
        assert_eq!(
            (&stored.draft, stored.next_at),
            (&retimed.draft, retimed.next_at)
        );
        let (id, version) = (made.id, retimed.version);
        for (version, is_gone) in [(1, false), (version, true)] {
            let delete = async move |tx: &mut TenantTx| delete_schedule(tx, id, version).await;
            let deleted = db.transaction("delete", delete).await.unwrap();
            assert_eq!(deleted, is_gone);
        }
        assert!(rig.occurrences(id).await.is_empty());
        rig.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}
