//! The cost of an event and an audit entry for a transaction: against the same transaction without them, on the same
//! server.
//!
//! `DOTMAC_BENCH_ROUNDS` sets the number of rounds (20).

use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_durable::MIGRATIONS;
use dotmac_platform::{
    audit::{Audit as _, Entry, sealer, status},
    db::{DbError, MigrateMode, ModuleDb, Target, TenantId, TenantScope, TenantTx, Tx},
    events::{CustomEvent, emit_custom},
    on,
};
use futures_util::future::join_all;

use crate::{
    database::{self, config, target_of},
    report::{Report, ms, percentile, us},
    support::{self, Postgres},
};

diesel::table! {
    written (id) {
        id -> BigInt,
        text -> Text,
    }
}

/// Whose the rows are.
static TENANT: LazyLock<TenantId> = LazyLock::new(TenantId::new);

/// Transactions of a client in a round.
const EACH: i64 = 100;

/// Entries that are waited for, one by one, until they are linked.
const LINKED: i64 = 50;

/// The additional writes of a transaction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Extra {
    Nothing,
    Entry,
    EventAndEntry,
}

const ALL: [Extra; 3] = [Extra::Nothing, Extra::Entry, Extra::EventAndEntry];

/// What is measured on a back end.
struct BackEnd {
    loads: &'static [Load],
    linked: &'static str,
}

/// The rows of the report for some clients on a back end.
struct Load {
    clients: usize,
    entry: &'static str,
    both: &'static str,
}

const ON_POSTGRES: BackEnd = BackEnd {
    loads: &[
        Load {
            clients: 1,
            entry: "transaction with one audit entry, PostgreSQL, 1 client",
            both: "transaction with one event and one audit entry, PostgreSQL, 1 client",
        },
        Load {
            clients: 8,
            entry: "transaction with one audit entry, PostgreSQL, 8 clients",
            both: "transaction with one event and one audit entry, PostgreSQL, 8 clients",
        },
    ],
    linked: "a committed audit entry is linked into its chain, PostgreSQL",
};

const ON_SQLITE: BackEnd = BackEnd {
    loads: &[Load {
        clients: 1,
        entry: "transaction with one audit entry, SQLite, 1 client",
        both: "transaction with one event and one audit entry, SQLite, 1 client",
    }],
    linked: "a committed audit entry is linked into its chain, SQLite",
};

pub fn measure(report: &mut Report) {
    actix::System::new().block_on(async {
        let server = Postgres::start().await;
        on_back_end(report, target_of(&server), &ON_POSTGRES).await;
        let directory = tempfile::tempdir().unwrap();
        let file = Target::Sqlite(directory.path().join("bench.db").into());
        on_back_end(report, file, &ON_SQLITE).await;
    });
}

async fn on_back_end(report: &mut Report, target: Target, back_end: &BackEnd) {
    let mut config = config(target);
    (config.migrate, config.migrations) = (MigrateMode::Auto, vec![MIGRATIONS]);
    // The sealer is at work, as it is in a program.
    let (db, supervisor) = database::start(config, |db| {
        vec![sealer(
            "audit_sealer",
            &db.for_module("sealer", Default::default()),
            None,
        )]
    });
    supervisor.until(|board| board.readiness.serves()).await;
    let db = db.for_module("bench", Default::default());
    let table = "CREATE TABLE written (id BIGINT NOT NULL PRIMARY KEY, text TEXT NOT NULL)";
    let make = async move |tx: &mut Tx| on!(tx, |c| diesel::sql_query(table).execute(c).await);
    db.system("bench")
        .transaction("make table", make)
        .await
        .unwrap();
    let rounds = std::env::var("DOTMAC_BENCH_ROUNDS").ok();
    let rounds = rounds.map_or(20, |rounds| rounds.parse().unwrap());
    let mut next = 0;
    for load in back_end.loads {
        let mut times: [Vec<Duration>; ALL.len()] = Default::default();
        for round in 0..=rounds {
            // By turns, so that none always comes after the same.
            for turn in 0..ALL.len() {
                let turn = (turn + round) % ALL.len();
                let took = round_of(&db, ALL[turn], load.clients, next).await;
                next += EACH * load.clients as i64;
                // The first round opens connections.
                if round > 0 {
                    times[turn].push(took);
                }
                until_sealed(&db).await;
            }
        }
        let [bare, entry, both] = times.each_mut().map(|times| percentile(times, 0.5));
        for (what, took) in [(load.entry, entry), (load.both, both)] {
            let ratio = took.as_secs_f64() / bare.as_secs_f64();
            report.row(
                what,
                "at most 1.25 x the same without",
                format!("{} ({ratio:.2} x)", us(took)),
                format!("the same without: {}", us(bare)),
                ratio <= 1.25,
            );
        }
    }
    linked(report, &db, back_end.linked, next).await;
    supervisor.halt().await;
}

/// How long an entry waits for its link.
async fn linked(report: &mut Report, db: &ModuleDb, what: &'static str, first: i64) {
    let mut times = Vec::new();
    for n in 0..LINKED {
        write(db, Extra::Entry, first + n).await;
        let began = Instant::now();
        until_sealed(db).await;
        times.push(began.elapsed());
    }
    let (middle, last) = (percentile(&mut times, 0.5), percentile(&mut times, 0.99));
    report.row(
        what,
        "p99 under 1 s",
        format!("p50 {}, p99 {}", ms(middle), ms(last)),
        "a row of the same transaction: at once".to_owned(),
        last < Duration::from_secs(1),
    );
}

/// Wall time of one transaction, of `clients` that do one after the other.
async fn round_of(db: &ModuleDb, extra: Extra, clients: usize, first: i64) -> Duration {
    let began = Instant::now();
    join_all((0..clients as i64).map(|client| async move {
        for n in 0..EACH {
            write(db, extra, first + client * EACH + n).await;
        }
    }))
    .await;
    began.elapsed() / (clients as u32 * EACH as u32)
}

async fn write(db: &ModuleDb, extra: Extra, id: i64) {
    let db = db.tenant(&TenantScope::system(*TENANT, "bench"));
    let work = async move |tx: &mut TenantTx| {
        let row = (written::id.eq(id), written::text.eq("Buy milk"));
        let insert = diesel::insert_into(written::table).values(row);
        on!(tx, |c| insert.execute(c).await)?;
        if extra != Extra::Nothing {
            let _ = tx
                .audit(Entry::new("note_add", "bench.note", id.to_string()))?
                .of(());
        }
        if extra == Extra::EventAndEntry {
            let event = CustomEvent {
                kind: "custom.note.added.v1".to_owned(),
                subject: format!("notes/{id}"),
                data: serde_json::json!({ "note": id }),
            };
            emit_custom(tx, event)?;
        }
        Ok::<_, DbError>(())
    };
    db.transaction("write", work).await.unwrap();
}

async fn until_sealed(db: &ModuleDb) {
    let db = db.system("bench");
    support::eventually("the sealer", || async {
        let status = db.read("measure", async |c| status(c).await).await.unwrap();
        (status.waiting == 0).then_some(())
    })
    .await;
}
