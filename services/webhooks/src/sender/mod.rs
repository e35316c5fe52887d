//! The sender: a worker of each instance that claims due deliveries, sends them, and writes down what came of each.
//!
//! Not jobs of the queue: a job's rules are those of its kind, and what is needed here is a lane for each of thousands of
//! endpoints (so many at once, fewer while it is slow, none while it is held), chosen before anything is claimed.
//!
//! Sending is done by tasks that belong to the worker and end with it. What is to be done in the database is done for many
//! deliveries at once, by one [cycle](cycle) after another, while tasks go on. A delivery that an instance has claimed has a
//! lease of [`LEASE`], which is renewed until it is written down; what an instance does not end is taken back by any other. No
//! query is open while something is sent.

mod attempt;
mod cycle;
mod lanes;
mod parcel;
mod settle;

use std::{
    collections::HashMap,
    future::pending,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use dotmac_platform::{
    db::{DbError, Tx, types::Id},
    delivery,
    module::WorkerError as _,
    supervision::{Serving, WorkerContext},
};
use futures_util::{FutureExt as _, future::BoxFuture};
use tokio::{task::JoinSet, time::sleep};

use crate::{
    SENDER, WebhooksError,
    service::Service,
    store::{claims::Claimed, deliveries::DeliveryId, endpoints::EndpointId, leases},
};
use attempt::Ended;
pub(crate) use attempt::Verdict;
use cycle::{Ask, Cycles, Done, Work};
use lanes::{LocalLanes, Next};
use parcel::Parcel;

/// How long a delivery belongs to the instance that has claimed it.
const LEASE: Duration = Duration::from_secs(15);
/// How often leases are renewed, and expired ones taken back.
const RENEW: Duration = Duration::from_secs(4);
/// How often it looks without being woken: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_secs(1);
/// How soon it claims again when a claim found something.
const AGAIN: Duration = Duration::from_millis(20);
/// How long attempts that have ended wait for others to be written down with, while some are under way.
const GATHER: Duration = Duration::from_millis(5);
/// Attempts that are written down with one transaction, unless more end while it is prepared.
const MANY_ENDED: usize = 256;
/// How long attempts have to end when the process stops; then they are given back.
const STOP: Duration = Duration::from_secs(3);

/// A cycle that runs.
type Running = Option<BoxFuture<'static, Done>>;

/// A life of the sender.
struct Sender {
    on: Service,
    cycles: Cycles,
    /// Behind which endpoint the next claim begins.
    turn: EndpointId,
    lanes: LocalLanes,
    /// All that is claimed and has not ended, by delivery and lease.
    under_way: HashMap<(DeliveryId, i64), Claimed>,
    tasks: JoinSet<Ended>,
    /// What is not written down yet, and since when there is something.
    ended: Vec<Arc<Ended>>,
    returned: Vec<Claimed>,
    unwritten_since: Option<Instant>,
    /// When leases were last renewed.
    kept: Option<Instant>,
    /// When there is to be another claim unless it is woken, and whether something is known to be there.
    claim_at: Instant,
    has_more: bool,
    /// Whether it was woken since it last asked for something.
    woken: bool,
    /// Until when the database is left alone.
    paused_until: Option<Instant>,
}

/// Sends until the process stops.
pub(crate) async fn run(on: Service, context: WorkerContext) -> Result<(), WebhooksError> {
    let sender = Sender {
        cycles: Cycles {
            db: on.db.system("send webhooks"),
            me: Id::new(),
            ladder: Arc::new(on.settings.ladder()),
            rules: on.settings.lanes(),
        },
        turn: EndpointId::from_uuid(uuid::Uuid::nil()),
        lanes: LocalLanes::default(),
        under_way: HashMap::new(),
        tasks: JoinSet::new(),
        ended: Vec::new(),
        returned: Vec::new(),
        unwritten_since: None,
        kept: None,
        claim_at: Instant::now(),
        has_more: false,
        woken: false,
        paused_until: None,
        on,
    };
    sender.run(&context).await
}

/// What the cycle has done, once it has; never without one.
async fn finished(cycle: &mut Running) -> Done {
    match cycle {
        Some(cycle) => cycle.await,
        None => pending().await,
    }
}

impl Sender {
    async fn run(mut self, context: &WorkerContext) -> Result<(), WebhooksError> {
        let signal = delivery::signal(vec![SENDER]);
        let mut cycle: Running = None;
        while !context.is_stopping() {
            context.beat();
            if cycle.is_none() && self.is_due() {
                cycle = Some(Box::pin(self.cycles.clone().run(self.work())));
            }
            let wait = match cycle {
                Some(_) => RENEW,
                None => self.wait(),
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.note(ended),
                done = finished(&mut cycle) => {
                    cycle = None;
                    let error = self.take(done);
                    if !context.is_stopping() {
                        self.start_waiting();
                    }
                    match error {
                        None => context.lifeline().ready(Serving::default()),
                        Some(error) => {
                            // What is under way goes on, and what has ended is kept until it can be written down.
                            let reason = error.upstream().ok_or(error)?;
                            context.lifeline().unavailable(reason);
                            self.paused_until = Some(Instant::now() + POLL);
                        }
                    }
                }
                () = signal.notified() => self.woken = true,
                () = sleep(wait) => {}
                () = context.stopping() => {}
            }
            if context.is_stopping() {
                break;
            }
            while let Some(ended) = self.tasks.try_join_next() {
                self.note(ended);
            }
        }
        if let Some(cycle) = cycle {
            // What it claimed is not begun any more.
            let done = cycle.await;
            self.take(done);
        }
        self.stop().await
    }

    /// Whether there is something to do in the database.
    fn is_due(&self) -> bool {
        let now = Instant::now();
        if self.paused_until.is_some_and(|until| until > now) {
            return false;
        }
        let is_gathered = self.unwritten_since.is_some_and(|since| {
            self.tasks.is_empty()
                || self.ended.len() >= MANY_ENDED
                || now.duration_since(since) >= GATHER
        });
        is_gathered || self.keeps_leases() || (self.is_claim_due() && self.room() > 0)
    }

    /// How long there is nothing to do in the database, unless something happens.
    fn wait(&self) -> Duration {
        let now = Instant::now();
        let gathered = self.unwritten_since.map(|since| since + GATHER);
        let kept = self.kept.map(|kept| kept + RENEW);
        let claim_at = if self.woken { now } else { self.claim_at };
        let claim = Some(claim_at).filter(|_| self.room() > 0);
        let next = [gathered, kept, claim].into_iter().flatten().min();
        let next = next.max(self.paused_until);
        next.map_or(POLL, |next| next.saturating_duration_since(now))
            .min(POLL)
    }

    fn is_claim_due(&self) -> bool {
        self.woken || self.claim_at <= Instant::now()
    }

    fn keeps_leases(&self) -> bool {
        self.kept.is_none_or(|kept| kept.elapsed() >= RENEW)
    }

    /// How many more attempts may be under way.
    fn room(&self) -> usize {
        let most = self.on.settings.concurrency;
        most.saturating_sub(self.lanes.places())
    }

    /// What is to be done in the database now.
    fn work(&mut self) -> Work {
        let room = self.room();
        let asks = room > 0 && (self.is_claim_due() || self.has_more);
        let looks = !(self.has_more || self.woken);
        if asks {
            self.woken = false;
        }
        self.unwritten_since = None;
        Work {
            ended: std::mem::take(&mut self.ended),
            returned: std::mem::take(&mut self.returned),
            kept: self
                .keeps_leases()
                .then(|| self.under_way.values().cloned().collect()),
            ask: asks.then(|| Ask {
                most: u32::try_from(room).unwrap_or(u32::MAX),
                ahead: Arc::new(self.lanes.ahead()),
                ahead_in_all: self.lanes.ahead_in_all(self.on.settings.concurrency),
                turn: self.turn,
                looks,
            }),
        }
    }

    /// Takes what a cycle has done; why it could not do all of it.
    fn take(&mut self, done: Done) -> Option<WebhooksError> {
        let Done {
            left,
            error,
            has_kept,
            got,
        } = done;
        let (mut ended, mut returned) = (left.ended, left.returned);
        ended.append(&mut self.ended);
        returned.append(&mut self.returned);
        (self.ended, self.returned) = (ended, returned);
        if !self.ended.is_empty() || !self.returned.is_empty() {
            self.unwritten_since.get_or_insert_with(Instant::now);
        }
        let now = Instant::now();
        if has_kept {
            self.kept = Some(now);
        }
        self.paused_until = None;
        self.lanes.forget_idle();
        let Some(got) = got else {
            return error;
        };
        self.turn = got.turn.unwrap_or(self.turn);
        self.has_more = !got.parcels.is_empty();
        self.claim_at = match self.has_more {
            true => now + AGAIN,
            false => now + POLL.mul_f64(0.8 + 0.4 * fastrand::f64()),
        };
        let began = got.began.unwrap_or(now);
        for parcel in got.parcels {
            let claimed = parcel.claimed.clone();
            let width = got.widths.get(&claimed.endpoint_id).copied();
            self.under_way.insert((claimed.id, claimed.lease), claimed);
            self.lanes.add(parcel, width.unwrap_or(1), began);
        }
        error
    }

    /// Begins what waits, as far as there is room for it.
    fn start_waiting(&mut self) {
        for endpoint in self.lanes.waiting() {
            self.start(endpoint);
        }
    }

    /// Begins what may be under way to an endpoint.
    fn start(&mut self, endpoint: EndpointId) {
        while self.tasks.len() < self.on.settings.concurrency {
            match self.lanes.next(endpoint) {
                Some(Next::Send(parcel)) => self.begin(parcel),
                Some(Next::Return(claimed)) => self.give_back(claimed),
                None => return,
            }
        }
    }

    fn begin(&mut self, parcel: Parcel) {
        let (on, claimed) = (self.on.clone(), parcel.claimed.clone());
        self.tasks.spawn(async move {
            let began = Instant::now();
            let sent = AssertUnwindSafe(attempt::send(&on, parcel)).catch_unwind();
            sent.await
                .unwrap_or_else(|_| Ended::panicked(claimed, began))
        });
    }

    fn give_back(&mut self, claimed: Claimed) {
        self.under_way.remove(&(claimed.id, claimed.lease));
        self.returned.push(claimed);
        self.unwritten_since.get_or_insert_with(Instant::now);
    }

    fn note(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // A panic is caught within the task, and none is aborted before the worker ends.
        let Ok(ended) = ended else { return };
        let was_full = self.tasks.len() + 1 >= self.on.settings.concurrency;
        let Claimed {
            id,
            lease,
            endpoint_id,
            ..
        } = ended.claimed;
        self.under_way.remove(&(id, lease));
        let is_well = ended.verdict == Verdict::Delivered && ended.took <= self.cycles.rules.slow;
        let took = is_well.then_some(ended.took);
        for claimed in self.lanes.ended(endpoint_id, took) {
            self.give_back(claimed);
        }
        self.ended.push(Arc::new(ended));
        self.unwritten_since.get_or_insert_with(Instant::now);
        self.start(endpoint_id);
        if was_full {
            self.start_waiting();
        }
    }

    /// Lets what is under way end, as far as it does soon; the rest goes to other instances.
    async fn stop(mut self) -> Result<(), WebhooksError> {
        for claimed in self.lanes.take_waiting() {
            self.give_back(claimed);
        }
        let deadline = Instant::now() + STOP;
        while !self.under_way.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.note(ended),
                Ok(None) | Err(_) => break,
            }
        }
        while let Some(ended) = self.tasks.try_join_next() {
            self.note(ended);
        }
        self.tasks.abort_all();
        let mut work = Work {
            ended: self.ended,
            returned: self.returned,
            ..Work::default()
        };
        let settled = self.cycles.settle(&mut work).await;
        let left: Vec<_> = self.under_way.into_values().collect();
        if left.is_empty() {
            return settled;
        }
        let give_back = async move |tx: &mut Tx| {
            let now = delivery::database_now(tx).await?;
            leases::give_back(tx, left, now).await
        };
        let db = &self.cycles.db;
        let given: Result<(), DbError> = db.transaction("give webhooks back", give_back).await;
        settled.and(given.map_err(WebhooksError::from))
    }
}
