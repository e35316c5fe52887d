//! What runs jobs: one supervised worker for each instance of a program, with all handlers of the program.
//!
//! Handlers run on their own threads, so one that blocks its thread holds up neither the worker, which takes its job
//! away when it hangs, nor anything else.

mod ahead;
mod ends;
mod life;
mod settler;
mod threads;
mod watch;
mod work;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dotmac_db::{Db, ModuleDb};
use dotmac_supervision::{Policy, Schedule, WorkerSpec};

use super::{JobHandler, JobId, liveness::WorkerId, run::RunState};

/// Longest that the worker goes without showing progress.
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);
/// What a stop takes beyond draining.
const STOP_MARGIN: Duration = Duration::from_secs(5);

/// What runs jobs, to be.
pub struct Runner {
    handlers: HashMap<&'static str, JobHandler>,
    drain: Duration,
    poll: Duration,
    policy: Policy,
    runs: Arc<Runs>,
}

/// Two handlers do jobs of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("two handlers for jobs `{0}`; a kind has one")]
pub struct HandlerTwice(pub &'static str);

impl Runner {
    /// With one handler for each kind.
    ///
    /// # Errors
    ///
    /// [`HandlerTwice`].
    pub fn new(handlers: impl IntoIterator<Item = JobHandler>) -> Result<Self, HandlerTwice> {
        let mut by_kind = HashMap::new();
        for handler in handlers {
            let kind = handler.spec.kind;
            if by_kind.insert(kind, handler).is_some() {
                return Err(HandlerTwice(kind));
            }
        }
        Ok(Self {
            handlers: by_kind,
            drain: Duration::from_secs(20),
            poll: Duration::from_secs(1),
            policy: Policy::default(),
            runs: Arc::default(),
        })
    }

    /// How long running jobs may take to end when the process stops; 20 s unless said otherwise. Those that do not are
    /// given up, and run elsewhere.
    #[must_use]
    pub fn drain(self, drain: Duration) -> Self {
        Self { drain, ..self }
    }

    /// How often it looks for jobs without being woken, up to a fifth more or less; 1 s unless said otherwise.
    #[must_use]
    pub fn poll(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// The rules of the worker's supervision. Its stop takes as long as draining does.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// What it is doing, from now on.
    #[must_use]
    pub fn status(&self) -> RunnerStatus {
        RunnerStatus {
            runs: Arc::clone(&self.runs),
        }
    }

    /// The worker that does it, to be added to a supervision tree.
    #[must_use]
    pub fn worker(self, name: &'static str, db: &ModuleDb) -> WorkerSpec {
        let policy = Policy {
            stop_timeout: self.policy.stop_timeout.max(self.drain + STOP_MARGIN),
            ..self.policy
        };
        let running = Arc::new(Running {
            db: db.system("run jobs of all tenants"),
            tenants: db.clone(),
            handlers: self.handlers,
            drain: self.drain,
            poll: self.poll,
            runs: self.runs,
            former: Mutex::new(None),
        });
        let run = move |context| life::run(Arc::clone(&running), context);
        WorkerSpec::new(name, Schedule::Continuous, run)
            .progress_within(PROGRESS_WITHIN)
            .policy(policy)
    }
}

/// What all lives of the worker share.
struct Running {
    db: Db,
    tenants: ModuleDb,
    handlers: HashMap<&'static str, JobHandler>,
    drain: Duration,
    poll: Duration,
    runs: Arc<Runs>,
    /// The incarnation of the life before, if it has not ended in good order.
    former: Mutex<Option<WorkerId>>,
}

/// The jobs that run here.
#[derive(Default)]
struct Runs(Mutex<HashMap<JobId, Arc<RunState>>>);

impl Runs {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<JobId, Arc<RunState>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn all(&self) -> Vec<Arc<RunState>> {
        self.lock().values().cloned().collect()
    }

    /// How many of the kind and queue run.
    fn count(&self, kind: &str, queue: &str) -> usize {
        let runs = self.lock();
        let same = runs.values();
        same.filter(|run| run.spec.kind == kind && run.queue == queue)
            .count()
    }

    /// Forgets `run`, but not a later one of the same job.
    fn remove(&self, run: &RunState) {
        let mut runs = self.lock();
        let is_it = |other: &Arc<RunState>| other.lease == run.lease;
        if runs.get(&run.lease.id).is_some_and(is_it) {
            runs.remove(&run.lease.id);
        }
    }
}

/// What an instance is doing with its slots.
#[derive(Clone)]
pub struct RunnerStatus {
    runs: Arc<Runs>,
}

/// Jobs of one kind and queue that run on this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotsInUse {
    /// The queue.
    pub queue: String,
    /// The kind.
    pub kind: &'static str,
    /// How many run.
    pub running: u32,
    /// How many may.
    pub slots: u32,
}

impl RunnerStatus {
    /// Kinds and queues of which at least one job runs here, by kind.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotsInUse> {
        let mut found: Vec<SlotsInUse> = Vec::new();
        for run in self.runs.all() {
            let (kind, slots) = (run.spec.kind, run.spec.rules.slots);
            let same = |it: &&mut SlotsInUse| it.kind == kind && it.queue == run.queue;
            match found.iter_mut().find(same) {
                Some(it) => it.running += 1,
                None => found.push(SlotsInUse {
                    queue: run.queue.clone(),
                    kind,
                    running: 1,
                    slots,
                }),
            }
        }
        found.sort_by(|a, b| (a.kind, &a.queue).cmp(&(b.kind, &b.queue)));
        found
    }
}
