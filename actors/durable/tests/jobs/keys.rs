//! Unique keys beyond the end of their job: what is kept, what is deleted, and what a retry finds.

use std::time::Duration;

use dotmac_db::{DbError, TenantTx, types::Moment};
use dotmac_durable::jobs::{
    Acted, Enqueue as _, EnqueueOptions, Enqueued, JobId, JobState, Kept, cancel, maintain, retry,
};

use crate::{
    rig::{Rig, Work, on_both, patiently, postgres, scope},
    support::Postgres,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn enqueue(rig: &Rig, options: EnqueueOptions) -> Enqueued {
    rig.enqueue_with(Work { number: 1 }, options).await
}

async fn cancelled(rig: &Rig, id: JobId) {
    let acted = patiently(async || {
        let cancel = async move |tx: &mut TenantTx| cancel(tx, id).await;
        rig.db.tenant(&scope()).transaction("cancel", cancel).await
    })
    .await;
    assert_eq!(acted, Acted::Done(JobState::Cancelled));
}

async fn retried(rig: &Rig, id: JobId) -> Acted {
    patiently(async || {
        let retry = async move |tx: &mut TenantTx| retry(tx, id).await;
        rig.db.tenant(&scope()).transaction("retry", retry).await
    })
    .await
}

async fn expire(rig: &Rig, after: Duration) -> usize {
    let now = Moment::now() + after;
    maintain(&rig.system(), now, Kept::default()).await.unwrap()
}

#[actix::test]
async fn a_job_is_kept_while_its_key_holds() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let quarter = EnqueueOptions::new().unique_for("report", DAY * 90);
        let report = enqueue(&rig, quarter.clone()).await.id();
        let plain = enqueue(&rig, EnqueueOptions::new().unique("plain"))
            .await
            .id();
        cancelled(&rig, report).await;
        cancelled(&rig, plain).await;
        assert_eq!(expire(&rig, DAY * 89).await, 1);
        assert!(rig.find(plain).await.is_none());
        assert_eq!(
            enqueue(&rig, quarter.clone()).await,
            Enqueued::Existing(report)
        );
        assert!(rig.find(report).await.is_some(), "it is the answer");
        assert_eq!(expire(&rig, DAY * 91).await, 1);
        assert!(matches!(enqueue(&rig, quarter).await, Enqueued::New(_)));
        rig.supervisor.halt().await;
    })
    .await;
}

/// More of them than one transaction checks.
#[actix::test]
async fn jobs_that_are_kept_for_their_key_do_not_keep_others() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for part in 0..3 {
            let fill = async move |tx: &mut TenantTx| {
                for number in 0..400 {
                    let key =
                        EnqueueOptions::new().unique_for(format!("{part} {number}"), DAY * 90);
                    tx.enqueue_with(&Work { number }, key).await?;
                }
                Ok::<_, DbError>(())
            };
            let db = rig.db.tenant(&scope());
            db.transaction("fill", fill).await.unwrap();
        }
        for _ in 0..3 {
            rig.enqueue(Work { number: 1 }).await;
        }
        rig.run("UPDATE job SET state = 'completed', finished_at = created_at")
            .await;
        assert_eq!(expire(&rig, DAY * 2).await, 3);
        assert_eq!(expire(&rig, DAY * 91).await, 1200);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_retry_takes_the_key_again_unless_an_unfinished_job_has_it() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let key = || EnqueueOptions::new().unique("key");
        let first = enqueue(&rig, key()).await.id();
        cancelled(&rig, first).await;
        // Nobody has taken it.
        assert_eq!(retried(&rig, first).await, Acted::Done(JobState::Ready));
        assert_eq!(enqueue(&rig, key()).await, Enqueued::Existing(first));
        cancelled(&rig, first).await;
        let second = enqueue(&rig, key()).await;
        assert!(matches!(second, Enqueued::New(_)));
        let second = second.id();
        assert_eq!(retried(&rig, first).await, Acted::KeyTaken(second));
        assert_eq!(rig.find(first).await.unwrap().state, JobState::Cancelled);
        cancelled(&rig, second).await;
        assert_eq!(retried(&rig, first).await, Acted::Done(JobState::Ready));
        assert_eq!(retried(&rig, second).await, Acted::KeyTaken(first));
        assert_eq!(enqueue(&rig, key()).await, Enqueued::Existing(first));
        // The retention has taken it away.
        cancelled(&rig, first).await;
        assert_eq!(expire(&rig, DAY / 2).await, 0);
        assert_eq!(retried(&rig, second).await, Acted::Done(JobState::Ready));
        assert_eq!(enqueue(&rig, key()).await, Enqueued::Existing(second));
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn old_keys_are_deleted_by_a_thousand() {
    let server = Postgres::start().await;
    let rig = Rig::start(&postgres(server.port), |_| Vec::new()).await;
    for statement in [
        "CREATE TABLE gone (keys bigint)",
        "GRANT INSERT ON gone TO PUBLIC",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         INSERT INTO gone SELECT count(*) FROM old; RETURN NULL; END $$",
        "CREATE TRIGGER note AFTER DELETE ON job_unique REFERENCING OLD TABLE AS old \
         FOR EACH STATEMENT EXECUTE FUNCTION note()",
        "INSERT INTO job_unique (tenant_id, kind, key, job_id, holds_until) \
         SELECT gen_random_uuid(), 'test.work', 'key', gen_random_uuid(), '2026-01-01' \
         FROM generate_series(1, 2500)",
    ] {
        server.query(statement).await;
    }
    let held = EnqueueOptions::new().unique("held");
    let held = enqueue(&rig, held).await.id();
    assert_eq!(expire(&rig, DAY).await, 0);
    let gone = "SELECT string_agg(keys::text, ' ' ORDER BY keys DESC) FROM gone";
    assert_eq!(server.query(gone).await, "1000 1000 500");
    let left = server.query("SELECT job_id FROM job_unique").await;
    assert_eq!(left, held.to_string(), "its job is not finished");
    rig.supervisor.halt().await;
}
