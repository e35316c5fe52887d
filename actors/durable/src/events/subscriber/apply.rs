//! The transactions of a subscriber: effects, together with the cursor that says that they took place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_db::{AcrossTx, DbError, Tx, types::Moment};
use dotmac_supervision::Reason;
use tracing::{Instrument as _, Span, error, info_span, warn};

use super::{
    super::{Page, Position, StoredEvent, cursor, log},
    HandlerError, Running,
    held::{self, Due, Failure},
};
use crate::{
    outage::{self, is_away},
    trace,
};

/// A batch is committed after this time, even if it is not complete: an open transaction holds back the log.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// No event is under way.
const NONE: usize = usize::MAX;

/// What became of a transaction.
#[derive(Debug)]
pub(super) enum Applied {
    /// It took place, for that many events.
    Done(usize),
    /// Another instance works for the subscriber.
    Standby,
    /// The cursor is elsewhere by now.
    Moved,
    /// So many events are held that it does not go on.
    Full,
    /// The database went away while the handler worked, for that reason.
    Away(Reason),
    /// The handler failed at an event. Nothing is left of the transaction.
    Failed { index: usize, error: String },
}

/// Why the work of a transaction ends without a commit.
enum Stop {
    Db(DbError),
    Handler(HandlerError),
    Applied(Applied),
}

impl From<DbError> for Stop {
    fn from(error: DbError) -> Self {
        Self::Db(error)
    }
}

impl Running {
    /// Handles the first `count` events of `page`, which was read behind `after`, and moves the cursor.
    pub(super) async fn apply(
        self: &Arc<Self>,
        after: Position,
        page: &Arc<Page>,
        count: usize,
    ) -> Result<Applied, DbError> {
        let (this, page) = (Arc::clone(self), Arc::clone(page));
        let under_way = Arc::new(AtomicUsize::new(NONE));
        let marked = Arc::clone(&under_way);
        let work = async move |mut tx: AcrossTx<'_>| {
            let name = this.it.name;
            expect(tx.system().await?, name, after).await?;
            let lanes = held::lanes(tx.system().await?, name).await?;
            let mut room = None;
            let (began, mut done) = (Instant::now(), 0);
            for event in page.events.iter().take(count) {
                if done > 0 && began.elapsed() >= BATCH_TIME {
                    break;
                }
                if !lanes.is_empty() && lanes.contains(&event.lane()) {
                    let tx = tx.system().await?;
                    let left = match room {
                        Some(left) => left,
                        None => held::room(tx, name).await?,
                    };
                    if left <= 0 {
                        break;
                    }
                    held::hold(tx, name, event, None).await?;
                    room = Some(left - 1);
                } else {
                    marked.store(done, Relaxed);
                    let handling = (this.it.handle)(&mut tx, event.clone());
                    let handled = handling.instrument(span(name, event)).await;
                    handled.map_err(Stop::Handler)?;
                    marked.store(NONE, Relaxed);
                }
                done += 1;
            }
            let place = match done.checked_sub(1).and_then(|last| page.events.get(last)) {
                _ if done == page.events.len() => page.next,
                Some(last) => last.position(),
                None => return Err(Stop::Applied(Applied::Full)),
            };
            cursor::advance(tx.system().await?, name, place).await?;
            Ok(done)
        };
        let done = self.db.transaction_across("handle events", work).await;
        outcome(done, under_way.load(Relaxed))
    }

    /// Holds the event number `index` of `page`, at which the handler failed, and moves the cursor past it.
    pub(super) async fn hold(
        self: &Arc<Self>,
        page: &Arc<Page>,
        after: Position,
        index: usize,
        error: String,
    ) -> Result<Applied, DbError> {
        let (this, page) = (Arc::clone(self), Arc::clone(page));
        let work = async move |tx: &mut Tx| {
            let name = this.it.name;
            expect(tx, name, after).await?;
            let Some(event) = page.events.get(index) else {
                return Ok(0);
            };
            if held::room(tx, name).await? <= 0 {
                return Err(Stop::Applied(Applied::Full));
            }
            let failure = this.failure(event.position(), 1, error);
            held::hold(tx, name, event, Some(failure)).await?;
            cursor::advance(tx, name, event.position()).await?;
            Ok(1)
        };
        outcome(self.db.transaction("hold event", work).await, NONE)
    }

    /// Tries an event again that is held.
    pub(super) async fn retry(self: &Arc<Self>, due: &Due) -> Result<Applied, DbError> {
        let (this, due) = (Arc::clone(self), due.clone());
        let under_way = Arc::new(AtomicUsize::new(NONE));
        let marked = Arc::clone(&under_way);
        let work = async move |mut tx: AcrossTx<'_>| {
            let name = this.it.name;
            let system = tx.system().await?;
            lock(system, name).await?;
            if !held::is_due(system, name, &due).await? {
                return Ok(0);
            }
            let Some(event) = log::find_at(system, due.place).await? else {
                let gone = Failure {
                    error: "the event was deleted by the retention".to_owned(),
                    retry_at: None,
                };
                held::fail(system, name, &due, gone).await?;
                return Ok(0);
            };
            marked.store(0, Relaxed);
            let span = span(name, &event);
            let handled = (this.it.handle)(&mut tx, event).instrument(span).await;
            handled.map_err(Stop::Handler)?;
            marked.store(NONE, Relaxed);
            held::release(tx.system().await?, name, &due).await?;
            Ok(1)
        };
        let done = self.db.transaction_across("retry event", work).await;
        outcome(done, under_way.load(Relaxed))
    }

    /// Writes down that a held event failed once more.
    pub(super) async fn fail(
        self: &Arc<Self>,
        due: &Due,
        error: String,
    ) -> Result<Applied, DbError> {
        let (this, due) = (Arc::clone(self), due.clone());
        let work = async move |tx: &mut Tx| {
            let name = this.it.name;
            lock(tx, name).await?;
            if held::is_due(tx, name, &due).await? {
                let failure = this.failure(due.place, due.failures + 1, error);
                held::fail(tx, name, &due, failure).await?;
            }
            Ok(1)
        };
        outcome(self.db.transaction("note failed event", work).await, NONE)
    }

    fn failure(&self, place: Position, failures: u32, error: String) -> Failure {
        let (name, retries) = (self.it.name, self.it.retries);
        if failures >= retries.most {
            error!(
                subscriber = name, sequence = %place, failures, error,
                "subscriber `{name}` failed to handle an event {failures} times; the event is parked"
            );
            return Failure {
                error,
                retry_at: None,
            };
        }
        let wait = retries.wait(failures);
        warn!(
            subscriber = name, sequence = %place, failures, error,
            wait_ms = wait.as_millis() as u64,
            "subscriber `{name}` failed to handle an event; retrying"
        );
        Failure {
            error,
            retry_at: Some(Moment::now() + wait),
        }
    }
}

/// What is done because of an event belongs to the trace of its cause, if it has one.
fn span(subscriber: &'static str, event: &StoredEvent) -> Span {
    let Some(cause) = &event.traceparent else {
        return Span::none();
    };
    let span = info_span!(
        parent: None, "event", otel.name = subscriber, otel.kind = "consumer", event.id = %event.id,
        event.type = event.kind,
    );
    trace::follow(&span, cause);
    span
}

async fn lock(tx: &mut Tx, name: &'static str) -> Result<Position, Stop> {
    let locked = cursor::lock(tx, name).await?;
    locked.ok_or(Stop::Applied(Applied::Standby))
}

/// Locks the cursor, which must be at `place`.
async fn expect(tx: &mut Tx, name: &'static str, place: Position) -> Result<(), Stop> {
    if lock(tx, name).await? == place {
        Ok(())
    } else {
        Err(Stop::Applied(Applied::Moved))
    }
}

fn outcome(done: Result<usize, Stop>, under_way: usize) -> Result<Applied, DbError> {
    let error: HandlerError = match done {
        Ok(done) => return Ok(Applied::Done(done)),
        Err(Stop::Applied(applied)) => return Ok(applied),
        Err(Stop::Handler(error)) => error,
        Err(Stop::Db(error @ (DbError::Panicked { .. } | DbError::Overran { .. })))
            if under_way != NONE =>
        {
            error.into()
        }
        Err(Stop::Db(error)) => return Err(error),
    };
    let mut causes = dotmac_causes::causes(&*error).filter_map(|it| it.downcast_ref());
    let away = causes.find(|cause| is_away(cause));
    if let Some(reason) = away.and_then(outage::reason) {
        return Ok(Applied::Away(reason));
    }
    Ok(Applied::Failed {
        index: under_way,
        error: dotmac_causes::chain(&*error),
    })
}
