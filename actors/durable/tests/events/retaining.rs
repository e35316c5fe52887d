//! How long events are kept, what that says to those who come too late, and what holds the log back.

use std::time::Duration;

use chrono::{Days, Utc};
use dotmac_db::{Connection, DbError, Tx};
use dotmac_durable::events::{
    Emit, Filter, Position, Received, RewindTo, Subscriber, SubscriberState, maintain, read_all,
    rewind, subscribers,
};

use crate::{
    rig::{Counted, Rig, have_effect, on_both, postgres},
    support::{Postgres, eventually},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn count(rig: &Rig) -> usize {
    let read =
        async |c: &mut Connection| read_all(c, &Filter::default(), Position::BEGINNING, 200).await;
    rig.system()
        .read("read events", read)
        .await
        .unwrap()
        .events
        .len()
}

#[actix::test]
async fn a_subscriber_behind_expired_events_reports_it_and_waits_until_it_is_rewound() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.run("INSERT INTO event_subscriber VALUES ('late', 0, 0, '2026-01-01 00:00:00.000000')")
            .await;
        rig.emit(0..3).await;
        maintain(&rig.system(), Utc::now(), 2 * DAY).await.unwrap();
        assert_eq!(count(&rig).await, 3);
        let later = Utc::now() + Days::new(4);
        maintain(&rig.system(), later, 2 * DAY).await.unwrap();
        assert_eq!(count(&rig).await, 0);
        rig.supervisor.halt().await;

        let rig = Rig::start(&target, |db| {
            let handle = async |tx: &mut dotmac_db::TenantTx, event: Received<Counted>| {
                have_effect(tx, "late", event.number, event.event.position()).await
            };
            vec![Subscriber::new("late", handle).worker(db)]
        })
        .await;
        rig.emit(3..5).await;
        rig.until_reason("late", "events_expired").await;
        let status = async |c: &mut Connection| subscribers(c).await;
        let all = rig.system().read("status", status).await.unwrap();
        assert_eq!(all[0].state, SubscriberState::Expired);
        assert!(rig.effects("late").await.is_empty());

        let rewind = async |tx: &mut Tx| rewind(tx, "late", RewindTo::Beginning).await;
        rig.system().transaction("rewind", rewind).await.unwrap();
        rig.until_effects("late", &[3, 4]).await;
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn partitions_are_made_ahead_and_dropped_and_what_none_takes_is_kept_in_the_default_one() {
    let server = Postgres::start().await;
    let rig = Rig::start(&postgres(server.port), |_| Vec::new()).await;
    let partitions = || async {
        let list = "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) \
                    FROM pg_inherits WHERE inhparent = 'event'::regclass";
        server.query(list).await
    };
    let name = |days: u64| {
        (Utc::now() + Days::new(days))
            .format("event_%Y%m%d")
            .to_string()
    };
    assert_eq!(
        partitions().await,
        format!("{} {} event_default", name(0), name(1))
    );
    rig.emit(0..1).await;
    assert_eq!(
        server.query("SELECT count(*) FROM event_default").await,
        "0"
    );

    // The worker was away for the day on which they were made.
    server.query(&format!("DROP TABLE {}", name(0))).await;
    rig.emit(1..3).await;
    assert_eq!(
        server.query("SELECT count(*) FROM event_default").await,
        "2"
    );
    maintain(&rig.system(), Utc::now(), 2 * DAY).await.unwrap();
    assert_eq!(
        partitions().await,
        format!("{} event_default", name(1)),
        "what is there stays there"
    );

    let later = Utc::now() + Days::new(4);
    maintain(&rig.system(), later, 2 * DAY).await.unwrap();
    assert_eq!(
        partitions().await,
        format!("{} {} event_default", name(4), name(5))
    );
    assert_eq!(count(&rig).await, 0);
    rig.supervisor.halt().await;
}

#[actix::test]
async fn a_day_that_is_half_expired_keeps_its_events_until_it_is_dropped() {
    let server = Postgres::start().await;
    let rig = Rig::start(&postgres(server.port), |_| Vec::new()).await;
    let noon = |day| {
        let day = chrono::NaiveDate::from_ymd_opt(2030, 1, day).unwrap();
        day.and_hms_opt(12, 0, 0).unwrap().and_utc()
    };
    let maintained = async |now| {
        maintain(&rig.system(), now, 2 * DAY).await.unwrap();
        let days = "SELECT string_agg(at::text, ' ' ORDER BY at) FROM event";
        server.query(days).await
    };
    maintained(noon(2)).await;
    // The default partition takes the first.
    server
        .query(
            "INSERT INTO event (id, type, subject, partition_key, data, at) \
             SELECT gen_random_uuid(), 'test.counted.v1', 'x', 'x', '{}', at::timestamp \
             FROM (VALUES ('2030-01-01 06:00'), ('2030-01-02 06:00'), ('2030-01-02 18:00')) AS event (at)",
        )
        .await;
    let (morning, evening) = ("2030-01-02 06:00:00", "2030-01-02 18:00:00");
    let kept = format!("{morning} {evening}");
    assert_eq!(maintained(noon(4)).await, kept);
    let rows = "SELECT count(*) FROM event_20300102";
    assert_eq!(server.query(rows).await, "2", "none is deleted by itself");
    let last_of_day = noon(5) - chrono::TimeDelta::hours(12) - chrono::TimeDelta::seconds(1);
    assert_eq!(maintained(last_of_day).await, kept);
    assert_eq!(maintained(noon(5)).await, "");
    let gone = "SELECT to_regclass('event_20300102') IS NULL";
    assert_eq!(server.query(gone).await, "t");
    rig.supervisor.halt().await;
}

#[actix::test]
async fn what_holds_the_log_back_is_named() {
    let server = Postgres::start().await;
    let rig = Rig::start(&postgres(server.port), |db| {
        let handle = async |tx: &mut dotmac_db::TenantTx, event: Received<Counted>| {
            have_effect(tx, "held", event.number, event.event.position()).await
        };
        vec![Subscriber::new("held", handle).worker(db)]
    })
    .await;
    let (begun, end) = (
        tokio::sync::oneshot::channel(),
        tokio::sync::oneshot::channel(),
    );
    let ((say, begun), (go_on, end)) = (begun, end);
    let db = rig.system();
    let writer = tokio::spawn(async move {
        db.transaction("write for long", async move |tx: &mut Tx| {
            have_effect(tx, "writer", 0, Position::BEGINNING).await?;
            say.send(()).unwrap();
            end.await.unwrap();
            tx.emit(&Counted::new(0))?;
            Ok::<_, DbError>(())
        })
        .await
    });
    begun.await.unwrap();
    rig.emit(1..3).await;
    let status = async || {
        let read = async |c: &mut Connection| subscribers(c).await;
        rig.system()
            .read("status", read)
            .await
            .unwrap()
            .into_iter()
            .next()
    };
    let held_by = eventually("the cause of the lag", || async { status().await?.held_by }).await;
    let pid = server
        .query("SELECT pid || ' ' || backend_xid FROM pg_stat_activity WHERE state = 'idle in transaction' AND backend_xid IS NOT NULL")
        .await;
    let (pid, xid) = pid.split_once(' ').unwrap();
    let expected = format!("held back by transaction {xid} of pid {pid} since ");
    assert!(held_by.starts_with(&expected), "{held_by}");
    assert_eq!(status().await.unwrap().state, SubscriberState::HeldBack);
    assert!(rig.effects("held").await.is_empty());
    go_on.send(()).unwrap();
    writer.await.unwrap().unwrap();
    // That of the system, number 0, is none of a tenant.
    rig.until_effects("held", &[1, 2]).await;
    rig.supervisor.halt().await;
}
