//! The transactions of a subscriber: effects, together with the cursor that says that they took place.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_db::{AcrossTx, DbError, Tx, types::Moment};
use dotmac_supervision::Reason;
use tracing::{Instrument as _, Span, error, info_span, warn};

use super::{
    super::{Page, Position, StoredEvent, cursor, emit, log},
    HandlerError, Running,
    held::{self, Due, Failure},
};
use crate::{
    audit, jobs,
    outage::{self, is_away, is_passing},
    trace,
};

/// A batch is committed after this time, even if it is not complete: an open transaction holds back the log.
const BATCH_TIME: Duration = Duration::from_secs(1);

/// The events that a transaction has given to the handler.
#[derive(Default)]
struct Handled {
    count: AtomicUsize,
    /// The place of the last one in its page.
    last: AtomicUsize,
    is_under_way: AtomicBool,
}

impl Handled {
    fn begin(&self, index: usize) {
        self.count.fetch_add(1, Relaxed);
        self.last.store(index, Relaxed);
        self.is_under_way.store(true, Relaxed);
    }

    fn end(&self) {
        self.is_under_way.store(false, Relaxed);
    }
}

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
    /// It failed after its handlers had returned, because of any of its events. Nothing is left of it.
    Unclear { error: String },
    /// With the event of that place it would have more events, jobs or audit entries than a transaction may have. Nothing
    /// is left of it.
    Bounded(usize),
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
    /// Handles the events of `page` in `places`, which were read behind `after`, and moves the cursor.
    pub(super) async fn apply(
        self: &Arc<Self>,
        after: Position,
        page: &Arc<Page>,
        places: Range<usize>,
    ) -> Result<Applied, DbError> {
        let (this, page) = (Arc::clone(self), Arc::clone(page));
        let handled = Arc::<Handled>::default();
        let noted = Arc::clone(&handled);
        let work = async move |mut tx: AcrossTx<'_>| {
            let name = this.it.name;
            expect(tx.system().await?, name, after).await?;
            let lanes = held::lanes(tx.system().await?, name).await?;
            let mut room = None;
            let (began, first, mut next) = (Instant::now(), places.start, places.start);
            for event in page.events.get(places).unwrap_or_default() {
                if next > first && began.elapsed() >= BATCH_TIME {
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
                    noted.begin(next);
                    let handling = (this.it.handle)(&mut tx, event.clone());
                    let done = handling.instrument(span(name, event)).await;
                    noted.end();
                    if next > first && is_full(&mut tx) {
                        return Err(Stop::Applied(Applied::Bounded(next)));
                    }
                    done.map_err(Stop::Handler)?;
                }
                next += 1;
            }
            let place = match next.checked_sub(1).and_then(|last| page.events.get(last)) {
                _ if next == page.events.len() => page.next,
                Some(last) if next > first => last.position(),
                _ => return Err(Stop::Applied(Applied::Full)),
            };
            cursor::advance(tx.system().await?, name, place).await?;
            Ok(next - first)
        };
        let done = self.db.transaction_across("handle events", work).await;
        outcome(done, &handled)
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
        let held = self.db.transaction("hold event", work).await;
        outcome(held, &Handled::default())
    }

    /// Tries an event again that is held.
    pub(super) async fn retry(self: &Arc<Self>, due: &Due) -> Result<Applied, DbError> {
        let (this, due) = (Arc::clone(self), due.clone());
        let handled = Arc::<Handled>::default();
        let noted = Arc::clone(&handled);
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
            noted.begin(0);
            let span = span(name, &event);
            let done = (this.it.handle)(&mut tx, event).instrument(span).await;
            noted.end();
            done.map_err(Stop::Handler)?;
            held::release(tx.system().await?, name, &due).await?;
            Ok(1)
        };
        let done = self.db.transaction_across("retry event", work).await;
        outcome(done, &handled)
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
        let noted = self.db.transaction("note failed event", work).await;
        outcome(noted, &Handled::default())
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

/// Whether the transaction has as many events, jobs or audit entries as it may have, and more were refused.
fn is_full(tx: &mut AcrossTx<'_>) -> bool {
    emit::is_full(tx) || jobs::is_full(tx) || audit::is_full(tx)
}

fn outcome(done: Result<usize, Stop>, handled: &Handled) -> Result<Applied, DbError> {
    let error: HandlerError = match done {
        Ok(done) => return Ok(Applied::Done(done)),
        Err(Stop::Applied(applied)) => return Ok(applied),
        Err(Stop::Handler(error)) => error,
        Err(Stop::Db(error)) => match handled.count.load(Relaxed) {
            0 => return Err(error),
            _ if is_passing(&error) => return Err(error),
            1 => error.into(),
            _ if handled.is_under_way.load(Relaxed) => error.into(),
            // Seen at the end only: a deferred constraint, or what a handler was refused and ignored.
            _ => {
                let error = dotmac_causes::chain(&error);
                return Ok(Applied::Unclear { error });
            }
        },
    };
    let mut causes = dotmac_causes::causes(&*error).filter_map(|it| it.downcast_ref());
    let away = causes.find(|cause| is_away(cause));
    if let Some(reason) = away.and_then(outage::reason) {
        return Ok(Applied::Away(reason));
    }
    Ok(Applied::Failed {
        index: handled.last.load(Relaxed),
        error: dotmac_causes::chain(&*error),
    })
}
