//! What is emitted, and what is refused.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, TenantId, TenantScope, TenantTx, Tx, on};
use dotmac_durable::events::{
    CustomEvent, Emit, EmitError, Event, Filter, MAX_DATA, MAX_EVENTS, Page, Position, declare,
    emit_custom, emit_for, find, flush, read, read_all,
};
use serde_json::{Value, json};

use crate::rig::{Counted, Rig, effect, have_effect, on_both, patiently, scope};

async fn all(rig: &Rig) -> Page {
    filtered(rig, Filter::default(), 200).await
}

async fn filtered(rig: &Rig, filter: Filter, limit: u16) -> Page {
    patiently(async || {
        let filter = filter.clone();
        let read =
            async move |c: &mut Connection| read_all(c, &filter, Position::BEGINNING, limit).await;
        rig.system().read("read events", read).await
    })
    .await
}

#[actix::test]
async fn an_event_is_there_if_and_only_if_its_transaction_is() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let db = rig.db.tenant(&scope());
        let rolled_back = db.transaction("fail", async |tx: &mut TenantTx| {
            tx.emit(&Counted::new(1))?;
            Err::<(), _>(DbError::from(diesel::result::Error::RollbackTransaction))
        });
        assert!(rolled_back.await.is_err());
        assert!(all(&rig).await.events.is_empty());

        let committed = db.transaction("emit", async |tx: &mut TenantTx| {
            let first = tx.emit(&Counted::new(2))?;
            tx.emit(&Counted::new(3))?;
            Ok::<_, DbError>(first)
        });
        let id = committed.await.unwrap();
        rig.emit(4..5).await;
        let page = all(&rig).await;
        let numbers: Vec<_> = page.events.iter().map(|it| it.json()["number"].clone()).collect();
        assert_eq!(numbers, [json!(2), json!(3), json!(4)]);
        assert!(page.events.is_sorted_by_key(|it| it.position()));
        assert_eq!(page.next, page.events[2].position());

        let event = serde_json::to_value(page.events[0].clone().cloud_event()).unwrap();
        let expected = json!({
            "specversion": "1.0", "id": id.to_string(), "source": "/test", "type": "test.counted.v1",
            "subject": "numbers/2", "time": event["time"], "datacontenttype": "application/json",
            "data": { "number": 2, "text": "" }, "tenantid": scope().tenant().to_string(),
            "actor": "system:test", "sequence": page.events[0].position().to_string(),
        });
        assert_eq!(event, expected);
        rig.supervisor.halt().await;
    })
    .await;
}

/// The work goes on as if nothing were; its transaction is rolled back all the same.
#[actix::test]
async fn what_is_refused_rolls_back_whatever_the_work_makes_of_it() {
    #[derive(serde::Serialize)]
    struct Nowhere;
    impl Event for Nowhere {
        const TYPE: &'static str = "test.nowhere.v1";
        fn subject(&self) -> String {
            "a\0b".to_owned()
        }
    }
    fn too_large(tx: &mut Tx) -> Result<(), EmitError> {
        // {"number":1,"text":"…"} has 22 bytes around the text.
        let text = |length| "x".repeat(length);
        let mut event = Counted::new(1);
        event.text = text(MAX_DATA - 22);
        tx.emit(&event)?;
        event.text = text(MAX_DATA - 21);
        tx.emit(&event).map(drop)
    }
    fn too_many(tx: &mut Tx) -> Result<(), EmitError> {
        (0..=MAX_EVENTS).try_for_each(|_| tx.emit(&Counted::new(1)).map(drop))
    }
    fn no_subject(tx: &mut Tx) -> Result<(), EmitError> {
        tx.emit(&Nowhere).map(drop)
    }
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        type Refused = fn(&mut Tx) -> Result<(), EmitError>;
        let cases: [(Refused, &str); 3] = [
            (too_large, "has 65537 bytes; 65536 are allowed"),
            (too_many, "emits at most 100 events"),
            (no_subject, "the subject of an event `test.nowhere.v1`"),
        ];
        for (emit, expected) in cases {
            let db = rig.system();
            let ignored = db.transaction("emit", async move |tx: &mut Tx| {
                have_effect(tx, "emitting", 1, Position::BEGINNING).await?;
                let error = emit(tx).unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
                Ok::<_, DbError>(())
            });
            let error = ignored.await.unwrap_err();
            assert!(matches!(error, DbError::InvalidData(_)), "{error:?}");
        }
        let count =
            async |c: &mut Connection| on!(c, |c| effect::table.count().get_result::<i64>(c).await);
        assert_eq!(rig.system().read("count", count).await.unwrap(), 0);
        assert!(all(&rig).await.events.is_empty());
        rig.supervisor.halt().await;
    })
    .await;
}

/// A transaction may emit in hooks before its commit, also after the events so far are written.
#[actix::test]
async fn what_a_hook_emits_late_is_written_and_counted_as_well() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let emit = async |tx: &mut Tx| {
            tx.emit(&Counted::new(1))?;
            tx.before_commit("late", async |tx: &mut Tx| {
                (1..MAX_EVENTS).try_for_each(|_| tx.emit(&Counted::new(2)).map(drop))?;
                assert!(tx.emit(&Counted::new(3)).is_err());
                Ok(())
            });
            Ok::<_, DbError>(())
        };
        assert!(rig.system().transaction("emit", emit).await.is_err());
        let emit = async |tx: &mut Tx| {
            tx.emit(&Counted::new(1))?;
            tx.before_commit("late", async |tx: &mut Tx| {
                tx.emit(&Counted::new(2)).map(drop).map_err(DbError::from)
            });
            Ok::<_, DbError>(())
        };
        rig.system().transaction("emit", emit).await.unwrap();
        assert_eq!(all(&rig).await.events.len(), 2);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_tenant_reads_its_own_events_and_no_others() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.emit(1..3).await;
        let system = async |tx: &mut Tx| tx.emit(&Counted::new(3)).map_err(DbError::from);
        rig.system().transaction("emit", system).await.unwrap();
        let ids: Vec<_> = all(&rig).await.events.iter().map(|it| it.id).collect();
        assert_eq!(ids.len(), 3);
        let other = TenantScope::system(TenantId::new(), "test");
        for (scope, expected) in [(scope(), 2), (other, 0)] {
            let (ids, db) = (ids.clone(), rig.db.tenant(&scope));
            let seen = db.read("read events", async move |tx: &mut TenantTx| {
                let page = read(tx, &Filter::default(), Position::BEGINNING, 200).await?;
                let mut found = 0;
                for id in ids {
                    found += usize::from(find(tx, id).await?.is_some());
                }
                Ok::<_, DbError>((page.events.len(), found))
            });
            assert_eq!(seen.await.unwrap(), (expected, expected));
        }
        // By type, subject and page.
        let filtered = async |kinds: &'static [&'static str], subject: Option<&str>, limit| {
            let mut filter = Filter::kinds(kinds);
            filter.subject = subject.map(str::to_owned);
            let page = filtered(&rig, filter, limit).await;
            let numbers = page.events.iter().map(|it| it.json()["number"].clone());
            (Value::from_iter(numbers), page.next)
        };
        let last = all(&rig).await.next;
        assert_eq!(
            filtered(&["test.counted.v1"], None, 200).await,
            (json!([1, 2, 3]), last)
        );
        assert_eq!(
            filtered(&["test.other.v1"], None, 200).await,
            (json!([]), last)
        );
        assert_eq!(
            filtered(&[], Some("numbers/2"), 200).await,
            (json!([2]), last)
        );
        let (first, next) = filtered(&[], None, 1).await;
        assert!(first == json!([1]) && next < last);
        rig.supervisor.halt().await;
    })
    .await;
}

/// A transaction of the system has no tenant; what it does for several is said to each of them.
#[actix::test]
async fn the_system_emits_for_each_tenant_and_a_tenant_for_no_other() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let (own, other) = (scope().tenant(), TenantId::new());
        let emitted = rig.system().transaction("emit", async move |tx: &mut Tx| {
            emit_for(tx, own, &Counted::new(1))?;
            emit_for(tx, other, &Counted::new(2))?;
            Ok::<_, DbError>(())
        });
        emitted.await.unwrap();
        let refused =
            rig.db
                .tenant(&scope())
                .transaction("emit", async move |tx: &mut TenantTx| {
                    emit_for(tx, own, &Counted::new(3))?;
                    let refused = emit_for(tx, other, &Counted::new(4));
                    assert!(matches!(refused, Err(EmitError::OtherTenant { .. })));
                    Ok::<_, DbError>(())
                });
        assert!(refused.await.is_err());
        for (tenant, expected) in [(own, 1), (other, 2)] {
            let db = rig.db.tenant(&TenantScope::system(tenant, "test"));
            let seen = db.read("read events", async |tx: &mut TenantTx| {
                read(tx, &Filter::default(), Position::BEGINNING, 200).await
            });
            let seen = seen.await.unwrap().events;
            let numbers: Vec<_> = seen.iter().map(|it| it.json()["number"].clone()).collect();
            assert_eq!(numbers, [json!(expected)]);
        }
        rig.supervisor.halt().await;
    })
    .await;
}

/// A program's module lists what it emits; forgetting that is noticed by the first transaction that emits it.
#[actix::test]
async fn what_the_manifest_of_a_module_does_not_list_rolls_back_by_name() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        // What is declared holds for the process, and both databases are of one.
        let module: &str = format!("module {}", TenantId::new()).leak();
        declare(module, ["test.counted.v2"]);
        let emit =
            async |tx: &mut TenantTx| tx.emit(&Counted::new(1)).map(drop).map_err(DbError::from);
        let declared = rig.of_module(module);
        let refused = declared
            .tenant(&scope())
            .transaction("emit", emit)
            .await
            .unwrap_err();
        let said = dotmac_causes::chain(&refused);
        for part in [module, "`test.counted.v1`", ".emits::<"] {
            assert!(said.contains(part), "{said}");
        }
        assert!(all(&rig).await.events.is_empty());
        declare(module, ["test.counted.v1"]);
        declared
            .tenant(&scope())
            .transaction("emit", emit)
            .await
            .unwrap();
        assert_eq!(all(&rig).await.events.len(), 1);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn an_event_of_a_tenants_own_type_can_be_read_before_its_commit() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let custom = |kind: &str| CustomEvent {
            kind: kind.to_owned(),
            subject: "orders/7".to_owned(),
            data: json!({ "cents": 4200 }),
        };
        let event = custom("custom.order.paid.v1");
        let publish = async move |tx: &mut TenantTx| {
            let id = emit_custom(tx, event)?;
            flush(tx).await?;
            let early = find(tx, id).await?;
            tx.emit(&Counted::new(2))?;
            Ok::<_, DbError>(early)
        };
        let db = rig.db.tenant(&scope());
        let early = db.transaction("publish", publish).await.unwrap().unwrap();
        let page = all(&rig).await;
        assert_eq!(page.events.len(), 2);
        assert_eq!(page.events[0].position(), early.position());
        assert_eq!(page.events[0].json(), early.json());
        for kind in ["order.paid.v1", "custom.paid", ""] {
            let event = custom(kind);
            let publish = async move |tx: &mut TenantTx| {
                let refused = emit_custom(tx, event).unwrap_err();
                assert!(matches!(refused, EmitError::NotCustom { .. }));
                Ok::<_, DbError>(())
            };
            let refused = db.transaction("publish", publish).await;
            assert!(
                refused.is_err(),
                "{kind}: an ignored refusal commits nothing"
            );
        }
        rig.supervisor.halt().await;
    })
    .await;
}
