//! What is enqueued, and what is refused.

use std::time::Duration;

use dotmac_db::{DbError, TenantTx, Tx, types::Moment};
use dotmac_durable::jobs::{
    Enqueue, EnqueueError, EnqueueOptions, Enqueued, Job, JobFilter, JobState, KindSpec, MAX_ARGS,
    MAX_WAITING, Rules, args, find_any, flush, list, stats,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::rig::{Rig, Work, on_both, scope, tenant};

#[derive(Serialize, Deserialize)]
struct Large(String);

impl Job for Large {
    const KIND: &'static str = "test.large";
    type Output = ();
}

#[actix::test]
async fn a_job_is_there_if_its_transaction_is_committed_and_not_otherwise() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let fail = async |tx: &mut TenantTx| {
            tx.enqueue(&Work { number: 1 }).await?;
            Err::<(), _>(DbError::from(diesel::result::Error::RollbackTransaction))
        };
        let db = rig.db.tenant(&scope());
        db.transaction("fail", fail).await.unwrap_err();
        let id = rig.enqueue(Work { number: 2 }).await;
        let read = async move |tx: &mut TenantTx| {
            let jobs = list(tx, &JobFilter::default(), None, 10).await?;
            let args = args(tx, id).await?;
            Ok::<_, DbError>((jobs, args))
        };
        let (jobs, args) = db.read("list", read).await.unwrap();
        assert_eq!(jobs.len(), 1);
        let job = &jobs[0];
        assert_eq!((job.id, job.state, job.attempt), (id, JobState::Ready, 0));
        assert_eq!((&*job.kind, &*job.queue), ("test.work", "default"));
        assert_eq!(args, Some(json!({"number": 2})));
        rig.supervisor.halt().await;
    })
    .await;
}

/// Another tenant neither lists nor finds it; on PostgreSQL the rows themselves are hidden.
#[actix::test]
async fn a_job_is_its_tenants() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let id = rig.enqueue(Work { number: 1 }).await;
        let read = async move |tx: &mut TenantTx| {
            let jobs = list(tx, &JobFilter::default(), None, 10).await?;
            let found = dotmac_durable::jobs::find(tx, id).await?;
            let args = args(tx, id).await?;
            let cancelled = dotmac_durable::jobs::cancel(tx, id).await?;
            let kinds = stats(tx).await?.kinds;
            Ok::<_, DbError>((
                jobs.len(),
                found.is_some(),
                args.is_some(),
                cancelled,
                kinds.len(),
            ))
        };
        let other = rig.db.tenant(&tenant(2));
        let seen = other.transaction("look", read).await.unwrap();
        let unknown = dotmac_durable::jobs::Acted::Unknown;
        assert_eq!(seen, (0, false, false, unknown, 0));
        assert_eq!(rig.find(id).await.unwrap().state, JobState::Ready);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn what_the_queue_cannot_take_is_refused_and_rolls_back() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let refuse = async |job: Large, options: EnqueueOptions| {
            let enqueue = async move |tx: &mut TenantTx| {
                tx.enqueue(&Work { number: 1 }).await?;
                Ok::<_, DbError>(tx.enqueue_with(&job, options).await.unwrap_err())
            };
            // The transaction ignores the error, and is rolled back all the same.
            let db = rig.db.tenant(&scope());
            let error = db.transaction("enqueue", enqueue).await.unwrap_err();
            dotmac_causes(&error)
        };
        let small = || Large("x".to_owned());
        let large = Large("x".repeat(MAX_ARGS));
        let error = refuse(large, EnqueueOptions::new()).await;
        assert!(
            error.contains("have 65538 bytes; 65536 are allowed"),
            "{error}"
        );
        for (options, expected) in [
            (
                EnqueueOptions::new().queue("a b"),
                "queue of a job `test.large` is not a valid name",
            ),
            (EnqueueOptions::new().priority(101), "priority of a job"),
            (
                EnqueueOptions::new().max_attempts(0),
                "max_attempts of a job",
            ),
            (EnqueueOptions::new().unique(""), "unique of a job"),
            (EnqueueOptions::new().unique("a\0"), "unique of a job"),
        ] {
            let error = refuse(small(), options).await;
            assert!(error.contains(expected), "{error}");
        }
        let wrong = async |tx: &mut TenantTx| {
            let spec = KindSpec::of::<Work>();
            let options = EnqueueOptions::new();
            let done = tx
                .enqueue_args(&spec, &json!({"number": "one"}), options)
                .await;
            Err::<(), _>(done.unwrap_err())
        };
        let error: EnqueueError = rig
            .db
            .tenant(&scope())
            .transaction("enqueue", wrong)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                EnqueueError::Args {
                    kind: "test.work",
                    ..
                }
            ),
            "{error}"
        );
        let count = async |tx: &mut TenantTx| list(tx, &JobFilter::default(), None, 10).await;
        let left = rig.db.tenant(&scope()).read("list", count).await.unwrap();
        assert!(left.is_empty(), "{left:?}");
        rig.supervisor.halt().await;
    })
    .await;
}

fn dotmac_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

#[actix::test]
async fn ten_thousand_jobs_of_a_tenant_and_kind_may_wait_and_no_more() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let fill = async |tx: &mut TenantTx| {
            for number in 0..1000 {
                tx.enqueue(&Work { number }).await?;
            }
            Ok::<_, EnqueueError>(())
        };
        let db = rig.db.tenant(&tenant(77));
        for _ in 0..MAX_WAITING / 1000 {
            db.transaction("fill", fill).await.unwrap();
        }
        let one = async |tx: &mut TenantTx| tx.enqueue(&Work { number: 0 }).await;
        let error = db.transaction("one more", one).await.unwrap_err();
        let expected = "10000 jobs `test.work` are waiting; no more are accepted until some end";
        assert_eq!(error.to_string(), expected);
        // Another tenant has its own.
        rig.db.tenant(&tenant(78)).transaction("one", one).await.unwrap();
        // As has another kind.
        let other = async |tx: &mut TenantTx| tx.enqueue(&Large(String::new())).await;
        db.transaction("other", other).await.unwrap();
        // As soon as one is done there is room.
        rig.run("UPDATE job SET state = 'running' WHERE id IN (SELECT id FROM job WHERE kind = 'test.work' LIMIT 2)").await;
        db.transaction("one", one).await.unwrap();
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_unique_key_has_one_job_until_it_is_done_and_its_period_is_over() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let enqueue =
            async |options: EnqueueOptions| rig.enqueue_with(Work { number: 1 }, options).await;
        let by_key = |key: &str| EnqueueOptions::new().unique(key);
        let first = enqueue(by_key("a")).await;
        assert!(matches!(first, Enqueued::New(_)));
        assert_eq!(enqueue(by_key("a")).await, Enqueued::Existing(first.id()));
        assert!(matches!(enqueue(by_key("b")).await, Enqueued::New(_)));
        let other = rig
            .enqueue_for(&tenant(2), Work { number: 1 }, by_key("a"))
            .await;
        assert!(matches!(other, Enqueued::New(_)));
        // Within one transaction as well.
        let twice = async |tx: &mut TenantTx| {
            let options = EnqueueOptions::new().unique("twice");
            let one = tx
                .enqueue_with(&Work { number: 1 }, options.clone())
                .await?;
            let other = tx.enqueue_with(&Work { number: 1 }, options).await?;
            Ok::<_, EnqueueError>((one, other))
        };
        let (one, other) = rig
            .db
            .tenant(&scope())
            .transaction("twice", twice)
            .await
            .unwrap();
        assert_eq!(other, Enqueued::Existing(one.id()));

        let cancel =
            async move |tx: &mut TenantTx| dotmac_durable::jobs::cancel(tx, first.id()).await;
        rig.db
            .tenant(&scope())
            .transaction("cancel", cancel)
            .await
            .unwrap();
        let hour = EnqueueOptions::new().unique_for("a", Duration::from_secs(3600));
        let second = enqueue(hour.clone()).await;
        assert!(matches!(second, Enqueued::New(_)), "the first is finished");
        let cancel =
            async move |tx: &mut TenantTx| dotmac_durable::jobs::cancel(tx, second.id()).await;
        rig.db
            .tenant(&scope())
            .transaction("cancel", cancel)
            .await
            .unwrap();
        let again = enqueue(by_key("a")).await;
        assert_eq!(
            again,
            Enqueued::Existing(second.id()),
            "its period is not over"
        );
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_transaction_has_a_thousand_jobs_and_no_more() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let db = rig.db.tenant(&tenant(79));
        let enqueue = async |jobs: i64| {
            let work = async move |tx: &mut TenantTx| {
                for number in 0..jobs {
                    // Those that are written count as well.
                    if number == 500 {
                        flush(tx).await?;
                    }
                    tx.enqueue(&Work { number }).await?;
                }
                Ok::<_, EnqueueError>(())
            };
            db.transaction("enqueue", work).await
        };
        enqueue(1000).await.unwrap();
        let error = enqueue(1001).await.unwrap_err();
        let expected = "a transaction enqueues at most 1000 jobs; the job `test.work` exceeds that";
        assert_eq!(error.to_string(), expected);
        let read = async |tx: &mut TenantTx| stats(tx).await;
        let stats = db.read("stats", read).await.unwrap();
        assert_eq!(stats.kinds[0].ready, 1000);
        rig.supervisor.halt().await;
    })
    .await;
}

/// Of many that ask for a key at once, one gets it.
#[actix::test]
async fn a_unique_key_is_given_once_to_those_who_ask_at_once() {
    on_both(async |target| {
        let one = Rig::start(&target, |_| Vec::new()).await;
        let other = Rig::start(&target, |_| Vec::new()).await;
        for round in 0..5 {
            let key = format!("key {round}");
            let asking = (0..8).map(|n| {
                let rig = if n % 2 == 0 { &one } else { &other };
                rig.enqueue_with(
                    Work { number: n },
                    EnqueueOptions::new().unique(key.clone()),
                )
            });
            let answers = futures_util::future::join_all(asking).await;
            let new = answers.iter().filter(|it| matches!(it, Enqueued::New(_)));
            assert_eq!(new.count(), 1, "{answers:?}");
            assert!(answers.iter().all(|it| it.id() == answers[0].id()));
        }
        one.supervisor.halt().await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_job_of_the_system_has_no_tenant() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let later = Moment::now() + Duration::from_secs(3600);
        let enqueue = async move |tx: &mut Tx| {
            let options = EnqueueOptions::new().run_at(later).priority(-5);
            tx.enqueue_with(&Large(String::new()), options).await
        };
        let id = rig
            .system()
            .transaction("enqueue", enqueue)
            .await
            .unwrap()
            .id();
        let find = async move |c: &mut dotmac_db::Connection| find_any(c, id).await;
        let job = rig.system().read("find", find).await.unwrap().unwrap();
        assert_eq!((job.tenant, job.state), (None, JobState::Scheduled));
        assert_eq!((job.run_at, job.priority), (later, -5));
        assert_eq!(rig.find(id).await.map(|job| job.id), None);
        assert_eq!(Large::RULES, Rules::DEFAULT);
        // Nor has one of a transaction without a scope.
        let enqueue = async |tx: &mut Tx| tx.enqueue(&Large(String::new())).await;
        let id = rig.root.transaction("enqueue", enqueue).await.unwrap().id();
        let find = async move |c: &mut dotmac_db::Connection| find_any(c, id).await;
        let job = rig.system().read("find", find).await.unwrap().unwrap();
        assert_eq!((job.tenant, job.state), (None, JobState::Ready));
        rig.supervisor.halt().await;
    })
    .await;
}

/// A module that is part of a program enqueues what some module of it lists, and nothing that none would do.
#[actix::test]
async fn a_kind_that_no_module_lists_is_refused() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        dotmac_durable::jobs::declare("listing", [Work::KIND]);
        dotmac_durable::jobs::declare("other", []);
        let db = rig.root.for_module("other", dotmac_db::Share::HALF);
        let db = db.tenant(&scope());
        let listed = async |tx: &mut TenantTx| tx.enqueue(&Work { number: 1 }).await;
        db.transaction("enqueue", listed).await.unwrap();
        let unlisted = async |tx: &mut TenantTx| tx.enqueue(&Large(String::new())).await;
        let error: EnqueueError = db.transaction("enqueue", unlisted).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "module `other` enqueues a job `test.large`, which no manifest lists"
        );
        let count = async |tx: &mut TenantTx| list(tx, &JobFilter::default(), None, 10).await;
        assert_eq!(db.read("list", count).await.unwrap().len(), 1);
        rig.supervisor.halt().await;
    })
    .await;
}
