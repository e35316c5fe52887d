//! Who runs when while a reader keeps its snapshot: a look through the queues takes long then.

use std::{ops::Range, time::Duration};

use dotmac_db::Tx;
use dotmac_durable::jobs::{EnqueueOptions, pause, resume};

use crate::{
    rig::{Rig, postgres, tenant},
    sharing::{Log, Single, logging, until_logged},
    support::Postgres,
};

/// So many jobs were claimed before: their entries take a look some 20 ms.
const BEFORE: i64 = 100_000;

/// Completes so many jobs while a reader keeps its snapshot: the indexes keep their entries until the reader is dropped.
async fn reader_of_dead_entries(server: &Postgres) -> tokio_postgres::Client {
    let (reader, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    let pin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM job";
    reader.batch_execute(pin).await.unwrap();
    server
        .query(&format!(
            "INSERT INTO job (id, tenant_id, kind, queue, state, priority, run_at, max_attempts, created_at) \
             SELECT gen_random_uuid(), '00000000-0000-0000-0000-000000000001', 'test.single', 'default', 'ready', 0, \
             now(), 3, now() FROM generate_series(1, {BEFORE})"
        ))
        .await;
    // The lock waits for the claims under way: these and the update could wait for rows of each other.
    let done = "BEGIN; LOCK TABLE job IN SHARE ROW EXCLUSIVE MODE; \
                UPDATE job SET state = 'completed', finished_at = now() WHERE state <> 'completed'; COMMIT";
    server.query(done).await;
    reader
}

/// While a reader keeps its snapshot, the index keeps the entries of all jobs that were claimed, and to look through it takes
/// long. Tenants have their turns all the same, and a tenant that had no job before is found.
#[actix::test]
async fn tenants_take_turns_while_a_reader_keeps_its_snapshot() {
    let server = Postgres::start().await;
    let target = postgres(server.port);
    let log = Log::default();
    let rig = Rig::start(&target, |_| vec![logging(&log)]).await;
    let reader = reader_of_dead_entries(&server).await;
    for number in 0..20 {
        for of in 1..=4 {
            let job = Single { tenant: of, number };
            rig.enqueue_for(&tenant(of), job, EnqueueOptions::new())
                .await;
        }
    }
    let order = until_logged(&log, 80).await;
    for of in 1..=4 {
        let of_tenant = order.iter().filter(|it| it.0 == of);
        assert!(of_tenant.is_sorted_by_key(|it| it.1), "{order:?}");
    }
    let job = Single {
        tenant: 5,
        number: 0,
    };
    rig.enqueue_for(&tenant(5), job, EnqueueOptions::new())
        .await;
    let order = until_logged(&log, 81).await;
    assert_eq!(order.last(), Some(&(5, 0)));
    drop(reader);
    rig.supervisor.halt().await;
}

/// A look through all queues knows all tenants, not as many as there are slots: else later jobs of the others come first.
#[actix::test]
async fn tenants_that_wait_keep_their_order_while_a_reader_keeps_its_snapshot() {
    let server = Postgres::start().await;
    let target = postgres(server.port);
    let log = Log::default();
    let rig = Rig::start(&target, |_| Vec::new()).await;
    let reader = reader_of_dead_entries(&server).await;
    let of_each = async |numbers: Range<i64>| {
        for number in numbers {
            for of in 1..=4 {
                let job = Single { tenant: of, number };
                rig.enqueue_for(&tenant(of), job, EnqueueOptions::new())
                    .await;
            }
        }
    };
    let set = async |is_paused: bool| {
        let work = async move |tx: &mut Tx| match is_paused {
            true => pause(tx, "default").await,
            false => resume(tx, "default").await,
        };
        assert!(rig.system().transaction("pause", work).await.unwrap());
    };
    of_each(0..3).await;
    set(true).await;
    let running = Rig::start(&target, |_| vec![logging(&log)]).await;
    // Some looks, each of some 20 ms, are 600 ms apart.
    tokio::time::sleep(Duration::from_secs(3)).await;
    of_each(3..6).await;
    set(false).await;
    let order = until_logged(&log, 24).await;
    for of in 1..=4 {
        let of_tenant = order.iter().filter(|it| it.0 == of);
        assert!(of_tenant.is_sorted_by_key(|it| it.1), "{order:?}");
    }
    drop(reader);
    running.supervisor.halt().await;
    rig.supervisor.halt().await;
}

/// How many entries of the indexes of jobs were read, as the server has noted it by now.
async fn entries_read(server: &Postgres) -> i64 {
    // Sessions report at most once a second.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let read = "SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'job'";
    server.query(read).await.trim().parse().unwrap()
}

/// So many are enqueued, one after the other, between two questions.
const AT_A_TIME: i64 = 60;

/// As above, one job after the other: a look for each of them would read all those entries twice.
#[actix::test]
async fn what_becomes_ready_is_found_without_the_entries_of_what_was_claimed_before() {
    let server = Postgres::start().await;
    let target = postgres(server.port);
    let log = Log::default();
    let rig = Rig::start(&target, |_| vec![logging(&log)]).await;
    let reader = reader_of_dead_entries(&server).await;
    let mut number = 0;
    crate::support::eventually("jobs to be found by their transactions", || {
        let first = number;
        number += AT_A_TIME;
        let (rig, log, server) = (&rig, &log, &server);
        async move {
            let before = entries_read(server).await;
            for number in first..first + AT_A_TIME {
                let of = tenant(1 + u128::try_from(number % 4).unwrap());
                let job = Single { tenant: 1, number };
                rig.enqueue_for(&of, job, EnqueueOptions::new()).await;
                until_logged(log, usize::try_from(number).unwrap() + 1).await;
            }
            let read = entries_read(server).await - before;
            println!("{AT_A_TIME} jobs: {read} entries of indexes read");
            (read < AT_A_TIME * BEFORE / 3).then_some(())
        }
    })
    .await;
    drop(reader);
    rig.supervisor.halt().await;
}
