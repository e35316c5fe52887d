//! Personal fields, and how they are erased.

use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, TenantTx, on, sealing::Sealer, types::Id};
use dotmac_durable::audit::{
    Acts as _, Audit as _, AuditError, Entry, Filter, LinkedEntry, RETENTION, SubjectId, erase,
    list, retention,
};

use crate::rig::{Rig, another_scope, both_masters, master, on_both, other_master, scope};

fn person(number: u128) -> SubjectId {
    Id::from_uuid(uuid::Uuid::from_u128(number))
}

async fn sign_in(
    rig: &Rig,
    scope: &dotmac_db::TenantScope,
    subject: SubjectId,
    sealer: Sealer,
) -> Result<(), DbError> {
    let act = async move |tx: &mut TenantTx| {
        let entry = Entry::new("authn_login_success", "test.user", subject.to_string());
        let entry = entry.personal(&sealer, subject, [("ip", "192.0.2.7"), ("name", "Ada")]);
        Ok::<_, DbError>(tx.audit(entry)?.of(()))
    };
    rig.db.tenant(scope).act("sign in", act).await
}

async fn all(rig: &Rig, sealer: Sealer) -> Vec<LinkedEntry> {
    let read = async move |tx: &mut TenantTx| {
        list(tx, &Filter::default(), i64::MAX, 100, Some(&sealer)).await
    };
    rig.db.tenant(&scope()).read("list", read).await.unwrap()
}

/// Everything that the tables of the log have in them.
async fn content(rig: &Rig) -> String {
    #[derive(diesel::QueryableByName, Debug)]
    struct Row {
        #[diesel(sql_type = diesel::sql_types::Text)]
        details: String,
        #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Binary>)]
        personal: Option<Vec<u8>>,
    }
    let read = async |c: &mut Connection| {
        let sql = "SELECT CAST(details AS TEXT) AS details, personal FROM audit_entry";
        let rows: Vec<Row> = on!(c, |c| diesel::sql_query(sql).load(c).await)?;
        let text =
            |row: Row| row.details + &String::from_utf8_lossy(&row.personal.unwrap_or_default());
        Ok::<_, DbError>(rows.into_iter().map(text).collect())
    };
    rig.system().read("read", read).await.unwrap()
}

#[actix::test]
async fn what_is_erased_cannot_be_read_and_the_chain_stays_right() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        for (scope, subject) in [
            (scope(), 1),
            (scope(), 2),
            (scope(), 1),
            (another_scope(), 1),
        ] {
            sign_in(&rig, &scope, person(subject), master())
                .await
                .unwrap();
        }
        rig.seal().await;
        let content = content(&rig).await;
        assert!(
            !content.contains("192.0.2.7") && !content.contains("Ada"),
            "{content}"
        );
        let names = |found: &[LinkedEntry]| {
            let name = |it: &LinkedEntry| it.personal.as_ref().map(|it| it["name"].clone());
            found.iter().map(name).collect::<Vec<_>>()
        };
        let ada = || Some("Ada".to_owned());
        assert_eq!(names(&all(&rig, master()).await), [ada(), ada(), ada()]);
        assert_eq!(names(&all(&rig, other_master()).await), [None, None, None]);
        let before = rig.verified(scope().tenant()).await;

        let db = rig.db.tenant(&scope());
        let forget = async |tx: &mut TenantTx| erase(tx, person(1)).await;
        assert!(db.act("erase", forget).await.unwrap());
        assert!(!db.act("erase again", forget).await.unwrap());
        rig.seal().await;
        let found = all(&rig, master()).await;
        assert_eq!(names(&found), [None, None, None, ada(), None]);
        assert_eq!(found[0].entry.action, "sensitive_delete");
        assert_eq!(found[2].entry.subject, Some(person(1)));
        let after = rig.verified(scope().tenant()).await;
        assert_eq!((before.last, after.last, after.broken), (3, 5, None));
        assert_eq!(
            rig.number("SELECT count(*) AS number FROM audit_subject")
                .await,
            2
        );

        // Who comes back has a new key.
        sign_in(&rig, &scope(), person(1), master()).await.unwrap();
        rig.seal().await;
        let found = all(&rig, master()).await;
        assert_eq!(names(&found[..4]), [ada(), None, None, None]);
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn without_its_key_a_personal_field_is_refused_and_so_is_the_act() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let keyless = Sealer::new(dotmac_db::sealing::Keyring::new("DOTMAC_APP_MASTER_KEY"));
        let error = sign_in(&rig, &scope(), person(1), keyless)
            .await
            .unwrap_err();
        let error = format!("{error:?}");
        assert!(error.contains("DOTMAC_APP_MASTER_KEY"), "{error}");
        sign_in(&rig, &scope(), person(1), master()).await.unwrap();
        assert!(
            sign_in(&rig, &scope(), person(1), other_master())
                .await
                .is_err()
        );
        assert_eq!(rig.seal().await, 1);
        let personal = |name| {
            async move |tx: &mut TenantTx| {
                let entry = Entry::new("authn_login_success", "test.user", "1");
                let entry = entry.personal(&master(), person(1), [(name, "x")]);
                let refused = tx.audit(entry).unwrap_err();
                assert!(matches!(refused, AuditError::Name { .. }), "{refused}");
                Ok::<_, DbError>(())
            }
        };
        let refused = rig
            .db
            .tenant(&scope())
            .transaction("act", personal("No name"))
            .await;
        assert!(refused.is_err());
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn keys_are_resealed_after_a_change_of_the_master_key() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        sign_in(&rig, &scope(), person(1), master()).await.unwrap();
        rig.seal().await;
        rig.supervisor.halt().await;

        let rig = Rig::start(&target, |db| {
            vec![retention("retention", db, Some(both_masters()), RETENTION)]
        })
        .await;
        crate::support::eventually("the key to be resealed", || async {
            let found = all(&rig, other_master()).await;
            found[0].personal.is_some().then_some(())
        })
        .await;
        sign_in(&rig, &scope(), person(1), other_master())
            .await
            .unwrap();
        // The signing key too: what it signed can be checked without the former master key.
        let keys = rig.keys(Some(&other_master())).await;
        assert_eq!(keys.public().len(), 1);
        rig.supervisor.halt().await;
    })
    .await;
}
