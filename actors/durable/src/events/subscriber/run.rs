//! A run of a subscriber: looks, handles, waits to be woken, at most a second.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use dotmac_db::{Connection, DbError, Tx};
use dotmac_supervision::{Reason, Serving, WorkerContext};
use tracing::warn;

use super::{
    EVENTS_EXPIRED, EVENTS_PARKED, POSITION_AHEAD, Running, TOO_MANY_HELD,
    apply::Applied,
    held::{self, Due},
};
use crate::{
    events::{Filter, Page, Position, cursor, log},
    outage, wake,
};

/// How often it looks without being woken: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_secs(1);
/// How soon it looks again when open transactions hold the log back; doubled up to [`POLL`].
const HELD_BACK: Duration = Duration::from_millis(5);
/// Events of one batch.
const BATCH: u16 = 256;
/// So long events are handled one by one before the next batch is tried.
const ONE_BY_ONE: Duration = Duration::from_secs(10);

/// What a look at the log led to.
enum Step {
    /// There may be more.
    Moved,
    /// There is nothing to do.
    Idle,
    /// Open transactions hold events back.
    HeldBack,
    /// Another instance works for the subscriber.
    Standby,
    /// It cannot go on until something is done.
    Stuck(Reason),
}

/// What a look at the log has found.
struct Seen {
    after: Position,
    page: Page,
    due: Vec<Due>,
    has_parked: bool,
}

pub(super) async fn run(this: Arc<Running>, context: WorkerContext) -> Result<(), DbError> {
    let signal = wake::signal(this.it.kinds.to_vec());
    let mut held_back = HELD_BACK;
    while !context.is_stopping() {
        context.beat();
        let (step, has_parked) = match this.step().await {
            Ok(step) => step,
            Err(error) => match outage::reason(&error) {
                Some(reason) => (Step::Stuck(reason), false),
                None => return Err(error),
            },
        };
        report(&this, &context, &step, has_parked);
        let wait = match step {
            Step::Moved => {
                held_back = HELD_BACK;
                continue;
            }
            Step::HeldBack => {
                let wait = held_back;
                held_back = (held_back * 2).min(POLL);
                wait
            }
            Step::Idle | Step::Standby | Step::Stuck(_) => {
                POLL.mul_f64(0.8 + 0.4 * fastrand::f64())
            }
        };
        tokio::select! {
            () = signal.notified() => {}
            () = tokio::time::sleep(wait) => {}
            () = context.stopping() => {}
        }
    }
    Ok(())
}

fn report(this: &Running, context: &WorkerContext, step: &Step, has_parked: bool) {
    let serving = Serving::default();
    match step {
        Step::Stuck(reason) if *reason == TOO_MANY_HELD => {
            context.lifeline().degraded(*reason, serving);
        }
        Step::Stuck(reason) => {
            if *reason != Reason::UNREACHABLE {
                let name = this.it.name;
                warn!(
                    subscriber = name,
                    reason = reason.as_str(),
                    "subscriber `{name}` cannot continue until it is rewound"
                );
            }
            context.lifeline().unavailable(*reason);
        }
        _ if has_parked => context.lifeline().degraded(EVENTS_PARKED, serving),
        _ => context.lifeline().ready(serving),
    }
}

impl Running {
    /// Looks once, and does what there is to do; and whether there are parked events.
    async fn step(self: &Arc<Self>) -> Result<(Step, bool), DbError> {
        let Some(seen) = self.look().await? else {
            let (name, start) = (self.it.name, self.it.start);
            let begin = async move |tx: &mut Tx| cursor::begin(tx, name, start).await;
            self.db.transaction("begin to subscribe", begin).await?;
            return Ok((Step::Moved, false));
        };
        let has_parked = seen.has_parked;
        for due in &seen.due {
            match self.retry(due).await? {
                Applied::Failed { error, .. } => drop(self.fail(due, error).await?),
                Applied::Standby => return Ok((Step::Standby, has_parked)),
                Applied::Away(reason) => return Ok((Step::Stuck(reason), has_parked)),
                Applied::Done(_)
                | Applied::Moved
                | Applied::Full
                | Applied::Bounded(_)
                | Applied::Unclear { .. } => {}
            }
        }
        let step = self.handle(seen).await?;
        Ok((step, has_parked))
    }

    /// Without a lock, and without a transaction that would hold back the log.
    async fn look(&self) -> Result<Option<Seen>, DbError> {
        let (name, kinds) = (self.it.name, self.it.kinds);
        let look = async move |c: &mut Connection| {
            let Some(after) = cursor::find(c, name).await? else {
                return Ok(None);
            };
            Ok(Some(Seen {
                after,
                page: log::read_all(c, &Filter::kinds(kinds), after, BATCH).await?,
                due: held::due(c, name).await?,
                has_parked: held::has_parked(c, name).await?,
            }))
        };
        self.db.read("look for events", look).await
    }

    async fn handle(self: &Arc<Self>, seen: Seen) -> Result<Step, DbError> {
        let Seen {
            after, page, due, ..
        } = seen;
        if page.is_ahead {
            return Ok(Step::Stuck(POSITION_AHEAD));
        }
        if after < page.expired {
            return Ok(Step::Stuck(EVENTS_EXPIRED));
        }
        let (found, is_held_back) = (page.events.len(), page.is_held_back);
        let page = Arc::new(page);
        let applied = if page.next == after {
            Applied::Done(0)
        } else {
            self.apply(after, &page, 0..found).await?
        };
        match applied {
            Applied::Done(_) if found > 0 || !due.is_empty() => Ok(Step::Moved),
            Applied::Done(_) if is_held_back => Ok(Step::HeldBack),
            Applied::Done(_) => Ok(Step::Idle),
            Applied::Standby => Ok(Step::Standby),
            Applied::Moved => Ok(Step::Moved),
            Applied::Full => Ok(Step::Stuck(TOO_MANY_HELD)),
            Applied::Away(reason) => Ok(Step::Stuck(reason)),
            Applied::Failed { index, error } => self.pass(after, &page, index, error).await,
            Applied::Bounded(index) => self.handle_first(after, &page, index).await,
            Applied::Unclear { error } => self.handle_one_by_one(after, &page, &error).await,
        }
    }

    /// Handles what comes before the event number `index`, at which the handler failed, and holds that one.
    async fn pass(
        self: &Arc<Self>,
        mut after: Position,
        page: &Arc<Page>,
        index: usize,
        error: String,
    ) -> Result<Step, DbError> {
        if index > 0 {
            match self.apply(after, page, 0..index).await? {
                Applied::Done(done) if done == index => {}
                Applied::Unclear { error } => {
                    return self.handle_one_by_one(after, page, &error).await;
                }
                // The rest is read again.
                _ => return Ok(Step::Moved),
            }
            after = page.events.get(index - 1).map_or(after, |it| it.position());
        }
        match self.hold(page, after, index, error).await? {
            Applied::Full => Ok(Step::Stuck(TOO_MANY_HELD)),
            _ => Ok(Step::Moved),
        }
    }

    /// Handles the first `count` events, since more are too many for one transaction. The rest is read again.
    async fn handle_first(
        self: &Arc<Self>,
        after: Position,
        page: &Arc<Page>,
        count: usize,
    ) -> Result<Step, DbError> {
        match self.apply(after, page, 0..count).await? {
            Applied::Failed { index, error } => self.pass(after, page, index, error).await,
            Applied::Unclear { error } => self.handle_one_by_one(after, page, &error).await,
            _ => Ok(Step::Moved),
        }
    }

    /// Handles each event in a transaction of its own, so that the one shows because of which `error` was the end of a
    /// transaction of several; and holds that one.
    async fn handle_one_by_one(
        self: &Arc<Self>,
        mut after: Position,
        page: &Arc<Page>,
        error: &str,
    ) -> Result<Step, DbError> {
        let (name, began) = (self.it.name, Instant::now());
        warn!(
            subscriber = name,
            error,
            "the transaction of subscriber `{name}` failed after its events were handled; handling them one by one"
        );
        for (index, event) in page.events.iter().enumerate() {
            if began.elapsed() >= ONE_BY_ONE {
                break;
            }
            let applied = match self.apply(after, page, index..index + 1).await? {
                Applied::Failed { error, .. } => self.hold(page, after, index, error).await?,
                applied => applied,
            };
            match applied {
                Applied::Done(_) => after = event.position(),
                Applied::Full => return Ok(Step::Stuck(TOO_MANY_HELD)),
                Applied::Standby => return Ok(Step::Standby),
                Applied::Away(reason) => return Ok(Step::Stuck(reason)),
                _ => break,
            }
        }
        Ok(Step::Moved)
    }
}
