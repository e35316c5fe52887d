//! What follows events.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use dotmac_db::{
    Connection, DbError, ModuleDb, Target, TenantId, TenantScope, TenantTx, Tx, types::Moment,
};
use dotmac_durable::events::{
    Emit, Event, HandlerError, Received, Retries, RewindError, RewindTo, Start, StoredEvent,
    Subscriber, SubscriberState, SubscriberStatus, retry_parked, rewind, subscribers,
};
use dotmac_supervision::WorkerSpec;

use crate::rig::{Counted, Rig, have_effect, on_both, patiently, rows_seen};

const NAME: &str = "count";

/// Writes down each event.
fn counting(db: &ModuleDb) -> Vec<WorkerSpec> {
    let count = async |tx: &mut TenantTx, event: Received<Counted>| {
        have_effect(tx, NAME, event.number, event.event.position()).await
    };
    vec![Subscriber::new(NAME, count).worker(db)]
}

async fn status(rig: &Rig) -> SubscriberStatus {
    let mut all = patiently(async || {
        let read = async |c: &mut Connection| subscribers(c).await;
        rig.system().read("status", read).await
    })
    .await;
    assert_eq!(all.len(), 1);
    all.remove(0)
}

async fn send(rig: &Rig, to: RewindTo) {
    patiently(async || {
        let rewind = async move |tx: &mut Tx| match rewind(tx, NAME, to).await {
            Err(RewindError::Db(error)) => Err(error),
            done => Ok(done.unwrap()),
        };
        rig.system().transaction("rewind", rewind).await
    })
    .await;
}

#[actix::test]
async fn each_event_has_its_effect_once_with_two_instances_at_work() {
    on_both(async |target| {
        let one = Rig::start(&target, counting).await;
        let other = Rig::start(&target, counting).await;
        one.emit(0..20).await;
        other.emit(20..40).await;
        one.until_effects(NAME, &Vec::from_iter(0..40)).await;
        let status = status(&one).await;
        assert_eq!((status.lag_events, status.held), (0, 0), "{status:?}");
        one.supervisor.halt().await;
        other.emit(40..50).await;
        other.until_effects(NAME, &Vec::from_iter(0..50)).await;
        other.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_subscriber_may_begin_with_what_happens_from_now_on_and_can_be_sent_back() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.emit(0..3).await;
        rig.supervisor.halt().await;
        let rig = Rig::start(&target, |db| {
            let count = async |tx: &mut Tx, event: StoredEvent| {
                let number = event.data::<Counted>()?.number;
                have_effect(tx, NAME, number, event.position()).await?;
                Ok::<_, HandlerError>(())
            };
            let it = Subscriber::across_tenants(NAME, &[Counted::TYPE], count);
            vec![it.start(Start::Now).worker(db)]
        })
        .await;
        crate::support::eventually("the cursor", || async {
            let read = async |c: &mut Connection| subscribers(c).await;
            let all = rig.system().read("status", read).await.unwrap();
            (!all.is_empty()).then_some(())
        })
        .await;
        rig.emit(3..5).await;
        rig.until_effects(NAME, &[3, 4]).await;
        send(&rig, RewindTo::Beginning).await;
        rig.until_effects(NAME, &[0, 1, 2, 3, 3, 4, 4]).await;
        rig.supervisor.halt().await;
    })
    .await;
}

/// Number 4 fails until it is mended, by an error and by a panic; 1 and 7 are of its lane.
async fn parks(target: Target, panics: bool) {
    let (is_mended, tries) = (Arc::<AtomicBool>::default(), Arc::<AtomicU32>::default());
    let (mended, counted) = (Arc::clone(&is_mended), Arc::clone(&tries));
    let rig = Rig::start(&target, move |db| {
        let count = async move |tx: &mut TenantTx, event: Received<Counted>| {
            have_effect(tx, NAME, event.number, event.event.position()).await?;
            if event.number == 4 && !mended.load(Relaxed) {
                counted.fetch_add(1, Relaxed);
                assert!(!panics, "number 4 panics");
                return Err(HandlerError::from("number 4 is not liked"));
            }
            Ok(())
        };
        let quick = Retries {
            most: 3,
            first: Duration::from_millis(1),
            longest: Duration::from_millis(5),
        };
        vec![Subscriber::new(NAME, count).retries(quick).worker(db)]
    })
    .await;
    rig.emit(0..9).await;
    rig.until_effects(NAME, &[0, 1, 2, 3, 5, 6, 8]).await;
    rig.until_reason(NAME, "events_parked").await;
    // Within a batch, and twice alone; more if the database was busy, since what is not written down does not count.
    assert!(tries.load(Relaxed) >= 3, "{tries:?}");
    crate::support::eventually("7 to be held", || async {
        let status = status(&rig).await;
        ((status.held, status.parked) == (2, 1)).then_some(())
    })
    .await;
    rig.emit(9..12).await;
    rig.until_effects(NAME, &[0, 1, 2, 3, 5, 6, 8, 9, 11]).await;

    let parked = status(&rig).await;
    assert_eq!(parked.state, SubscriberState::Parked);
    let failed = parked.failed.unwrap();
    assert!(failed.error.contains("number 4"), "{failed:?}");
    assert!(failed.sequence < parked.position, "{failed:?}");

    is_mended.store(true, Relaxed);
    if panics {
        let retry = async |tx: &mut Tx| Ok::<_, DbError>(retry_parked(tx, NAME).await.unwrap());
        let retried = rig.system().transaction("retry", retry).await.unwrap();
        assert_eq!(retried, 1);
    } else {
        rig.run("DELETE FROM effect").await;
        send(&rig, RewindTo::Beginning).await;
    }
    rig.until_effects(NAME, &Vec::from_iter(0..12)).await;
    crate::support::eventually("nothing to be held", || async {
        let status = status(&rig).await;
        (status.held == 0 && status.failed.is_none()).then_some(())
    })
    .await;
    rig.supervisor.halt().await;
}

#[actix::test]
async fn an_event_that_fails_is_parked_with_its_lane_and_the_rest_goes_on() {
    on_both(async |target| parks(target, false).await).await;
}

#[actix::test]
async fn an_event_whose_handler_panics_is_parked_as_well() {
    on_both(async |target| parks(target, true).await).await;
}

/// Number 1 fails once: 4 and 7 wait for it, so their effects come after its own.
#[actix::test]
async fn a_lane_stays_in_order_while_an_event_is_tried_again() {
    on_both(async |target| {
        let may_go_on = Arc::<AtomicBool>::default();
        let (order, goes) = (
            Arc::<std::sync::Mutex<Vec<i64>>>::default(),
            Arc::clone(&may_go_on),
        );
        let noted = Arc::clone(&order);
        let rig = Rig::start(&target, move |db| {
            let count = async move |tx: &mut TenantTx, event: Received<Counted>| {
                if event.number == 1 && !goes.load(Relaxed) {
                    return Err(HandlerError::from("not yet"));
                }
                have_effect(tx, NAME, event.number, event.event.position()).await?;
                if event.number % 3 == 1 {
                    noted.lock().unwrap().push(event.number);
                }
                Ok(())
            };
            let often = Retries {
                most: 10_000,
                first: Duration::from_millis(20),
                longest: Duration::from_millis(20),
            };
            vec![Subscriber::new(NAME, count).retries(often).worker(db)]
        })
        .await;
        rig.emit(0..9).await;
        rig.until_effects(NAME, &[0, 2, 3, 5, 6, 8]).await;
        may_go_on.store(true, Relaxed);
        rig.until_effects(NAME, &Vec::from_iter(0..9)).await;
        assert_eq!(*order.lock().unwrap(), [1, 4, 7]);
        crate::support::eventually("nothing to be held", || async {
            (status(&rig).await.held == 0).then_some(())
        })
        .await;
        rig.supervisor.halt().await;
    })
    .await;
}

/// What the database did not do is no fault of an event.
#[actix::test]
async fn a_database_that_is_away_parks_nothing() {
    let mut server = crate::support::Postgres::start().await;
    let target = crate::rig::postgres(server.port);
    let rig = Rig::start(&target, |db| {
        let count = async |tx: &mut TenantTx, event: Received<Counted>| {
            have_effect(tx, NAME, event.number, event.event.position()).await
        };
        let once = Retries {
            most: 1,
            ..Retries::default()
        };
        vec![Subscriber::new(NAME, count).retries(once).worker(db)]
    })
    .await;
    rig.emit(0..5).await;
    for _ in 0..2 {
        server.kill().await;
        rig.until(|board| !board.readiness.serves()).await;
        server.restart().await;
        rig.until(|board| board.readiness.serves()).await;
    }
    let emit = async || {
        let emit = async |tx: &mut TenantTx| {
            tx.emit(&Counted::new(5))?;
            Ok::<_, DbError>(())
        };
        rig.db
            .tenant(&crate::rig::scope())
            .transaction("emit", emit)
            .await
            .ok()
    };
    crate::support::eventually("a connection", emit).await;
    rig.until_effects(NAME, &Vec::from_iter(0..6)).await;
    let status = status(&rig).await;
    assert_eq!((status.held, status.parked), (0, 0), "{status:?}");
    rig.supervisor.halt().await;
}

/// Each event is handled on the rows of its tenant, within one transaction of the system.
#[actix::test]
async fn a_handler_sees_the_rows_of_the_tenant_of_its_event() {
    on_both(async |target| {
        let seen = Arc::<std::sync::Mutex<Vec<_>>>::default();
        let noted = Arc::clone(&seen);
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let tenants = [TenantId::new(), TenantId::new()];
        for tenant in [tenants[0], tenants[1], tenants[0]] {
            let emit = async |tx: &mut TenantTx| tx.emit(&Counted::new(0)).map_err(DbError::from);
            let db = rig.db.tenant(&TenantScope::system(tenant, "test"));
            db.transaction("emit", emit).await.unwrap();
        }
        rig.supervisor.halt().await;
        let rig = Rig::start(&target, |db| {
            let see = async move |tx: &mut TenantTx, event: Received<Counted>| {
                let rows = rows_seen(tx).await?;
                have_effect(tx, NAME, 0, event.event.position()).await?;
                let actor = tx.actor().map(|actor| actor.to_string());
                noted.lock().unwrap().push((tx.tenant(), actor, rows));
                Ok::<_, DbError>(())
            };
            vec![Subscriber::new(NAME, see).worker(db)]
        })
        .await;
        rig.until_effects(NAME, &[0, 0, 0]).await;
        let is_postgres = matches!(target, Target::Postgres(_));
        let of = |tenant, rows| {
            let seen = if is_postgres { rows } else { 3 };
            (tenant, Some(format!("system:{NAME}")), seen)
        };
        let expected = [of(tenants[0], 2), of(tenants[1], 1), of(tenants[0], 2)];
        assert_eq!(*seen.lock().unwrap(), expected);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn no_subscriber_is_sent_beyond_the_end_of_the_log() {
    on_both(async |target| {
        let rig = Rig::start(&target, counting).await;
        rig.emit(0..3).await;
        rig.until_effects(NAME, &[0, 1, 2]).await;
        let newest = status(&rig).await.position;
        let later = Moment::now() + Duration::from_secs(3600);
        let beyond = format!("{}f", &newest.to_string()[..31]).parse().unwrap();
        for to in [RewindTo::Time(later), RewindTo::Position(beyond)] {
            let rewind = async move |tx: &mut Tx| rewind(tx, NAME, to).await;
            let refused = rig.system().transaction("rewind", rewind).await;
            let named =
                matches!(&refused, Err(RewindError::Beyond { newest: named }) if *named == newest);
            assert!(named, "{to:?}: {refused:?}");
        }
        let unknown = async |tx: &mut Tx| retry_parked(tx, "unknown").await;
        let refused = rig.system().transaction("retry", unknown).await;
        assert!(
            matches!(refused, Err(RewindError::NoSubscriber)),
            "{refused:?}"
        );
        assert_eq!(status(&rig).await.position, newest);
        rig.supervisor.halt().await;
    })
    .await;
}
