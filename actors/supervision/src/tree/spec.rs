//! The rules of one child of any kind.

use std::sync::Arc;

use super::Need;
use crate::{Policy, Published, life::wire::Slot};

/// When a child whose life has ended gets another, in OTP's sense.
///
/// A child stopped by a dependency's restart or by an operator has not ended by itself: it starts again, except that
/// only an operator restarts a [`Temporary`](Self::Temporary) child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// Always: to end by itself is a fault.
    #[default]
    Permanent,
    /// After a fault only. If it ends by itself it has finished: it is `stopped`, and holds up no other.
    Transient,
    /// Never. A fault makes it `failed` at once.
    Temporary,
}

/// The reaction after a child has used up its restarts, has left more threads behind than
/// [`Policy::max_leaked_threads`] allows, or says that it [cannot start](crate::Lifeline::cannot_start).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exhausted {
    /// The supervisor [escalates](crate::Escalation): the process had better end. For components that
    /// nothing works without.
    #[default]
    Escalate,
    /// The child is `failed`: fenced off, without a further life unless an operator
    /// [restarts](crate::SupervisorHandle::restart) it. Everything else goes on; what needs it waits.
    Fail,
}

/// One child: what runs, a name, and rules. See [`ChildSpec`](crate::ChildSpec) for an actor and
/// [`WorkerSpec`](crate::WorkerSpec) for a worker.
pub struct Spec<B> {
    pub(crate) body: B,
    pub(crate) rules: Rules,
}

/// All of a child but what it does.
pub(crate) struct Rules {
    pub(crate) name: &'static str,
    pub(crate) required: bool,
    pub(crate) essential: bool,
    pub(crate) restart: Restart,
    pub(crate) exhausted: Exhausted,
    pub(crate) needs: Vec<Need>,
    pub(crate) slots: Vec<Arc<dyn Slot>>,
    pub(crate) policy: Option<Policy>,
}

impl<B> Spec<B> {
    /// A child that is optional and permanent, escalates, needs no other and follows the tree's policy.
    pub(crate) fn of(name: &'static str, body: B) -> Self {
        let rules = Rules {
            name,
            required: false,
            essential: false,
            restart: Restart::default(),
            exhausted: Exhausted::default(),
            needs: Vec::new(),
            slots: Vec::new(),
            policy: None,
        };
        Self { body, rules }
    }

    /// Without it, the whole is not ready.
    #[must_use]
    pub fn required(mut self) -> Self {
        self.rules.required = true;
        self
    }

    /// Without it, the whole is degraded.
    #[must_use]
    pub fn optional(mut self) -> Self {
        self.rules.required = false;
        self
    }

    /// If it has never served within its start time-out, it is given up as [`Exhausted`] says. It is
    /// also [`required`](Self::required).
    #[must_use]
    pub fn essential(mut self) -> Self {
        self.rules.required = true;
        self.rules.essential = true;
        self
    }

    /// When it restarts; [`Restart::Permanent`] unless said otherwise.
    #[must_use]
    pub fn restart(mut self, restart: Restart) -> Self {
        self.rules.restart = restart;
        self
    }

    /// The reaction after its restarts are used up; by default [`Exhausted::Escalate`].
    #[must_use]
    pub fn when_exhausted(mut self, exhausted: Exhausted) -> Self {
        self.rules.exhausted = exhausted;
        self
    }

    /// Starts it after the child that `need` names, stops it before.
    #[must_use]
    pub fn needs(mut self, need: Need) -> Self {
        self.rules.needs.push(need);
        self
    }

    /// Empties `slot` whenever the child cannot serve.
    #[must_use]
    pub fn publishes<T: Send + Sync + 'static>(mut self, slot: &Published<T>) -> Self {
        self.rules.slots.push(Arc::new(slot.clone()));
        self
    }

    /// Separate rules instead of the tree's.
    #[must_use]
    pub fn policy(mut self, policy: Policy) -> Self {
        self.rules.policy = Some(policy);
        self
    }
}
