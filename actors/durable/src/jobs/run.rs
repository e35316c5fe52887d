//! A job while it runs: what its handler is given.

use std::{
    fmt,
    ops::Deref,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use dotmac_db::{DbError, TenantId, TenantScope, Tx, types::Moment};
use tokio::{sync::watch, task::AbortHandle};

use super::{
    Job, JobError, JobId, JobState, KindSpec, MAX_RESULT, SYSTEM,
    claim::Claimed,
    error::cut,
    measure,
    settle::{self, Lease},
};

/// The longest message of a progress, in bytes.
const MAX_MESSAGE: usize = 512;

/// A job of type `J` that is being done. Derefs to its arguments.
///
/// What a handler writes, it writes in transactions of its own. [`guard`](Self::guard) makes one of them take place only
/// if the job is still this worker's; [`complete`](Self::complete) also ends the job with it.
pub struct Run<J: Job> {
    args: J,
    state: Arc<RunState>,
}

/// What the runner knows of a job that runs.
pub(super) struct RunState {
    pub(super) lease: Lease,
    pub(super) spec: KindSpec,
    pub(super) queue: String,
    pub(super) attempt: i32,
    pub(super) max_attempts: i32,
    pub(super) crashes: i32,
    pub(super) started: Instant,
    pub(super) started_at: Moment,
    /// When it last showed progress, in milliseconds since it was started.
    beat: AtomicU64,
    progress: Mutex<Option<Progress>>,
    signal: watch::Sender<Signal>,
    pub(super) cancelled_at: OnceLock<Instant>,
    /// Its end is on its way: nothing else ends it.
    is_over: AtomicBool,
    /// Its handler has completed it in a transaction.
    is_completed: AtomicBool,
    pub(super) task: OnceLock<AbortHandle>,
    given_up: watch::Sender<bool>,
}

/// How far a job has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) done: i64,
    pub(super) total: Option<i64>,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Signal {
    GoOn,
    Stop,
    Cancel,
}

impl RunState {
    pub(super) fn new(spec: KindSpec, claimed: &Claimed) -> Self {
        Self {
            lease: claimed.lease,
            spec,
            queue: claimed.queue.clone(),
            attempt: claimed.attempt,
            max_attempts: claimed.max_attempts,
            crashes: claimed.crashes,
            started: Instant::now(),
            started_at: claimed.at,
            beat: AtomicU64::new(0),
            progress: Mutex::new(None),
            signal: watch::Sender::new(Signal::GoOn),
            cancelled_at: OnceLock::new(),
            is_over: AtomicBool::new(false),
            is_completed: AtomicBool::new(false),
            task: OnceLock::new(),
            given_up: watch::Sender::new(false),
        }
    }

    fn beat(&self) {
        let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.beat.store(millis, Relaxed);
    }

    /// How long it has shown no progress.
    pub(super) fn silent(&self) -> Duration {
        let beat = Duration::from_millis(self.beat.load(Relaxed));
        self.started.elapsed().saturating_sub(beat)
    }

    /// What it has said since this was last asked.
    pub(super) fn take_progress(&self) -> Option<Progress> {
        self.lock_progress().take()
    }

    fn lock_progress(&self) -> std::sync::MutexGuard<'_, Option<Progress>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this is the first to end it.
    pub(super) fn end(&self) -> bool {
        !self.is_over.swap(true, Relaxed)
    }

    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Relaxed)
    }

    pub(super) fn is_completed(&self) -> bool {
        self.is_completed.load(Relaxed)
    }

    pub(super) fn cancel(&self) {
        self.cancelled_at.get_or_init(Instant::now);
        self.signal.send_replace(Signal::Cancel);
    }

    pub(super) fn is_cancelled(&self) -> bool {
        *self.signal.borrow() == Signal::Cancel
    }

    pub(super) fn is_stopping(&self) -> bool {
        *self.signal.borrow() == Signal::Stop
    }

    pub(super) fn stop(&self) {
        self.signal.send_if_modified(|signal| {
            let goes_on = *signal == Signal::GoOn;
            if goes_on {
                *signal = Signal::Stop;
            }
            goes_on
        });
    }

    /// Has its task end at its `.await`, and its transaction with it.
    pub(super) fn abort(&self) {
        self.given_up.send_replace(true);
        if let Some(task) = self.task.get() {
            task.abort();
        }
    }
}

impl<J: Job> Run<J> {
    pub(super) fn new(args: J, state: Arc<RunState>) -> Self {
        Self { args, state }
    }

    /// The job's id, which is the same for each of its attempts: a key for what must be done once elsewhere.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.state.lease.id
    }

    /// The number of this attempt, from 1.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        u32::try_from(self.state.attempt).unwrap_or(1)
    }

    /// Whose job it is; `None` for the system's.
    #[must_use]
    pub fn tenant(&self) -> Option<TenantId> {
        Some(self.state.lease.tenant).filter(|tenant| *tenant != SYSTEM)
    }

    /// The right to work on the rows of the job's tenant, with `system:` and the job's kind as the actor. `None` for a job of
    /// the system.
    #[must_use]
    pub fn scope(&self) -> Option<TenantScope> {
        let tenant = self.tenant()?;
        Some(TenantScope::system(tenant, J::KIND))
    }

    /// Shows that the job makes progress; without that for [`Rules::hang_after`](super::Rules::hang_after) it counts as
    /// hung.
    pub fn beat(&self) {
        self.state.beat();
    }

    /// The same, with how far it has come: `done` of `total`, if that is known, and a message of at most 512 bytes. Shown
    /// over HTTP, about twice a second at the most.
    pub fn progress(&self, done: u64, total: Option<u64>, message: impl Into<String>) {
        self.beat();
        let number = |number| i64::try_from(number).unwrap_or(i64::MAX);
        let progress = Progress {
            done: number(done),
            total: total.map(number),
            message: cut(message.into(), MAX_MESSAGE),
        };
        *self.state.lock_progress() = Some(progress);
    }

    /// Whether its cancellation was asked for. A handler that sees it returns [`JobError::cancelled`]; one that does not
    /// within 10 s is given up.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.state.is_cancelled()
    }

    /// Waits until the job is taken away from its handler.
    pub(super) async fn given_up(&self) {
        let mut given_up = self.state.given_up.subscribe();
        // The sender is in the state, which outlives this.
        given_up.wait_for(|is_given_up| *is_given_up).await.ok();
    }

    /// Waits until its cancellation is asked for.
    pub async fn cancelled(&self) {
        self.until(|signal| signal == Signal::Cancel).await;
    }

    /// Whether the process is about to stop. A handler may end early with an error then; one that still runs when the time
    /// for draining is over is given up, and the job runs again elsewhere.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.state.is_stopping()
    }

    async fn until(&self, condition: impl Fn(Signal) -> bool) {
        let mut signal = self.state.signal.subscribe();
        // The sender is in the state, which outlives this.
        signal.wait_for(|signal| condition(*signal)).await.ok();
    }

    /// Keeps the job this worker's until the end of the transaction: if another has it by now, the error rolls back what
    /// the transaction did.
    ///
    /// # Errors
    ///
    /// [`DbError`]; [`LeaseLost::is_cause_of`](super::LeaseLost::is_cause_of) says whether that is why.
    pub async fn guard(&self, tx: &mut Tx) -> Result<(), DbError> {
        settle::hold(tx, self.state.lease).await
    }

    /// What [`hold_all`] takes for this job.
    pub fn lease(&self) -> RunLease {
        RunLease(self.state.lease)
    }

    /// Completes the job on `tx`: it is `completed` if and only if the transaction is committed. What the transaction does
    /// takes place exactly once, even if the process is killed. The handler returns the same output then.
    ///
    /// # Errors
    ///
    /// [`DbError`], as [`guard`](Self::guard); also if the output is none.
    pub async fn complete(&self, tx: &mut Tx, output: &J::Output) -> Result<(), DbError> {
        let result = result(output).map_err(|error| {
            let error = diesel::result::Error::SerializationError(error.message.into());
            DbError::InvalidData(error)
        })?;
        let state = &self.state;
        settle::complete(tx, (state.lease, state.attempt), result).await?;
        let state = Arc::clone(&self.state);
        tx.after_commit(move || {
            state.is_completed.store(true, Relaxed);
            measure::ended(J::KIND, JobState::Completed);
        });
        Ok(())
    }
}

/// The right of a worker to a job that it does.
#[derive(Clone, Copy, Debug)]
pub struct RunLease(Lease);

/// As [`Run::guard`] for several jobs, by one statement: which of them are still their workers'. What the transaction does
/// for one that is not is up to the caller.
///
/// # Errors
///
/// [`DbError`]; a lost lease is none.
pub async fn hold_all(tx: &mut Tx, leases: &[RunLease]) -> Result<Vec<bool>, DbError> {
    let wanted: Vec<_> = leases.iter().map(|it| it.0).collect();
    let held = settle::hold_all(tx, &wanted).await?;
    let is_held = |it: &Lease| held.contains(&(it.id, it.number));
    Ok(wanted.iter().map(is_held).collect())
}

/// An output as it is kept; `None` for nothing.
pub(super) fn result<T: serde::Serialize>(output: &T) -> Result<Option<String>, JobError> {
    let text = serde_json::to_string(output)
        .map_err(|error| JobError::fail("result_invalid", error.to_string()))?;
    if text.len() > MAX_RESULT {
        let message = format!(
            "the result has {} bytes; {MAX_RESULT} are allowed, so refer to large data instead",
            text.len()
        );
        return Err(JobError::fail("result_too_large", message));
    }
    Ok(Some(text).filter(|text| text != "null"))
}

impl<J: Job> Deref for Run<J> {
    type Target = J;

    fn deref(&self) -> &J {
        &self.args
    }
}

impl<J: Job> fmt::Debug for Run<J> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run")
            .field("kind", &J::KIND)
            .field("id", &self.id())
            .field("attempt", &self.attempt())
            .finish_non_exhaustive()
    }
}
