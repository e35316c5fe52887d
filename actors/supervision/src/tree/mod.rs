//! The tree: the children, their needs, and the rules for them.
//!
//! A need can only name a handle, and a handle comes from an earlier [`SupervisionTree::add`]: a
//! cycle cannot be written, and the order of adding is an order of starting.

mod need;
mod spec;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{runtime::Handle, sync::broadcast};

use crate::{
    ActorHandle, CallObserver, ChildSpec, Event, Policy, PolicyError, SupervisedActor,
    SupervisorHandle, WorkerHandle, WorkerSpec,
    actor::{handle::Address, incarnation::Blueprint},
    install_panic_hook,
    life::{Incarnate, cell::Cell, wire::Slot},
    supervisor::{SupervisorActor, child::Child},
    worker::{Blueprint as WorkerBlueprint, WorkerRecord, WorkerRuntimes},
};

pub use need::{ComponentHandle, Follow, Need};
pub(crate) use spec::Rules;
pub use spec::{Exhausted, Restart, Spec};

/// Events kept for a reader that lags.
const EVENT_BACKLOG: usize = 1024;

/// A tree that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Two children of one name.
    #[error("a child named `{0}` exists already")]
    DuplicateName(&'static str),
    /// A need that names a child of another tree.
    #[error("`{0}` needs a child of another tree")]
    ForeignNeed(&'static str),
    /// A time of a worker that nothing can be planned with.
    #[error("`{field}` of worker `{worker}` is {given:?}, and must be from 1ms to a year")]
    WorkerTime {
        /// The worker.
        worker: &'static str,
        /// Which of its times.
        field: &'static str,
        /// The given value.
        given: Duration,
    },
    /// A policy under which supervision would not work.
    #[error("the policy of `{child}` is not valid")]
    Policy {
        /// The child, or "the tree".
        child: &'static str,
        /// The problem.
        #[source]
        source: PolicyError,
    },
}

/// The children to be, in the order of their start.
pub struct SupervisionTree {
    id: u64,
    policy: Policy,
    observer: Option<CallObserver>,
    events: broadcast::Sender<Event>,
    children: Vec<Child>,
    runtimes: Arc<WorkerRuntimes>,
}

impl SupervisionTree {
    /// An empty tree.
    ///
    /// # Errors
    ///
    /// [`TreeError::Policy`] if the policy would not do what it promises.
    pub fn new(policy: Policy) -> Result<Self, TreeError> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        policy.check().map_err(|source| TreeError::Policy {
            child: "the tree",
            source,
        })?;
        Ok(Self {
            id: NEXT.fetch_add(1, Relaxed),
            policy,
            observer: None,
            events: broadcast::Sender::new(EVENT_BACKLOG),
            children: Vec::new(),
            runtimes: Arc::default(),
        })
    }

    /// Reports to `observer` each call through the handles of children added from now on.
    #[must_use]
    pub fn observe_calls(self, observer: CallObserver) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// Gives `observer` the runtime of the workers when it starts, and each one that replaces it.
    #[must_use]
    pub fn observe_worker_runtime(self, observer: fn(&Handle)) -> Self {
        Self {
            runtimes: Arc::new(WorkerRuntimes::observed(observer)),
            ..self
        }
    }

    /// Events from the begin on; a reader that falls 1,024 events behind learns how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Adds an actor; the handle is good before, during and after its lives.
    ///
    /// # Errors
    ///
    /// [`TreeError`] names the child and what is wrong with it.
    pub fn add<A: SupervisedActor>(
        &mut self,
        spec: ChildSpec<A>,
    ) -> Result<ActorHandle<A>, TreeError> {
        let address = Arc::new(Address::new());
        let blueprint = Blueprint {
            factory: spec.body.0,
            address: Arc::clone(&address),
        };
        let mut rules = spec.rules;
        // Last, so that a caller that learns of an end finds the other slots empty already.
        rules.slots.push(Arc::clone(&address) as Arc<dyn Slot>);
        let component = self.insert(rules, Box::new(blueprint), None)?;
        Ok(ActorHandle { component, address })
    }

    /// Adds a worker; the handle is good before, during and after its lives.
    ///
    /// # Errors
    ///
    /// [`TreeError`] names the worker and what is wrong with it.
    pub fn add_worker(&mut self, spec: WorkerSpec) -> Result<WorkerHandle, TreeError> {
        let Spec { body, rules } = spec;
        body.check(rules.name)?;
        let record = Arc::<WorkerRecord>::default();
        let wake = Arc::clone(&body.wake);
        let blueprint = WorkerBlueprint::new(body, Arc::clone(&self.runtimes), Arc::clone(&record));
        let component = self.insert(rules, Box::new(blueprint), Some(record))?;
        Ok(WorkerHandle { component, wake })
    }

    fn insert(
        &mut self,
        rules: Rules,
        incarnate: Box<dyn Incarnate>,
        worker: Option<Arc<WorkerRecord>>,
    ) -> Result<ComponentHandle, TreeError> {
        let name = rules.name;
        if self.children.iter().any(|child| child.name() == name) {
            return Err(TreeError::DuplicateName(name));
        }
        if rules.needs.iter().any(|need| need.tree != self.id) {
            return Err(TreeError::ForeignNeed(name));
        }
        let policy = rules.policy.clone().unwrap_or_else(|| self.policy.clone());
        policy.check().map_err(|source| TreeError::Policy {
            child: name,
            source,
        })?;
        let cell = Arc::new(Cell::new(name, policy, self.observer.clone(), worker));
        let index = self.children.len();
        self.children
            .push(Child::new(incarnate, Arc::clone(&cell), rules));
        Ok(ComponentHandle {
            index,
            tree: self.id,
            cell,
        })
    }

    /// Starts the supervisor on this thread's actix system, and with it the children.
    ///
    /// The tracing span that is current here becomes that of the start: each component gets a child of
    /// it. Without one there is its own span, `startup`.
    ///
    /// The supervisor shares the thread of its caller: keep that thread free of blocking work.
    ///
    /// # Panics
    ///
    /// Outside an actix system.
    #[must_use]
    pub fn start(self) -> SupervisorHandle {
        install_panic_hook();
        SupervisorActor::launch(self.policy, self.children, self.events)
    }
}
