//! What goes with the commit: every text comes through, and what the database refuses takes all else with it.

use dotmac_db::{Connection, DbError, TenantTx};
use dotmac_durable::{
    audit::{self, Audit as _, Entry},
    events::{Emit as _, Filter, Position, read_all},
    jobs::{self, Enqueue as _, Job, JobFilter},
};
use serde::{Deserialize, Serialize};

use crate::{
    rig::{Counted, Rig, have_effect, on_both, scope},
    support::eventually,
};

/// Texts that end a literal, or are none of JSON, where something is forgotten.
const TEXTS: [&str; 8] = [
    "it's",
    "'; DROP TABLE event; --",
    "\\'",
    "\\u0027",
    "\"\n\t\r",
    "$$ $1 ? {}",
    "naïve Ω 🦀",
    "\u{1}\u{7f}",
];

#[derive(Serialize, Deserialize)]
struct Texted {
    text: String,
}

impl Job for Texted {
    const KIND: &'static str = "test.texted";
    type Output = ();
}

#[actix::test]
async fn every_text_comes_through() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let db = rig.db.tenant(&scope());
        let write = async |tx: &mut TenantTx| {
            for (number, text) in (0..).zip(TEXTS) {
                let mut event = Counted::new(number);
                event.text = text.to_owned();
                tx.emit(&event)?;
                let entry = Entry::new("text_add", "test.text", text).detail("text", text);
                let _ = tx.audit(entry)?.of(());
                let text = text.to_owned();
                tx.enqueue(&Texted { text }).await?;
            }
            // A character that PostgreSQL has in JSON and in no text.
            let mut event = Counted::new(8);
            event.text = "a\0b".to_owned();
            tx.emit(&event)?;
            Ok::<_, DbError>(())
        };
        db.transaction("write", write).await.unwrap();
        let read = async |c: &mut Connection| {
            read_all(c, &Filter::default(), Position::BEGINNING, 100).await
        };
        let events = eventually("the events", || async {
            let page = rig.system().read("read events", read).await.unwrap();
            (page.events.len() == 9).then_some(page.events)
        })
        .await;
        let texts = events.iter().map(|it| it.json()["text"].as_str().unwrap());
        assert!(texts.eq(TEXTS.into_iter().chain(["a\0b"])), "{events:?}");
        audit::seal_some(&rig.system(), None).await.unwrap();
        let list = async |tx: &mut TenantTx| {
            audit::list(tx, &audit::Filter::default(), i64::MAX, 100, None).await
        };
        let mut entries = db.read("list entries", list).await.unwrap();
        entries.reverse();
        let entries: Vec<_> = entries.into_iter().map(|it| it.entry).collect();
        let ids = entries.iter().map(|it| it.resource_id.as_str());
        assert!(ids.eq(TEXTS), "{entries:?}");
        let details = entries.iter().map(|it| it.details.0["text"].as_str());
        assert!(details.eq(TEXTS), "{entries:?}");
        let list = async |tx: &mut TenantTx| {
            let mut args = Vec::new();
            for job in jobs::list(tx, &JobFilter::default(), None, 100).await? {
                args.extend(jobs::args(tx, job.id).await?);
            }
            Ok::<_, DbError>(args)
        };
        let mut args = db.read("list jobs", list).await.unwrap();
        args.reverse();
        let texts = args.iter().map(|it| it["text"].as_str().unwrap());
        assert!(texts.eq(TEXTS), "{args:?}");
        rig.supervisor.halt().await;
    })
    .await;
}

#[actix::test]
async fn what_the_database_refuses_with_the_commit_is_rolled_back_with_all_else() {
    on_both(async |target| {
        let rig = Rig::start(&target, |_| Vec::new()).await;
        let is_sqlite = matches!(target, dotmac_db::Target::Sqlite(_));
        rig.run(match is_sqlite {
            true => {
                "CREATE TRIGGER thirteen BEFORE INSERT ON event WHEN NEW.subject = 'numbers/13' \
                 BEGIN SELECT RAISE(ABORT, 'not thirteen'); END"
            }
            false => "ALTER TABLE event ADD CONSTRAINT thirteen CHECK (subject <> 'numbers/13')",
        })
        .await;
        let write = async |number: i64| {
            let work = async move |tx: &mut TenantTx| {
                have_effect(tx, "writer", number, Position::BEGINNING).await?;
                let entry = Entry::new("number_add", "test.number", number.to_string());
                let _ = tx.audit(entry)?.of(());
                tx.emit(&Counted::new(number))?;
                Ok::<_, DbError>(())
            };
            rig.db.tenant(&scope()).transaction("write", work).await
        };
        // More often than there are connections.
        for _ in 0..12 {
            let refused = write(13).await.unwrap_err();
            assert!(matches!(refused, DbError::Query(_)), "{refused:?}");
        }
        write(14).await.unwrap();
        assert_eq!(rig.effects("writer").await.len(), 1);
        let sealed = audit::seal_some(&rig.system(), None).await.unwrap();
        assert_eq!(sealed.entries, 1);
        rig.supervisor.halt().await;
    })
    .await;
}
