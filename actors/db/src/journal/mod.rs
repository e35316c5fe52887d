//! The runtime's own diary: what became of which component, and when. Bounded, and never in the way
//! of what it describes: events wait in the supervisor's backlog until there is a database.

mod reader;

pub use reader::{JournalEntry, JournalQuery, read_journal};

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, NaiveDateTime, Utc};
use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};
use tracing::warn;

use super::{Db, DbError, on, schema::runtime_journal};
use dotmac_supervision::Event;

/// Rows kept; the oldest go first.
const ROWS_KEPT: i64 = 10_000;

/// Events written at once.
const BATCH: usize = 100;

/// Before another try after a failed write.
const PAUSE: Duration = Duration::from_secs(1);

/// The events of one process, on their way into the table. Clones share the position, so that a
/// restarted actor goes on where its former life stopped.
#[derive(Clone)]
pub struct Journal {
    instance: Arc<str>,
    pending: Arc<Mutex<Pending>>,
    /// Held by a write until its end, even if its caller has gone: the next one sees its rows.
    writing: Arc<Mutex<()>>,
}

struct Pending {
    events: broadcast::Receiver<Event>,
    /// Taken from the backlog and not yet written.
    rows: Vec<Row>,
    /// Whether the last write failed, so that the log says it once.
    failing: bool,
}

#[derive(Clone, Insertable)]
#[diesel(table_name = runtime_journal)]
struct Row {
    instance: String,
    component: String,
    event: String,
    reason: Option<String>,
    at: NaiveDateTime,
}

impl Journal {
    /// A journal of `events` for the process `instance`. Its first row says that the process started, and which
    /// `process` that is: its program, version and process id.
    #[must_use]
    pub fn new(
        instance: impl Into<Arc<str>>,
        process: &str,
        events: broadcast::Receiver<Event>,
    ) -> Self {
        let instance = instance.into();
        let started = row(
            &instance,
            "runtime",
            "started",
            Some(process.into()),
            Utc::now(),
        );
        Self {
            instance,
            pending: Arc::new(Mutex::new(Pending {
                events,
                rows: vec![started],
                failing: false,
            })),
            writing: Arc::default(),
        }
    }

    /// Writes events as they come, for as long as the future lives.
    pub(super) async fn keep(self, db: Db) {
        let mut pending = self.pending.lock().await;
        loop {
            if pending.rows.is_empty() {
                match pending.events.recv().await {
                    Ok(event) => pending.rows.push(self.row(&event)),
                    Err(broadcast::error::RecvError::Lagged(missed)) => {
                        pending.rows.push(self.gap(missed))
                    }
                    Err(broadcast::error::RecvError::Closed) => return,
                }
            }
            self.write_now(&mut pending, &db).await;
            if !pending.rows.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Writes what is left, with a last line that says that the process is stopping.
    pub(super) async fn close(&self, db: &Db) {
        let mut pending = self.pending.lock().await;
        let stopping = row(&self.instance, "runtime", "stopping", None, Utc::now());
        pending.rows.push(stopping);
        self.write_now(&mut pending, db).await;
    }

    async fn write_now(&self, pending: &mut Pending, db: &Db) {
        while pending.rows.len() < BATCH {
            match pending.events.try_recv() {
                Ok(event) => pending.rows.push(self.row(&event)),
                Err(broadcast::error::TryRecvError::Lagged(missed)) => {
                    pending.rows.push(self.gap(missed))
                }
                Err(_) => break,
            }
        }
        let turn = Arc::clone(&self.writing).lock_owned().await;
        match insert(db, pending.rows.clone(), turn).await {
            Ok(()) => {
                pending.rows.clear();
                pending.failing = false;
            }
            // An absent database, and a connection that ended, are reported where they are noticed; the rows wait.
            Err(
                DbError::Unavailable { .. }
                | DbError::ConnectionLost(_)
                | DbError::OutcomeUnknown(_),
            ) => {}
            Err(error) => {
                if !std::mem::replace(&mut pending.failing, true) {
                    let error = &error as &dyn std::error::Error;
                    warn!(
                        error,
                        "failed to write the runtime journal; retrying every {PAUSE:?}"
                    );
                }
            }
        }
    }

    fn row(&self, event: &Event) -> Row {
        let reason = event.reason.map(|reason| reason.as_str().to_owned());
        row(
            &self.instance,
            event.component,
            event.state.as_str(),
            reason,
            event.at.into(),
        )
    }

    fn gap(&self, missed: u64) -> Row {
        row(
            &self.instance,
            "runtime",
            "events_missed",
            Some(missed.to_string()),
            Utc::now(),
        )
    }
}

fn row(
    instance: &str,
    component: &str,
    event: &str,
    reason: Option<String>,
    at: DateTime<Utc>,
) -> Row {
    Row {
        instance: instance.to_owned(),
        component: component.to_owned(),
        event: event.to_owned(),
        reason,
        at: at.naive_utc(),
    }
}

async fn insert(db: &Db, rows: Vec<Row>, turn: OwnedMutexGuard<()>) -> Result<(), DbError> {
    db.transaction("write runtime journal", async move |tx| {
        tx.after_commit(move || drop(turn));
        // Row by row: diesel-async has no batch insert for SQLite, and these are few. A former write without a waiting
        // caller may have written them.
        for row in &rows {
            let same = runtime_journal::table
                .filter(runtime_journal::instance.eq(&row.instance))
                .filter(runtime_journal::component.eq(&row.component))
                .filter(runtime_journal::event.eq(&row.event))
                .filter(runtime_journal::at.eq(row.at));
            let known: i64 = on!(tx, |c| same.count().get_result(c).await)?;
            if known > 0 {
                continue;
            }
            on!(tx, |c| diesel::insert_into(runtime_journal::table)
                .values(row)
                .execute(c)
                .await)?;
        }
        let newest: Option<i64> = on!(tx, |c| runtime_journal::table
            .select(diesel::dsl::max(runtime_journal::id))
            .first(c)
            .await)?;
        let oldest_kept = newest.unwrap_or(0) - ROWS_KEPT;
        on!(tx, |c| diesel::delete(
            runtime_journal::table.filter(runtime_journal::id.le(oldest_kept))
        )
        .execute(c)
        .await)
        .map(drop)
    })
    .await
}
