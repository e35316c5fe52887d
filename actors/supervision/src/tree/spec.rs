//! What to run: children, who needs whom, and the rules for them.
//!
//! A need can only name a handle, and a handle comes from an earlier [`SupervisionTree::add`]: a
//! cycle cannot be written, and the order of adding is an order of starting.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use tokio::sync::broadcast;

use crate::{
    ActorHandle, CallObserver, Event, Lifeline, Policy, PolicyError, Published, SupervisedActor,
    SupervisorHandle,
    actor::{handle::Address, incarnation::Blueprint},
    install_panic_hook,
    life::{cell::Cell, wire::Slot},
    supervisor::{SupervisorActor, child::Child},
};

/// Events kept for a reader that lags.
const EVENT_BACKLOG: usize = 1024;

/// How a child follows one that it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Follow {
    /// It is stopped before the other restarts, and started after it (OTP's `rest_for_one`).
    Always,
    /// It is restarted when the other serves another [`version`](crate::Serving::version).
    OnChange,
    /// It starts once the other serves and stops before it; what it took stays good.
    ToStart,
    /// It starts after the other has reported once and stops before it; nothing else.
    InOrder,
}

/// A child's need of another; made by [`ActorHandle::always`] and its like.
#[derive(Clone, Copy, Debug)]
pub struct Need {
    pub(crate) tree: u64,
    pub(crate) child: usize,
    pub(crate) follow: Follow,
}

/// One child: a name, the factory that builds a fresh actor for each life, and rules.
pub struct ChildSpec<A: SupervisedActor> {
    name: &'static str,
    factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    required: bool,
    essential: bool,
    needs: Vec<Need>,
    slots: Vec<Arc<dyn Slot>>,
    policy: Option<Policy>,
}

impl<A: SupervisedActor> ChildSpec<A> {
    /// A child that is optional, needs nobody and follows the tree's policy.
    ///
    /// `factory` runs on the new life's own thread. It must not block; a panic in it is a fault.
    pub fn new(
        name: &'static str,
        factory: impl Fn(Lifeline) -> A + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            factory: Arc::new(factory),
            required: false,
            essential: false,
            needs: Vec::new(),
            slots: Vec::new(),
            policy: None,
        }
    }

    /// Without it, the whole is not ready.
    #[must_use]
    pub fn required(self) -> Self {
        Self {
            required: true,
            ..self
        }
    }

    /// If it has never served within its start time-out, the supervisor escalates: the process had
    /// better not go on. It is also [`required`](Self::required).
    #[must_use]
    pub fn essential(self) -> Self {
        Self {
            required: true,
            essential: true,
            ..self
        }
    }

    /// Starts it after the child that `need` names, stops it before.
    #[must_use]
    pub fn needs(mut self, need: Need) -> Self {
        self.needs.push(need);
        self
    }

    /// Empties `slot` whenever the child cannot serve.
    #[must_use]
    pub fn publishes<T: Send + Sync + 'static>(mut self, slot: &Published<T>) -> Self {
        self.slots.push(Arc::new(slot.clone()));
        self
    }

    /// Rules of its own instead of the tree's.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self {
            policy: Some(policy),
            ..self
        }
    }
}

/// A tree that cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Two children of one name.
    #[error("there is a child named `{0}` already")]
    DuplicateName(&'static str),
    /// A need that names a child of another tree.
    #[error("`{0}` needs a child of another tree")]
    ForeignNeed(&'static str),
    /// A policy under which supervision would not work.
    #[error("the policy of `{child}` does not work")]
    Policy {
        /// The child, or "the tree".
        child: &'static str,
        /// What is wrong.
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
        })
    }

    /// Tells `observer` of each call through the handles of children added from now on.
    #[must_use]
    pub fn observe_calls(self, observer: CallObserver) -> Self {
        Self {
            observer: Some(observer),
            ..self
        }
    }

    /// What happens from the first moment on; a reader that falls 1,024 events behind is told how many it missed.
    #[must_use]
    pub fn events(&self) -> broadcast::Receiver<Event> {
        self.events.subscribe()
    }

    /// Adds a child; the handle is good before, during and after its lives.
    ///
    /// # Errors
    ///
    /// [`TreeError`] names the child and what is wrong with it.
    pub fn add<A: SupervisedActor>(
        &mut self,
        spec: ChildSpec<A>,
    ) -> Result<ActorHandle<A>, TreeError> {
        let ChildSpec {
            name,
            factory,
            required,
            essential,
            needs,
            mut slots,
            policy,
        } = spec;
        if self.children.iter().any(|child| child.name() == name) {
            return Err(TreeError::DuplicateName(name));
        }
        if needs.iter().any(|need| need.tree != self.id) {
            return Err(TreeError::ForeignNeed(name));
        }
        let policy = policy.unwrap_or_else(|| self.policy.clone());
        policy.check().map_err(|source| TreeError::Policy {
            child: name,
            source,
        })?;

        let cell = Arc::new(Cell::new(name, policy, self.observer.clone()));
        let address = Arc::new(Address::new());
        // Last, so that a caller who learns of an end finds the other slots empty already.
        slots.push(Arc::clone(&address) as Arc<dyn Slot>);
        let blueprint = Blueprint {
            factory,
            address: Arc::clone(&address),
        };
        let index = self.children.len();
        self.children.push(Child::new(
            Box::new(blueprint),
            Arc::clone(&cell),
            slots.into(),
            needs,
            required,
            essential,
        ));
        Ok(ActorHandle {
            need: index,
            tree: self.id,
            cell,
            address,
        })
    }

    /// Starts the supervisor on this thread's actix system, and with it the children.
    ///
    /// The tracing span that is current here becomes that of the start: each component gets a child of
    /// it. Without one there is a span of its own, `startup`.
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
