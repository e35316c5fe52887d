//! The sender: a worker of each instance that claims due deliveries, sends them, and writes down what came of each.
//!
//! Not jobs of the queue: a job's rules are those of its kind, and what is needed here is a lane for each of thousands of
//! endpoints (so many at once, fewer while it is slow, none while it is held), chosen before anything is claimed.
//!
//! Sending is done by tasks that belong to the worker and end with it. A delivery that an instance has claimed has a lease of
//! [`LEASE`], which is renewed while it is being sent; what an instance does not end is taken back by any other. No query is
//! open while something is sent.

mod attempt;
mod parcel;
mod settle;

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use dotmac_platform::{
    db::{Connection, Db, DbError, Tx, types::Id},
    delivery::{self, Ladder, LaneRules},
    module::WorkerError as _,
    supervision::{Serving, WorkerContext},
};
use futures_util::FutureExt as _;
use tokio::{task::JoinSet, time::sleep};

use crate::{
    SENDER, WebhooksError, metrics,
    service::Service,
    store::{
        claims::{self, Claimed, Look, Wanted, WorkerId},
        deliveries::DeliveryId,
        endpoints::EndpointId,
        leases,
    },
};
use attempt::Ended;
pub(crate) use attempt::Verdict;
use parcel::Parcel;

/// How long a delivery belongs to the instance that has claimed it.
const LEASE: Duration = Duration::from_secs(15);
/// How often leases are renewed, and expired ones taken back.
const RENEW: Duration = Duration::from_secs(4);
/// How often it looks without being woken: that, or up to a fifth more or less.
const POLL: Duration = Duration::from_secs(1);
/// How soon it looks again when a look found something.
const AGAIN: Duration = Duration::from_millis(20);
/// Attempts that are written down with one transaction.
const MOST_ENDED: usize = 256;
/// How long attempts have to end when the process stops; then they are given back.
const STOP: Duration = Duration::from_secs(3);

/// A life of the sender.
pub(super) struct Sender {
    on: Service,
    db: Db,
    me: WorkerId,
    ladder: Ladder,
    rules: LaneRules,
    /// Behind which endpoint the next claim begins.
    turn: EndpointId,
    /// By delivery and lease.
    under_way: HashMap<(DeliveryId, i64), Claimed>,
    tasks: JoinSet<Ended>,
    /// What is not written down yet.
    ended: Vec<Arc<Ended>>,
    /// When leases were last renewed.
    kept: Option<Instant>,
}

/// Sends until the process stops.
pub(crate) async fn run(on: Service, context: WorkerContext) -> Result<(), WebhooksError> {
    let sender = Sender {
        db: on.db.system("send webhooks"),
        me: Id::new(),
        ladder: on.settings.ladder(),
        rules: on.settings.lanes(),
        turn: EndpointId::from_uuid(uuid::Uuid::nil()),
        under_way: HashMap::new(),
        tasks: JoinSet::new(),
        ended: Vec::new(),
        kept: None,
        on,
    };
    sender.run(&context).await
}

impl Sender {
    async fn run(mut self, context: &WorkerContext) -> Result<(), WebhooksError> {
        let signal = delivery::signal(vec![SENDER]);
        while !context.is_stopping() {
            context.beat();
            let wait = match self.step().await {
                Ok(found) => {
                    context.lifeline().ready(Serving::default());
                    self.wait(found)
                }
                Err(error) => {
                    // What is under way goes on, and what has ended is kept until it can be written down.
                    let reason = error.upstream().ok_or(error)?;
                    context.lifeline().unavailable(reason);
                    POLL
                }
            };
            tokio::select! {
                Some(ended) = self.tasks.join_next() => self.note(ended),
                () = signal.notified() => {}
                () = sleep(wait) => {}
                () = context.stopping() => {}
            }
            self.note_all();
        }
        self.stop().await
    }

    /// Writes down what has ended, keeps leases, and claims what there is room for; how many.
    async fn step(&mut self) -> Result<usize, WebhooksError> {
        self.settle().await?;
        if self.kept.is_none_or(|kept| kept.elapsed() >= RENEW) {
            self.keep_leases().await?;
            self.kept = Some(Instant::now());
        }
        self.claim().await
    }

    /// How long there is nothing to do after a claim of so many, unless something happens.
    fn wait(&self, found: usize) -> Duration {
        match found {
            0 => POLL.mul_f64(0.8 + 0.4 * fastrand::f64()),
            _ if self.room() <= 0 => RENEW,
            _ => AGAIN,
        }
    }

    /// How many more deliveries may be under way.
    fn room(&self) -> i64 {
        let most = self.on.settings.concurrency;
        i64::try_from(most.saturating_sub(self.under_way.len())).unwrap_or(i64::MAX)
    }

    /// Claims what there is room for, and begins to send it; how many.
    async fn claim(&mut self) -> Result<usize, WebhooksError> {
        let (most, rules) = (self.room(), self.rules);
        if most <= 0 || !self.look().await?.has_pending {
            return Ok(0);
        }
        let (worker, turn) = (self.me, self.turn);
        let claim = async move |tx: &mut Tx| {
            let now = delivery::database_now(tx).await?;
            let wanted = Wanted {
                worker,
                most,
                turn,
                rules,
                now,
                leased_until: now + LEASE,
            };
            let claims = claims::claim(tx, wanted).await?;
            let parcels = parcel::load(tx, claims.deliveries, now).await?;
            Ok::<_, DbError>((parcels, claims.turn))
        };
        let (parcels, turn) = self.db.transaction("claim webhooks", claim).await?;
        if let Some(turn) = turn {
            self.turn = turn;
        }
        let found = parcels.len();
        for parcel in parcels {
            self.begin(parcel);
        }
        Ok(found)
    }

    fn begin(&mut self, parcel: Parcel) {
        let (on, claimed) = (self.on.clone(), parcel.claimed.clone());
        self.under_way
            .insert((claimed.id, claimed.lease), claimed.clone());
        self.tasks.spawn(async move {
            let began = Instant::now();
            let sent = AssertUnwindSafe(attempt::send(&on, parcel)).catch_unwind();
            sent.await
                .unwrap_or_else(|_| Ended::panicked(claimed, began))
        });
    }

    fn note(&mut self, ended: Result<Ended, tokio::task::JoinError>) {
        // A panic is caught within the task, and nobody aborts one before the worker ends.
        if let Ok(ended) = ended {
            let Claimed { id, lease, .. } = ended.claimed;
            self.under_way.remove(&(id, lease));
            self.ended.push(Arc::new(ended));
        }
    }

    /// Takes what has ended by now.
    fn note_all(&mut self) {
        while self.ended.len() < MOST_ENDED
            && let Some(ended) = self.tasks.try_join_next()
        {
            self.note(ended);
        }
    }

    /// Without a transaction that writes, since most of the time there is nothing.
    async fn look(&self) -> Result<Look, DbError> {
        let look = async |c: &mut Connection| claims::look(c).await;
        self.db.read("look for webhooks", look).await
    }

    /// Renews the leases of what is under way, and takes back what other instances did not end.
    async fn keep_leases(&self) -> Result<(), WebhooksError> {
        let mine: Vec<_> = self.under_way.values().cloned().collect();
        if mine.is_empty() && !self.look().await?.has_expired {
            return Ok(());
        }
        let most_tries = i32::try_from(self.ladder.attempts()).unwrap_or(i32::MAX);
        let keep = async move |tx: &mut Tx| {
            let now = delivery::database_now(tx).await?;
            if !mine.is_empty() {
                leases::renew(tx, &mine, now + LEASE).await?;
            }
            leases::take_back(tx, now, most_tries).await
        };
        let taken: Result<usize, DbError> = self.db.transaction("keep leases", keep).await;
        let taken = taken?;
        if taken > 0 {
            metrics::interrupted(taken);
            tracing::warn!(
                deliveries = taken,
                "took over webhook deliveries of an instance that did not end them"
            );
        }
        Ok(())
    }

    /// Lets what is under way end, as far as it does soon; the rest goes to other instances.
    async fn stop(mut self) -> Result<(), WebhooksError> {
        let deadline = Instant::now() + STOP;
        while !self.under_way.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            match tokio::time::timeout(left, self.tasks.join_next()).await {
                Ok(Some(ended)) => self.note(ended),
                Ok(None) | Err(_) => break,
            }
        }
        self.tasks.abort_all();
        self.settle().await?;
        let left: Vec<_> = self.under_way.into_values().collect();
        if left.is_empty() {
            return Ok(());
        }
        let give_back = async move |tx: &mut Tx| {
            let now = delivery::database_now(tx).await?;
            leases::give_back(tx, left, now).await
        };
        let given: Result<(), DbError> = self.db.transaction("give webhooks back", give_back).await;
        Ok(given?)
    }
}
