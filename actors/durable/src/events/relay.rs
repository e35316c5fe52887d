//! The relay: passes all events on to another system, a [`Broker`], in the order of the log.
//!
//! An event is published outside of transactions, and the cursor moves once the broker has acknowledged it. So each event
//! is passed on at least once: again if the process ends in between. A broker that knows the id of an event keeps it once.
//! The log stays the truth; a broker that is away, or loses what it had, costs nothing but delay or a rewind.
//!
//! The cursor is one of a subscriber: lag and its cause are shown with those of others, and it is rewound like one. Of many
//! instances one relays at a time, the one with the lease.

use std::{fmt, sync::Arc, time::Duration};

use dotmac_db::{Connection, Db, DbError, Held, Lease, ModuleDb, Tx};
use dotmac_supervision::{Reason, Schedule, Serving, WorkerContext, WorkerSpec};
use tokio::sync::Mutex;
use tracing::{info, warn};

use super::{
    EVENTS_EXPIRED, Filter, HandlerError, POSITION_AHEAD, Page, Position, Start, StoredEvent,
    cursor, log,
};
use crate::{outage, wake};

/// The broker cannot be reached, or does not acknowledge.
pub const BROKER_UNREACHABLE: Reason = Reason::new("broker_unreachable");
/// The broker may lose what it has acknowledged.
pub const BROKER_NOT_DURABLE: Reason = Reason::new("broker_not_durable");

/// How often it looks for events without being woken: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_secs(1);
/// Events of one publishing.
const BATCH: u16 = 256;
/// How long an instance relays without showing that it is there, and so how long others wait for one that was killed; longer
/// than a check and a publishing together may take.
const TTL: Duration = Duration::from_secs(30);
/// The longest that one publishing may take.
const PUBLISHING: Duration = Duration::from_secs(20);
/// The longest that the broker may take to say whether it keeps what it acknowledges.
const CHECKING: Duration = Duration::from_secs(5);
/// How often the broker is asked whether it keeps what it acknowledges.
const CHECKED_EVERY: Duration = Duration::from_secs(30);
const PROGRESS_WITHIN: Duration = Duration::from_secs(180);

/// Why a broker may lose what it has acknowledged, in words for operators; `None` if it keeps it.
pub type NotDurable = Option<String>;

/// Another system, to which events are passed on.
pub trait Broker: Send + 'static {
    /// Whether it keeps acknowledged events, even if it is killed.
    fn check(&mut self) -> impl Future<Output = Result<NotDurable, HandlerError>> + Send;

    /// Publishes events, in their order, and waits until it has acknowledged all. After an error any of them may be there.
    /// It drops one whose id it has already.
    fn publish(
        &mut self,
        events: Vec<StoredEvent>,
    ) -> impl Future<Output = Result<(), HandlerError>> + Send;
}

/// The worker that passes all events on to `broker`, from the oldest that is kept. `instance` names this process among those
/// of the program.
#[must_use]
pub fn relay<B: Broker>(
    name: &'static str,
    db: &ModuleDb,
    instance: impl Into<Arc<str>>,
    broker: B,
) -> WorkerSpec {
    let db = db.system("pass events on to a broker");
    let lease = Lease::new(db.clone(), name, instance, TTL);
    // A life of the worker has it for itself.
    let relay = Arc::new(Mutex::new(Relay {
        name,
        db,
        lease,
        held: None,
        broker,
        checked: None,
    }));
    let run = move |context| {
        let relay = Arc::clone(&relay);
        async move { relay.lock().await.run(context).await }
    };
    WorkerSpec::new(name, Schedule::Continuous, run).progress_within(PROGRESS_WITHIN)
}

struct Relay<B> {
    name: &'static str,
    db: Db,
    lease: Lease,
    held: Option<Held>,
    broker: B,
    /// What the broker said last of itself, and when.
    checked: Option<(tokio::time::Instant, NotDurable)>,
}

/// What a look at the log led to.
enum Step {
    Moved,
    Idle,
    Standby,
    Stuck(Reason),
}

impl<B: Broker> Relay<B> {
    async fn run(&mut self, context: WorkerContext) -> Result<(), DbError> {
        let signal = wake::signal(Vec::new());
        while !context.is_stopping() {
            context.beat();
            let step = match self.step().await {
                Ok(step) => step,
                Err(error) => match outage::reason(&error) {
                    Some(reason) => Step::Stuck(reason),
                    None => return Err(error),
                },
            };
            let (lifeline, serving) = (context.lifeline(), Serving::default());
            let not_durable = matches!(&self.checked, Some((_, Some(_))));
            match step {
                Step::Stuck(reason) => lifeline.unavailable(reason),
                _ if not_durable => lifeline.degraded(BROKER_NOT_DURABLE, serving),
                _ => lifeline.ready(serving),
            }
            if let Step::Moved = step {
                continue;
            }
            tokio::select! {
                () = signal.notified() => {}
                () = tokio::time::sleep(POLL.mul_f64(0.8 + 0.4 * fastrand::f64())) => {}
                () = context.stopping() => {}
            }
        }
        if let Some(held) = self.held.take() {
            // Else it ends by itself.
            self.lease.give_back(held, None).await.ok();
        }
        Ok(())
    }

    async fn step(&mut self) -> Result<Step, DbError> {
        self.held = self.lease.take().await?;
        if self.held.is_none() {
            return Ok(Step::Standby);
        }
        if let Err(error) = self.check().await {
            return Ok(unreachable_broker(self.name, &error));
        }
        let Some((after, page)) = self.look().await? else {
            let name = self.name;
            let begin = async move |tx: &mut Tx| cursor::begin(tx, name, Start::Beginning).await;
            self.db.transaction("begin to relay", begin).await?;
            return Ok(Step::Moved);
        };
        if page.is_ahead {
            return Ok(Step::Stuck(POSITION_AHEAD));
        }
        if after < page.expired {
            return Ok(Step::Stuck(EVENTS_EXPIRED));
        }
        let (next, found) = (page.next, page.events.len());
        if found > 0 {
            let published = self.broker.publish(page.events);
            match tokio::time::timeout(PUBLISHING, published).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Ok(unreachable_broker(self.name, &error)),
                Err(_) => {
                    let error = format!("no acknowledgement within {PUBLISHING:?}");
                    return Ok(unreachable_broker(self.name, &error));
                }
            }
        }
        if next != after {
            self.advance(after, next).await?;
        }
        Ok(if found > 0 { Step::Moved } else { Step::Idle })
    }

    /// Asks the broker whether it keeps what it acknowledges, if it was not asked lately.
    async fn check(&mut self) -> Result<(), HandlerError> {
        let is_due = |(at, _): &(tokio::time::Instant, _)| at.elapsed() >= CHECKED_EVERY;
        if !self.checked.as_ref().is_none_or(is_due) {
            return Ok(());
        }
        let found = tokio::time::timeout(CHECKING, self.broker.check()).await;
        let found = found.map_err(|_| format!("no answer within {CHECKING:?}"))??;
        let before = self.checked.take().and_then(|(_, found)| found);
        let name = self.name;
        match &found {
            Some(why) if before.as_ref() != Some(why) => warn!(
                "the broker of `{name}` may lose acknowledged events: {why}; the event log keeps them"
            ),
            None if before.is_some() => {
                info!("the broker of `{name}` stores acknowledged events durably")
            }
            _ => {}
        }
        self.checked = Some((tokio::time::Instant::now(), found));
        Ok(())
    }

    async fn look(&mut self) -> Result<Option<(Position, Page)>, DbError> {
        let name = self.name;
        let look = async move |c: &mut Connection| {
            let Some(after) = cursor::find(c, name).await? else {
                return Ok(None);
            };
            let page = log::read_all(c, &Filter::default(), after, BATCH).await?;
            Ok(Some((after, page)))
        };
        self.db.read("look for events to relay", look).await
    }

    /// Moves the cursor, unless it was rewound meanwhile.
    async fn advance(&mut self, after: Position, next: Position) -> Result<(), DbError> {
        let name = self.name;
        let advance = async move |tx: &mut Tx| {
            if cursor::lock(tx, name).await? == Some(after) {
                cursor::advance(tx, name, next).await?;
            }
            Ok::<_, DbError>(())
        };
        self.db.transaction("note relayed events", advance).await
    }
}

fn unreachable_broker(name: &str, error: &impl fmt::Display) -> Step {
    warn!(error = %error, "the broker of `{name}` is unavailable; retrying");
    Step::Stuck(BROKER_UNREACHABLE)
}
