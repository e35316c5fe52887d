//! Keeps the database usable: opens it, brings its schema up to date, watches it, says how it is.

use std::{
    error::Error,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::task::{AbortHandle, JoinHandle};
use tracing::{error, info, warn};

use super::{
    Config, Db, Journal, MigrateMode, OpenError, Pool, Target,
    account::{OfferOutcome, Rotation},
    migrations::{self, Status, Step},
    monitor::{Alarms, Health, Monitor},
    pool::Access,
    reason::{CREDENTIALS_REFUSED, MIGRATING, MIGRATION_FAILED, WORK_BLOCKED},
    runtime::{DbRuntime, WORKER_THREADS},
};
use dotmac_supervision::{Lifeline, Published, Reason, Serving, SupervisedActor};

/// Between two tries to open a database that is not there.
const RETRY: Duration = Duration::from_millis(500);

/// Between two looks for work that blocks its thread.
const LOOK: Duration = Duration::from_millis(500);

/// Pools at the most that were replaced because work blocks all of their threads, and still does.
const MOST_REPLACED: usize = 4;

/// Time for the journal's last lines at a stop, and for the connections to close.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// The actor of one database. It takes no messages: queries go through [`Db`].
pub struct DbActor {
    lifeline: Lifeline,
    config: Config,
    slot: Published<Pool>,
    journal: Option<Journal>,
    /// The pool of this life, published whenever the database is usable.
    pool: Option<Arc<Pool>>,
    /// Those before it that were replaced because work blocks all of their threads, as long as it does.
    replaced: Vec<Weak<Pool>>,
    /// How many were: what was begun for an earlier pool ends without effect.
    generation: u64,
    keeping: Option<JoinHandle<()>>,
    /// The monitor's present check, on its own connection.
    watching: Option<AbortHandle>,
    /// The task that takes the next account.
    turning: Option<AbortHandle>,
    /// The last logged fault, so that it is logged once.
    complaint: Option<Reason>,
    /// Nothing is published.
    is_down: bool,
    /// The next account is refused, while the present one still does its work.
    refused: bool,
}

impl DbActor {
    /// An actor that publishes its pool to `slot` and writes `journal` into the database, if given.
    #[must_use]
    pub fn new(
        lifeline: Lifeline,
        config: Config,
        slot: Published<Pool>,
        journal: Option<Journal>,
    ) -> Self {
        Self {
            lifeline,
            config,
            slot,
            journal,
            pool: None,
            replaced: Vec::new(),
            generation: 0,
            keeping: None,
            watching: None,
            turning: None,
            complaint: None,
            is_down: true,
            refused: false,
        }
    }

    /// Tries to open the database; again later if that may help.
    fn open(&mut self, context: &mut Context<Self>) {
        let (config, lifeline) = (self.config.clone(), self.lifeline.clone());
        let opening = match DbRuntime::start(self.config.observe_runtime) {
            Ok(runtime) => runtime
                .handle()
                .clone()
                .spawn(open(config, lifeline, runtime)),
            Err(problem) => return self.lifeline.fail(problem.reason(), problem),
        };
        let opened =
            fut::wrap_future::<_, Self>(opening).map(|opened, actor, context| match opened {
                Ok(Ok(pool)) => actor.serve(pool, context),
                Ok(Err(problem)) => actor.retry(&problem, context),
                Err(died) => actor.lifeline.fail(Reason::PANICKED, died),
            });
        context.spawn(opened);
    }

    fn retry(&mut self, problem: &OpenError, context: &mut Context<Self>) {
        if problem.is_permanent() {
            return self.lifeline.cannot_start(problem.reason(), problem);
        }
        if let OpenError::Migration(_) = problem {
            // Running it again would fail again: this waits until the migration is corrected.
            self.lifeline.unavailable(MIGRATION_FAILED);
            error!(
                error = problem as &dyn Error,
                "the database cannot be migrated; correct the migration or the data, then restart this process"
            );
            return;
        }
        self.complain(problem.reason(), Some(problem));
        // The next try takes what is offered then: no pool holds on to what this one took.
        if let Target::Postgres(server) = &self.config.target {
            server.credentials.clear();
        }
        context.run_later(RETRY, Self::open);
    }

    /// Says that the database does not do its work, in the log once for each reason.
    fn complain(&mut self, reason: Reason, problem: Option<&OpenError>) {
        self.lifeline.unavailable(reason);
        self.is_down = true;
        // Work that blocks is named where it is found, which is to stay the last that was said.
        if self.complaint.replace(reason) != Some(reason) && reason != WORK_BLOCKED {
            let error = problem.map(|problem| problem as &dyn Error);
            if let Some(OpenError::FileChanged { .. }) = problem {
                error!(
                    reason = reason.as_str(),
                    error,
                    "the database file was changed from outside; it is neither read nor written"
                );
                return;
            }
            warn!(
                reason = reason.as_str(),
                error, "database unavailable; retrying"
            );
        }
    }

    fn serve(&mut self, pool: Pool, context: &mut Context<Self>) {
        let pool = Arc::new(pool);
        self.pool = Some(Arc::clone(&pool));
        self.declare_ready();
        if let Some(journal) = self.journal.clone() {
            let db = Db::new(self.slot.clone());
            self.keeping = Some(pool.runtime().handle().spawn(journal.keep(db)));
        }
        if let Some(rotation) = Rotation::new(&self.config, &pool) {
            self.follow(rotation, context);
        }
        self.look_after(Monitor::new(self.config.clone(), pool), context);
    }

    fn declare_ready(&mut self) {
        let Some(pool) = &self.pool else { return };
        self.is_down = false;
        self.lifeline.publish(&self.slot, Arc::clone(pool));
        let serving = Serving::from(self.config.target.system());
        if self.refused {
            self.lifeline.degraded(CREDENTIALS_REFUSED, serving);
        } else {
            self.lifeline.ready(serving);
        }
        if self.complaint.take().is_some() {
            info!("database available again");
        }
    }

    /// Reports a limitation; logs each reason once.
    fn declare_impaired(&mut self, reason: Reason) {
        let Some(pool) = &self.pool else { return };
        self.is_down = false;
        self.lifeline.publish(&self.slot, Arc::clone(pool));
        self.lifeline
            .degraded(reason, Serving::from(self.config.target.system()));
        if self.complaint.replace(reason) != Some(reason) && reason != WORK_BLOCKED {
            warn!(reason = reason.as_str(), "database degraded");
        }
    }

    /// Looks for work that blocks its thread. That is seen from here alone: the monitor shares those threads, and does not
    /// come back while all of them are blocked.
    fn look_for_blocked(&mut self, context: &mut Context<Self>) {
        let is_blocked = |pool: Arc<Pool>| pool.look_for_blocked() > 0;
        self.replaced
            .retain(|pool| pool.upgrade().is_some_and(is_blocked));
        let Some(pool) = &self.pool else { return };
        if pool.look_for_blocked() < WORKER_THREADS {
            return;
        }
        if self.replaced.len() >= MOST_REPLACED {
            return self.complain(WORK_BLOCKED, None);
        }
        warn!(
            reason = WORK_BLOCKED.as_str(),
            "work blocks all threads of the database; others go on with new threads and connections"
        );
        self.replaced.push(Arc::downgrade(pool));
        self.generation += 1;
        self.complain(WORK_BLOCKED, None);
        self.watching.take().iter().for_each(AbortHandle::abort);
        self.turning.take().iter().for_each(AbortHandle::abort);
        self.refused = false;
        self.let_go();
        self.open(context);
    }

    /// Takes the accounts that are offered, one after another.
    fn follow(&mut self, rotation: Rotation, context: &mut Context<Self>) {
        let Some(pool) = &self.pool else { return };
        let turning = pool.runtime().handle().spawn(rotation.turn());
        self.turning = Some(turning.abort_handle());
        let turn = fut::wrap_future::<_, Self>(turning);
        let generation = self.generation;
        context.spawn(turn.map(move |turned, actor, context| match turned {
            _ if actor.generation != generation => {}
            Ok((rotation, turn)) => {
                actor.turned(turn);
                actor.follow(rotation, context);
            }
            Err(died) => actor.lifeline.fail(Reason::PANICKED, died),
        }));
    }

    fn turned(&mut self, turn: OfferOutcome) {
        let was_refused =
            std::mem::replace(&mut self.refused, matches!(turn, OfferOutcome::Refused(_)));
        match turn {
            OfferOutcome::Swapped => info!("new connections use the new credentials"),
            OfferOutcome::Refused(problem) if !was_refused => warn!(
                reason = problem.reason().as_str(),
                error = &problem as &dyn Error,
                "the server refuses the new credentials; keeping the former ones, retrying"
            ),
            OfferOutcome::Refused(_) => {}
            // Why it is down already is for the monitor to say: without a user it still sees the server.
            OfferOutcome::Withdrawn(_) if self.is_down => {}
            OfferOutcome::Withdrawn(reason) => {
                self.heed(Health::Down(reason, Some(OpenError::NoAccount(reason))));
            }
        }
        if self.complaint.is_none() && was_refused != self.refused {
            self.declare_ready();
        }
    }

    /// Has the monitor look when it is time to, judges, and so on.
    fn look_after(&mut self, monitor: Monitor, context: &mut Context<Self>) {
        let Some(pool) = &self.pool else { return };
        let watching = pool.runtime().handle().spawn(monitor.watch());
        self.watching = Some(watching.abort_handle());
        let watched = fut::wrap_future::<_, Self>(watching);
        let generation = self.generation;
        context.spawn(watched.map(move |watched, actor, context| match watched {
            _ if actor.generation != generation => {}
            // The monitor's connection is closed with it, as all others are, before the file is reopened.
            Ok((_monitor, Health::Down(_, Some(changed @ OpenError::FileChanged { .. })))) => {
                actor.let_go();
                actor.retry(&changed, context);
            }
            Ok((monitor, health)) => {
                actor.heed(health);
                actor.look_after(monitor, context);
            }
            // At a stop.
            Err(ended) if ended.is_cancelled() => {}
            Err(died) => actor.lifeline.fail(Reason::PANICKED, died),
        }));
    }

    /// Closes idle connections and lends none any more; work under way keeps its connections to its end.
    fn let_go(&mut self) {
        self.keeping.take().iter().for_each(JoinHandle::abort);
        self.pool.take().iter().for_each(|pool| pool.close());
    }

    fn heed(&mut self, health: Health) {
        match health {
            // Its monitor does not check the pools before it.
            Health::Good if !self.replaced.is_empty() => self.declare_impaired(WORK_BLOCKED),
            Health::Good if self.complaint.is_some() => self.declare_ready(),
            Health::Good => {}
            Health::Impaired(reason) => self.declare_impaired(reason),
            Health::Down(reason, problem) => {
                self.complain(reason, problem.as_ref());
                // Idle connections are useless now; new work must get new ones.
                self.pool.iter().for_each(|pool| pool.drop_idle());
            }
        }
    }
}

/// Migrates as the mode says, then builds the pool and proves it with a first connection.
async fn open(config: Config, lifeline: Lifeline, runtime: DbRuntime) -> Result<Pool, OpenError> {
    if config.migrate != MigrateMode::Off {
        let mut status = migrations::migrate(&config, Step::Look).await?.status;
        suits(&status, config.migrate)?;
        if !status.pending().is_empty() {
            // Before the lock, which another replica may hold for long.
            lifeline.unavailable(MIGRATING);
            let outcome = migrations::migrate(&config, Step::Up).await?;
            info!(
                migrations = outcome.changed.join(", "),
                "the database is up to date"
            );
            status = outcome.status;
        }
        let unknown = status.unknown();
        if !unknown.is_empty() {
            warn!(
                migrations = unknown.join(", "),
                "the database has migrations that this program does not know; they are marked as compatible"
            );
        }
    }
    let pool = Pool::new(&config, runtime, &Alarms::default())?;
    let deadline = Instant::now() + config.pool_timeout;
    let first = pool.connection(Access::Write, deadline);
    match first.await {
        Ok(_) => Ok(pool),
        Err(super::DbError::Connect(problem)) => Err(problem),
        Err(other) => Err(OpenError::Setup(other.to_string())),
    }
}

/// Whether this program may use, or bring up to date, a schema like this.
fn suits(status: &Status, mode: MigrateMode) -> Result<(), OpenError> {
    status.suits()?;
    let pending = status.pending();
    if mode == MigrateMode::Check && !pending.is_empty() {
        return Err(OpenError::MigrationsPending(pending.join(", ")));
    }
    Ok(())
}

impl Actor for DbActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        context.run_interval(LOOK, Self::look_for_blocked);
        self.open(context);
    }
}

impl SupervisedActor for DbActor {
    /// Writes the journal's last lines, then lends no more connections and waits until they are closed; work under way keeps
    /// its own.
    fn shutdown(&mut self, context: &mut Self::Context) {
        self.keeping.take().iter().for_each(JoinHandle::abort);
        self.watching.take().iter().for_each(AbortHandle::abort);
        let Some(pool) = self.pool.take() else {
            return context.stop();
        };
        let journal = self.journal.clone();
        let closing = async move {
            if let Some(journal) = journal {
                // The slot is empty by now: no new work is let in but these last lines.
                let last = Published::new();
                last.offer(Arc::clone(&pool));
                let last = Db::new(last);
                let closed = tokio::time::timeout(CLOSE_LIMIT, journal.close(&last));
                if closed.await.is_err() {
                    warn!("the last lines of the runtime journal were not written in time");
                }
            }
            pool.close();
            let closed = tokio::time::timeout(CLOSE_LIMIT, pool.closed());
            if closed.await.is_err() {
                warn!(
                    "connections are still open: the newest commits remain in the write-ahead log (`-wal`)"
                );
            }
        };
        context.spawn(fut::wrap_future::<_, Self>(closing).map(|(), _, context| context.stop()));
    }
}

impl Drop for DbActor {
    fn drop(&mut self) {
        self.keeping.take().iter().for_each(JoinHandle::abort);
        self.watching.take().iter().for_each(AbortHandle::abort);
    }
}
