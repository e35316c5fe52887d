//! Failures that a transaction shows at its end, and bounds of a transaction that several events reach together.

use std::{collections::HashMap, time::Duration};

use diesel_async::RunQueryDsl;
use dotmac_db::{Target, TenantTx, Tx, on};
use dotmac_durable::{
    audit::{Audit, Entry},
    events::{Emit, Event, HandlerError, Received, Retries, RewindTo, Subscriber, rewind},
    jobs::{Enqueue, Job},
};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Counted, Rig, have_effect, on_both, postgres},
    support::Postgres,
};

const NAME: &str = "fail";

/// A job and an event of some size.
#[derive(Clone, Serialize, Deserialize)]
struct Copied {
    text: String,
}

impl Job for Copied {
    const KIND: &'static str = "test.copy";
    type Output = ();
}

impl Event for Copied {
    const TYPE: &'static str = "test.copied.v1";

    fn subject(&self) -> String {
        "copies".to_owned()
    }
}

/// What the handler does wrong without noticing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Deferred,
    Emit,
    Enqueue,
    Audit,
    /// The transaction is lost with it on PostgreSQL, and not on SQLite.
    Query,
}

/// Takes away what the subscriber of the round before has left, which has ended: a running one would write it again.
async fn clear(rig: &Rig) {
    for statement in [
        "DELETE FROM effect",
        "DELETE FROM event_subscriber",
        "DELETE FROM event_held",
        "DELETE FROM event",
    ] {
        rig.run(statement).await;
    }
}

impl Fault {
    async fn commit(self, tx: &mut TenantTx) -> Result<(), HandlerError> {
        let copied = || Copied {
            text: "x".repeat(70_000),
        };
        match self {
            Self::Deferred => {
                let insert = diesel::sql_query("INSERT INTO child VALUES (1)");
                on!(tx, |c| insert.execute(c).await)?;
            }
            Self::Emit => drop(tx.emit(&copied())),
            Self::Enqueue => drop(tx.enqueue(&copied()).await),
            Self::Audit => {
                let entry = Entry::new("note_add", "test.note", "x".repeat(70_000));
                drop(tx.audit(entry));
            }
            Self::Query => {
                let query = diesel::sql_query("SELECT nothing FROM nowhere");
                drop(on!(tx, |c| query.execute(c).await));
            }
        }
        Ok(())
    }

    /// The handler commits it at number 4, whose lane is that of 1 and 7.
    async fn parks(self, target: &Target) {
        let rig = Rig::start(target, |_| Vec::new()).await;
        rig.run("CREATE TABLE IF NOT EXISTS parent (id INTEGER PRIMARY KEY)")
            .await;
        rig.run("CREATE TABLE IF NOT EXISTS child (id INTEGER REFERENCES parent (id) DEFERRABLE INITIALLY DEFERRED)")
            .await;
        clear(&rig).await;
        rig.emit(0..9).await;
        rig.supervisor.halt().await;
        let rig = Rig::start(target, |db| {
            let handle = async move |tx: &mut TenantTx, event: Received<Counted>| {
                have_effect(tx, NAME, event.number, event.event.position()).await?;
                if event.number == 4 {
                    self.commit(tx).await?;
                }
                Ok::<_, HandlerError>(())
            };
            let quick = Retries {
                most: 3,
                first: Duration::from_millis(1),
                longest: Duration::from_millis(5),
            };
            vec![Subscriber::new(NAME, handle).retries(quick).worker(db)]
        })
        .await;
        rig.until_effects(NAME, &[0, 1, 2, 3, 5, 6, 8]).await;
        rig.until_reason(NAME, "events_parked").await;
        rig.emit(9..10).await;
        rig.until_effects(NAME, &[0, 1, 2, 3, 5, 6, 8, 9]).await;
        let of_event = "SELECT count(*) AS number FROM event_held WHERE parked AND failures = 3";
        assert_eq!(rig.number(of_event).await, 1, "{self:?}");
        rig.supervisor.halt().await;
    }
}

#[actix::test]
async fn an_event_whose_failure_shows_at_the_commit_is_parked_and_the_rest_goes_on() {
    on_both(async |target| {
        let faults = [Fault::Deferred, Fault::Emit, Fault::Enqueue, Fault::Audit];
        for fault in faults {
            fault.parks(&target).await;
        }
        if matches!(target, Target::Postgres(_)) {
            Fault::Query.parks(&target).await;
        }
    })
    .await;
}

/// Two of each for an event, and ten jobs: many more than a transaction may have, for those that are handled in one.
#[actix::test]
async fn events_that_reach_a_bound_of_a_transaction_together_are_handled_in_several() {
    on_both(async |target| {
        for what in ["event", "job", "audit_entry"] {
            let rig = Rig::start(&target, |_| Vec::new()).await;
            clear(&rig).await;
            rig.emit(0..130).await;
            rig.supervisor.halt().await;
            let rig = Rig::start(&target, |db| {
                let handle = async move |tx: &mut TenantTx, event: Received<Counted>| {
                    let copied = Copied {
                        text: event.number.to_string(),
                    };
                    match what {
                        "event" => drop(tx.emit(&copied)?),
                        "job" => {
                            for _ in 0..10 {
                                tx.enqueue(&copied).await?;
                            }
                        }
                        _ => drop(tx.audit(Entry::new("note_add", "test.note", copied.text))?),
                    }
                    have_effect(tx, what, event.number, event.event.position()).await
                };
                // Any failure would park its event.
                let once = Retries {
                    most: 1,
                    ..Retries::default()
                };
                vec![Subscriber::new(what, handle).retries(once).worker(db)]
            })
            .await;
            rig.until_effects(what, &Vec::from_iter(0..130)).await;
            assert_eq!(
                rig.number("SELECT count(*) AS number FROM event_held")
                    .await,
                0
            );
            let made = HashMap::from([
                (
                    "event",
                    "SELECT count(*) AS number FROM event WHERE type = 'test.copied.v1'",
                ),
                ("job", "SELECT count(*) AS number FROM job"),
                ("audit_entry", "SELECT count(*) AS number FROM audit_entry"),
            ]);
            let each = if what == "job" { 10 } else { 1 };
            assert_eq!(rig.number(made[what]).await, 130 * each);
            rig.supervisor.halt().await;
        }
    })
    .await;
}

/// Number 1 is parked, and its lane, which 4 is of, is full of others that are.
#[actix::test]
async fn a_subscriber_with_too_many_held_events_waits_and_says_so() {
    on_both(async |target| {
        let rig = Rig::start(&target, |db| {
            let handle = async move |tx: &mut TenantTx, event: Received<Counted>| {
                if event.number == 1 {
                    return Err(HandlerError::from("number 1 is not liked"));
                }
                have_effect(tx, NAME, event.number, event.event.position()).await?;
                Ok(())
            };
            let once = Retries {
                most: 1,
                ..Retries::default()
            };
            vec![Subscriber::new(NAME, handle).retries(once).worker(db)]
        })
        .await;
        rig.emit(0..3).await;
        rig.until_effects(NAME, &[0, 2]).await;
        rig.until_reason(NAME, "events_parked").await;
        rig.run(
            "WITH RECURSIVE series (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM series WHERE n < 9999) \
             INSERT INTO event_held (subscriber, xid, position, lane, failures, parked) \
             SELECT subscriber, xid, position - n, lane, 0, parked FROM event_held CROSS JOIN series",
        )
        .await;
        rig.emit(4..6).await;
        rig.until_reason(NAME, "too_many_held").await;
        assert_eq!(rig.effects(NAME).await.len(), 2, "number 5 comes after 4");
        rig.run("DELETE FROM event_held WHERE failures = 0").await;
        rig.until_effects(NAME, &[0, 2, 5]).await;
        rig.until_reason(NAME, "events_parked").await;
        rig.supervisor.halt().await;
    })
    .await;
}

/// As after a database was restored into a cluster that has run fewer transactions.
#[actix::test]
async fn a_subscriber_ahead_of_the_database_waits_until_it_is_rewound() {
    let server = Postgres::start().await;
    let rig = Rig::start(&postgres(server.port), |db| {
        let handle = async move |tx: &mut TenantTx, event: Received<Counted>| {
            have_effect(tx, NAME, event.number, event.event.position()).await
        };
        vec![Subscriber::new(NAME, handle).worker(db)]
    })
    .await;
    rig.emit(0..2).await;
    rig.until_effects(NAME, &[0, 1]).await;
    rig.run("UPDATE event_subscriber SET xid = xid + 1000000")
        .await;
    rig.emit(2..3).await;
    rig.until_reason(NAME, "position_ahead").await;
    assert_eq!(rig.effects(NAME).await.len(), 2);
    rig.run("DELETE FROM effect").await;
    let rewind = async |tx: &mut Tx| rewind(tx, NAME, RewindTo::Beginning).await;
    rig.system().transaction("rewind", rewind).await.unwrap();
    rig.until_effects(NAME, &[0, 1, 2]).await;
    rig.supervisor.halt().await;
}
