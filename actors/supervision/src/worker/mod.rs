//! Workers: async functions that are supervised as actors are, without a thread each.
//!
//! All workers of a tree share one small runtime (`runtime`). Which of them holds a thread, since when,
//! and how far its run has come is in its `pulse`, written by the worker and read by the supervisor.

mod context;
mod life;
mod pulse;
mod run_queue;
mod runtime;

use std::{error::Error, future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::sync::Notify;

use crate::{Reason, Spec, TreeError};

pub use context::{WorkerContext, WorkerHandle};
pub(crate) use life::Blueprint;
pub(crate) use pulse::WorkerRecord;
pub use pulse::{Progress, WorkerVitals};
pub(crate) use runtime::WorkerRuntimes;

/// The shortest limit of a run, unless it is given one.
pub const SHORTEST_RUN_LIMIT: Duration = Duration::from_secs(60);

const YEAR: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// The error of a run, of any type of the worker.
pub(crate) type RunError = Box<dyn Error + Send + Sync>;

type Run = Pin<Box<dyn Future<Output = Result<(), RunError>> + Send>>;

/// When the function of a worker is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schedule {
    /// Once in each life; it goes on until it is asked to stop. To return earlier is a fault, unless
    /// [`Restart`](crate::Restart) says otherwise.
    Continuous,
    /// At once, and again that long after the end of each run, lengthened by up to a tenth at random so
    /// that workers of many processes do not keep step.
    Every(Duration),
}

/// One worker of a tree: a name, an async function, a schedule, and rules.
///
/// ```
/// # use std::{convert::Infallible, time::Duration};
/// # use dotmac_supervision::{Exhausted, Policy, Schedule, SupervisionTree, WorkerContext, WorkerSpec};
/// async fn sweep(context: WorkerContext) -> Result<(), Infallible> {
///     for part in 0..10 {
///         if context.is_stopping() {
///             break;
///         }
///         // ... the work of this part ...
///         context.progress(part + 1, Some(10));
///     }
///     Ok(())
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut tree = SupervisionTree::new(Policy::default())?;
/// let every_hour = Schedule::Every(Duration::from_secs(3600));
/// let sweep = WorkerSpec::new("sweep", every_hour, sweep)
///     .run_limit(Duration::from_secs(600))
///     .when_exhausted(Exhausted::Fail);
/// let sweep = tree.add_worker(sweep)?;
/// assert_eq!(sweep.name(), "sweep");
/// # Ok(())
/// # }
/// ```
///
/// A worker is `ready` from the beginning of its first run unless it says otherwise itself, by its
/// [`lifeline`](WorkerContext::lifeline). Its life ends with an error that it returns, with a panic, with
/// a run beyond its [limit](Self::run_limit), and when it holds its thread for longer than
/// [`Policy::hang_after`](crate::Policy::hang_after) without giving it back at an `.await`; the next life
/// begins after the policy's backoff. After a fault, a periodic worker is `ready` again with its first
/// good run. An error that a run of a periodic worker returns counts towards no limit: the run is retried without end
/// after a backoff that grows up to [`Policy::backoff_max`](crate::Policy::backoff_max).
///
/// It must wait at an `.await`: blocking work belongs into `tokio::task::spawn_blocking`. Tasks
/// that it spawns are not supervised, and outlive its run: keep them in a `tokio::task::JoinSet`.
pub type WorkerSpec = Spec<WorkerBody>;

/// The function of a worker, and its schedule.
pub struct WorkerBody {
    schedule: Schedule,
    function: Box<dyn Fn(WorkerContext) -> Run + Send + Sync>,
    run_limit: Option<Duration>,
    progress_within: Option<Duration>,
    upstream: Option<Box<Upstream>>,
    /// Has the next run begin at once.
    pub(crate) wake: Arc<Notify>,
}

type Upstream = dyn Fn(&(dyn Error + 'static)) -> Option<Reason> + Send + Sync;

impl WorkerSpec {
    /// A worker that is optional, permanent, needs no other and follows the tree's policy.
    ///
    /// `function` makes the future of each run. It must not block; a panic in it is a fault.
    pub fn new<F, R, E>(name: &'static str, schedule: Schedule, function: F) -> Self
    where
        F: Fn(WorkerContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        let run_limit = match schedule {
            Schedule::Continuous => None,
            Schedule::Every(interval) => Some(interval.max(SHORTEST_RUN_LIMIT)),
        };
        let body = WorkerBody {
            schedule,
            function: Box::new(move |context| {
                let run = function(context);
                Box::pin(async move { run.await.map_err(Into::into) })
            }),
            run_limit,
            progress_within: None,
            upstream: None,
            wake: Arc::default(),
        };
        Self::of(name, body)
    }

    /// The longest that one run may take; beyond it the worker counts as hung, and the run is dropped at
    /// its `.await`. Unless said otherwise a periodic worker has its interval, at least a minute, and a
    /// continuous one has no limit.
    #[must_use]
    pub fn run_limit(mut self, limit: Duration) -> Self {
        self.body.run_limit = Some(limit);
        self
    }

    /// The longest that a run may go without [`WorkerContext::beat`] or [`WorkerContext::progress`];
    /// beyond it the worker counts as hung. Without it no progress is asked for.
    #[must_use]
    pub fn progress_within(mut self, longest: Duration) -> Self {
        self.body.progress_within = Some(longest);
        self
    }

    /// Has a periodic worker run at once whenever `signal` is given, as [`WorkerHandle::run_now`] has it; the interval bounds what a
    /// lost signal costs. One that is given during a run has it run once more right after it.
    #[must_use]
    pub fn woken_by(mut self, signal: Arc<Notify>) -> Self {
        self.body.wake = signal;
        self
    }

    /// Distinguishes errors of other systems from faults of the worker: for those `reason` gives the
    /// word to show. As with [`Lifeline::fail`](crate::Lifeline::fail), the next life begins after the
    /// longest backoff, and they never count towards [`Policy::intensity`](crate::Policy::intensity).
    #[must_use]
    pub fn upstream(
        mut self,
        reason: impl Fn(&(dyn Error + 'static)) -> Option<Reason> + Send + Sync + 'static,
    ) -> Self {
        self.body.upstream = Some(Box::new(reason));
        self
    }
}

impl WorkerBody {
    /// Refuses times that nothing can be planned with.
    pub(crate) fn check(&self, worker: &'static str) -> Result<(), TreeError> {
        let interval = match self.schedule {
            Schedule::Continuous => None,
            Schedule::Every(interval) => Some(interval),
        };
        let times = [
            ("interval", interval),
            ("run_limit", self.run_limit),
            ("progress_within", self.progress_within),
        ];
        for (field, given) in times {
            let sound = Duration::from_millis(1)..=YEAR;
            if let Some(given) = given.filter(|given| !sound.contains(given)) {
                return Err(TreeError::WorkerTime {
                    worker,
                    field,
                    given,
                });
            }
        }
        Ok(())
    }
}
