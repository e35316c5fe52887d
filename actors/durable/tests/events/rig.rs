//! Events, and their effects: rows.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_db::{Connection, DbError, ModuleDb, Share, Target, Tx, on};
use dotmac_durable::events::{Event, Position};
use dotmac_supervision::{Board, WorkerSpec};
use serde::{Deserialize, Serialize};

pub use crate::instance::{Rig, on_both, patiently, postgres, scope, sqlite};
use crate::support;

impl Rig {
    /// Starts one; needs an actix system. With a table of effects.
    pub async fn start(
        target: &Target,
        workers: impl FnOnce(&ModuleDb) -> Vec<WorkerSpec>,
    ) -> Self {
        let table = "CREATE TABLE IF NOT EXISTS effect (subscriber TEXT NOT NULL, number BIGINT NOT NULL, place TEXT NOT NULL)";
        Self::start_with(table, target, workers).await
    }

    /// The way to the database for another module.
    pub fn of_module(&self, name: &'static str) -> ModuleDb {
        self.root.for_module(name, Share::HALF)
    }

    pub async fn until_reason(&self, component: &str, reason: &str) {
        let has = |board: &Board| {
            let found = board.components.iter().find(|it| it.name == component);
            found
                .and_then(|it| it.reason)
                .is_some_and(|it| it.as_str() == reason)
        };
        self.until(has).await;
    }

    /// What a query of one number gives.
    pub async fn number(&self, sql: &'static str) -> i64 {
        patiently(async || {
            let ask = async move |c: &mut Connection| {
                let query = diesel::sql_query(sql);
                let found: Number = on!(c, |c| query.get_result(c).await)?;
                Ok(found.number)
            };
            self.system().read("ask", ask).await
        })
        .await
    }

    /// Commits one event for each number.
    pub async fn emit(&self, numbers: std::ops::Range<i64>) {
        for number in numbers {
            patiently(async || {
                let emit = async move |tx: &mut dotmac_db::TenantTx| {
                    use dotmac_durable::events::Emit as _;
                    tx.emit(&Counted::new(number))?;
                    Ok(())
                };
                let db = self.db.tenant(&scope());
                db.transaction("emit", emit).await
            })
            .await;
        }
    }

    /// The effects of one subscriber, in the order of the log.
    pub async fn effects(&self, subscriber: &'static str) -> Vec<(i64, String)> {
        patiently(async || {
            let read = async move |c: &mut Connection| {
                let query = effect::table
                    .filter(effect::subscriber.eq(subscriber))
                    .order(effect::place)
                    .select((effect::number, effect::place));
                on!(c, |c| query.load(c).await)
            };
            self.system().read("read effects", read).await
        })
        .await
    }

    pub async fn until_effects(&self, subscriber: &'static str, expected: &[i64]) {
        support::eventually(&format!("effects {expected:?}"), || async {
            let effects = self.effects(subscriber).await;
            let numbers: Vec<_> = effects.iter().map(|(number, _)| *number).collect();
            (numbers == expected).then_some(())
        })
        .await;
    }
}

diesel::table! {
    effect (place) {
        subscriber -> Text,
        number -> BigInt,
        place -> Text,
    }
}

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = diesel::sql_types::BigInt)]
    number: i64,
}

/// The effect of an event: a row.
pub async fn have_effect(
    tx: &mut Tx,
    subscriber: &'static str,
    number: i64,
    place: Position,
) -> Result<(), DbError> {
    let row = (
        effect::subscriber.eq(subscriber),
        effect::number.eq(number),
        effect::place.eq(place.to_string()),
    );
    on!(tx, |c| diesel::insert_into(effect::table)
        .values(row)
        .execute(c)
        .await)
    .map(drop)
}

/// The number of rows of the log that a transaction sees without a filter.
pub async fn rows_seen(tx: &mut Tx) -> Result<i64, DbError> {
    let rows = diesel::sql_query("SELECT count(*) AS number FROM event");
    let count: Number = on!(tx, |c| rows.get_result(c).await)?;
    Ok(count.number)
}

#[derive(Clone, Serialize, Deserialize)]
pub struct Counted {
    pub number: i64,
    pub text: String,
}

impl Counted {
    pub fn new(number: i64) -> Self {
        let text = String::new();
        Self { number, text }
    }
}

impl Event for Counted {
    const TYPE: &'static str = "test.counted.v1";

    fn subject(&self) -> String {
        format!("numbers/{}", self.number)
    }

    /// One of three.
    fn partition_key(&self) -> String {
        format!("lane {}", self.number % 3)
    }
}
