//! What is recorded, and what is refused.

use std::time::Duration;

use diesel_async::RunQueryDsl;
use dotmac_db::{AcrossTx, Actor, DbError, TenantTx, Tx, on};
use dotmac_durable::audit::{
    AcrossActs as _, Acts as _, Audit as _, AuditError, Audited, Entry, Filter, MAX_ENTRIES,
    MAX_ENTRY, Outcome, Recorded, SYSTEM, SystemActs as _, audit_for, declare, find, list,
};

use crate::rig::{Rig, another_scope, change, on_both, scope};

#[actix::test]
async fn an_act_has_its_entry_and_one_that_is_rolled_back_has_none() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let undone = async |tx: &mut TenantTx| {
            let _undone = change(tx, 0).await?;
            Err::<Audited<()>, _>(DbError::from(diesel::result::Error::RollbackTransaction))
        };
        let db = rig.db.tenant(&scope());
        assert!(db.act("fail", undone).await.is_err());
        rig.act(&scope(), 1..6).await;
        rig.act(&another_scope(), 6..9).await;
        let by_system = async |tx: &mut Tx| {
            let entry = Entry::new("key_rotate", "test.key", "k1");
            Ok::<_, DbError>(tx.audit(entry)?.of(7))
        };
        assert_eq!(rig.system().act("rotate", by_system).await.unwrap(), 7);
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM changed").await,
            8
        );
        assert_eq!(rig.seal().await, 9);
        for (tenant, entries) in [
            (scope().tenant(), 5),
            (another_scope().tenant(), 3),
            (SYSTEM, 1),
        ] {
            let found = rig.verified(tenant).await;
            assert_eq!((found.last, found.broken), (entries, None));
            assert_eq!(found.signed, Some(entries));
        }
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn entries_are_listed_newest_first_and_a_tenant_sees_its_own_alone() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..4).await;
        // SQLite's moments are of milliseconds: the next ones are of a later one.
        tokio::time::sleep(Duration::from_millis(5)).await;
        rig.act(&scope(), 4..6).await;
        rig.act(&another_scope(), 6..7).await;
        let denied = async |tx: &mut TenantTx| {
            let entry = Entry::new("authz_fail", "test.number", "3");
            let entry = entry.outcome(Outcome::Denied, "not the owner");
            Ok::<_, DbError>(tx.audit(entry)?.of(()))
        };
        let db = rig.db.tenant(&scope());
        db.act("deny", denied).await.unwrap();
        rig.seal().await;

        let all = async |filter: Filter, before: i64| {
            let read = async move |tx: &mut TenantTx| list(tx, &filter, before, 4, None).await;
            db.read("list", read).await.unwrap()
        };
        let numbers = |found: &[dotmac_durable::audit::LinkedEntry]| {
            found.iter().map(|it| it.number).collect::<Vec<_>>()
        };
        let page = all(Filter::default(), i64::MAX).await;
        assert_eq!(numbers(&page), [6, 5, 4, 3]);
        assert_eq!(numbers(&all(Filter::default(), 3).await), [2, 1]);
        let newest = &page[0].entry;
        assert_eq!(newest.actor, "system:test");
        assert_eq!(newest.outcome, "denied");
        assert_eq!(newest.reason.as_deref(), Some("not the owner"));
        assert_eq!(page[1].entry.details.0["text"], "Buy milk");
        let text = |text: &str| Some(text.to_owned());
        let moment = page[3].entry.at;
        for (filter, expected) in [
            (
                Filter {
                    actor: text("system:test"),
                    ..Filter::default()
                },
                vec![6, 5, 4, 3],
            ),
            (
                Filter {
                    actor: text("user:1"),
                    ..Filter::default()
                },
                vec![],
            ),
            (
                Filter {
                    action: text("authz_fail"),
                    ..Filter::default()
                },
                vec![6],
            ),
            (
                Filter {
                    resource_id: text("3"),
                    ..Filter::default()
                },
                vec![6, 3],
            ),
            (
                Filter {
                    resource_type: text("test.number"),
                    resource_id: text("1"),
                    ..Filter::default()
                },
                vec![1],
            ),
            (
                Filter {
                    outcome: Some(Outcome::Failure),
                    ..Filter::default()
                },
                vec![],
            ),
            (
                Filter {
                    from: Some(moment),
                    ..Filter::default()
                },
                vec![6, 5, 4, 3],
            ),
            (
                Filter {
                    to: Some(moment),
                    ..Filter::default()
                },
                vec![3, 2, 1],
            ),
        ] {
            assert_eq!(
                numbers(&all(filter.clone(), i64::MAX).await),
                expected,
                "{filter:?}"
            );
        }

        // An id that is longer than what indexes take, and one that begins in the same way.
        let long = "ß".repeat(4000);
        for id in [long.clone(), format!("{long}!")] {
            let act = async move |tx: &mut TenantTx| {
                let entry = Entry::new("number_add", "test.number", id);
                Ok::<_, DbError>(tx.audit(entry)?.of(()))
            };
            db.act("add", act).await.unwrap();
        }
        rig.seal().await;
        let of_long = Filter {
            resource_id: text(&long),
            ..Filter::default()
        };
        assert_eq!(numbers(&all(of_long, i64::MAX).await), [7]);
        assert_eq!(rig.verified(scope().tenant()).await.broken, None);

        let id = newest.id;
        let one = async move |tx: &mut TenantTx| find(tx, id, None).await;
        assert_eq!(db.read("find", one).await.unwrap().as_ref(), Some(&page[0]));
        let other = rig.db.tenant(&another_scope());
        assert_eq!(other.read("find", one).await.unwrap(), None);
        rig.supervisor.halt().await;
    })
    .await;
}

/// The work goes on as if nothing were; its transaction is rolled back all the same.
#[actix::test]
async fn an_entry_that_is_refused_rolls_its_act_back() {
    fn entry() -> Entry {
        Entry::new("number_add", "test.number", "1")
    }
    fn too_large(tx: &mut Tx) -> Result<Recorded, AuditError> {
        // The id has one byte, the name of the detail four.
        let fits = entry().detail("text", "x".repeat(MAX_ENTRY - 5));
        let _first = tx.audit(fits)?;
        tx.audit(entry().detail("text", "x".repeat(MAX_ENTRY - 4)))
    }
    fn nul(tx: &mut Tx) -> Result<Recorded, AuditError> {
        tx.audit(entry().outcome(Outcome::Denied, "a\0b"))
    }
    fn name(tx: &mut Tx) -> Result<Recorded, AuditError> {
        tx.audit(entry().detail("No name", ""))
    }
    fn too_many(tx: &mut Tx) -> Result<Recorded, AuditError> {
        for _ in 0..MAX_ENTRIES {
            let _one = tx.audit(entry())?;
        }
        tx.audit(entry())
    }
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        type Refused = fn(&mut Tx) -> Result<Recorded, AuditError>;
        let cases: [(Refused, &str); 4] = [
            (too_large, "has 32769 bytes; 32768 are allowed"),
            (nul, "has the character NUL"),
            (name, "`No name` in an audit entry `number_add`"),
            (too_many, "at most 100 audit entries"),
        ];
        for (record, expected) in cases {
            let ignored = async move |tx: &mut TenantTx| {
                let number = "INSERT INTO changed VALUES (1)";
                on!(tx, |c| diesel::sql_query(number).execute(c).await)?;
                let error = record(tx).unwrap_err().to_string();
                assert!(error.contains(expected), "{error}");
                Ok::<_, DbError>(())
            };
            let db = rig.db.tenant(&scope());
            let error = db.transaction("act", ignored).await.unwrap_err();
            assert!(matches!(error, DbError::InvalidData(_)), "{error:?}");
        }
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM changed").await,
            0
        );
        let unscoped = async |tx: &mut Tx| {
            let error = tx.audit(entry()).unwrap_err();
            assert!(matches!(error, AuditError::NoActor { .. }), "{error}");
            Ok::<_, DbError>(())
        };
        assert!(rig.root.transaction("act", unscoped).await.is_err());
        assert_eq!(rig.seal().await, 0);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn a_module_records_the_acts_that_it_declares_and_no_others() {
    declare("declaring", ["number_add"]);
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let db = rig.root.for_module("declaring", dotmac_db::Share::HALF);
        let db = db.tenant(&scope());
        let record = |action| {
            let act = async move |tx: &mut TenantTx| {
                let entry = Entry::new(action, "test.number", "1");
                Ok::<_, DbError>(tx.audit(entry)?.of(()))
            };
            db.act("act", act)
        };
        record("number_add").await.unwrap();
        let error = record("number_delete").await.unwrap_err();
        let error = format!("{error:?}");
        assert!(
            error.contains("number_delete") && error.contains("declaring"),
            "{error}"
        );
        assert_eq!(rig.seal().await, 1);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn an_entry_is_never_changed_by_a_statement_alone() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        rig.act(&scope(), 1..2).await;
        rig.seal().await;
        for sql in [
            "UPDATE audit_entry SET actor = 'user:another'",
            "UPDATE audit_link SET number = 2",
            "UPDATE audit_checkpoint SET number = 2",
        ] {
            let change =
                async move |tx: &mut Tx| on!(tx, |c| diesel::sql_query(sql).execute(c).await);
            let refused = rig
                .system()
                .transaction("change", change)
                .await
                .unwrap_err();
            let refused = format!("{refused:?}");
            assert!(refused.contains("are never changed"), "{sql}: {refused}");
        }
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn the_system_records_for_tenants_and_on_behalf_of_callers() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let (one, other) = (scope(), another_scope());
        let caller = Actor::Principal {
            kind: "user",
            id: uuid::Uuid::from_u128(7),
        };
        // One after the other in the scopes of two tenants; what was recorded first is written in that of the system.
        let (first, second) = (one.clone(), other.clone());
        let across = async move |mut tx: AcrossTx<'_>| {
            let of_one = tx.tenant(&first).await?;
            of_one
                .audit(Entry::new("tenant_act", "test.number", "1"))?
                .of(());
            let of_other = tx.tenant(&second).await?;
            let recorded = of_other.audit(Entry::new("tenant_act", "test.number", "2"))?;
            Ok::<_, DbError>(recorded.of(()))
        };
        rig.system().act_across("across", across).await.unwrap();

        #[expect(
            clippy::disallowed_methods,
            reason = "it stands for a module that checks credentials"
        )]
        let signed_in = async move |tx: &mut Tx| {
            let before = audit_for(
                tx,
                scope().tenant(),
                Entry::new("login_try", "test.user", "7"),
            );
            before?.of(());
            tx.authenticated(caller);
            let entry = Entry::new("login", "test.user", "7");
            Ok::<_, DbError>(audit_for(tx, scope().tenant(), entry)?.of(()))
        };
        rig.system().act("sign in", signed_in).await.unwrap();
        let asked = async move |tx: &mut Tx| {
            let entry = Entry::new("asked", "test.user", "7");
            Ok::<_, DbError>(audit_for(tx, another_scope().tenant(), entry)?.of(()))
        };
        let by_one = rig.system().asked_by(&one);
        by_one.act("ask", asked).await.unwrap();

        rig.seal().await;
        let listed = async |scope: &dotmac_db::TenantScope| {
            let read =
                async |tx: &mut TenantTx| list(tx, &Filter::default(), i64::MAX, 10, None).await;
            let found = rig.db.tenant(scope).read("list", read).await.unwrap();
            let acts = found
                .into_iter()
                .map(|it| (it.entry.action, it.entry.actor));
            acts.collect::<Vec<_>>()
        };
        let pair = |action: &str, actor: &str| (action.to_owned(), actor.to_owned());
        let user = "user:00000000-0000-0000-0000-000000000007";
        assert_eq!(
            listed(&one).await,
            [
                pair("login", user),
                pair("login_try", "system:test"),
                pair("tenant_act", "system:test")
            ]
        );
        assert_eq!(
            listed(&other).await,
            [
                pair("asked", "system:test"),
                pair("tenant_act", "system:test")
            ]
        );

        // A tenant's transaction records for no other tenant, and has no other actor than its scope's.
        let foreign = async |tx: &mut TenantTx| {
            let entry = Entry::new("foreign", "test.number", "3");
            Ok::<_, DbError>(audit_for(tx, another_scope().tenant(), entry)?.of(()))
        };
        let refused = rig.db.tenant(&one).act("foreign", foreign).await;
        let refused = format!("{:?}", refused.unwrap_err());
        assert!(refused.contains("OtherTenant"), "{refused}");
        rig.supervisor.halt().await;
    })
    .await;
}
