//! The callers' handle: an address that survives restarts and never lets them wait for a dead actor.

use std::{
    ops::Deref,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use actix::{Handler, Message};
use arc_swap::ArcSwapOption;
use tokio::sync::Notify;
use tracing::{Span, field::Empty, info_span};

use super::inbox::Calls;
use crate::{
    ComponentHandle, SupervisedActor,
    life::{
        cell::{CallOutcome, now},
        wire::{Slot, Withdrawn},
    },
};

/// The way to one supervised actor, for as long as the process lives.
///
/// Unlike an actix `Addr`, it follows the actor through restarts, bounds the wait and the number of
/// calls under way, and answers at once while the actor is away. Derefs to
/// [`ComponentHandle`], which has its name, its figures and needs of it.
pub struct ActorHandle<A: SupervisedActor> {
    pub(crate) component: ComponentHandle,
    pub(crate) address: Arc<Address<A>>,
}

/// Why a call got no answer. Each is safe to show, and worth another try after [`retry_after`](Self::retry_after).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The actor is not running, or cannot serve; the message was not sent.
    #[error("`{actor}` is not available")]
    Down {
        /// Which actor.
        actor: &'static str,
        /// When another try may succeed.
        retry_after: Duration,
    },
    /// The actor failed while it had the message; whether it took effect is unknown.
    #[error("`{actor}` failed before its answer")]
    Lost {
        /// Which actor.
        actor: &'static str,
        /// When another try may succeed.
        retry_after: Duration,
    },
    /// No answer in time; the message may still take effect.
    #[error("`{actor}` did not answer within {waited:?}")]
    Timeout {
        /// Which actor.
        actor: &'static str,
        /// The policy's call time-out.
        waited: Duration,
    },
    /// Too many calls are under way; the message was not sent.
    #[error("`{actor}` has too many calls under way")]
    Busy {
        /// Which actor.
        actor: &'static str,
    },
}

impl CallError {
    /// The actor that was called.
    #[must_use]
    pub const fn actor(&self) -> &'static str {
        match self {
            Self::Down { actor, .. }
            | Self::Lost { actor, .. }
            | Self::Timeout { actor, .. }
            | Self::Busy { actor } => actor,
        }
    }

    /// How long to wait before another try; at least a second where nothing better is known.
    #[must_use]
    pub fn retry_after(&self) -> Duration {
        let known = match self {
            Self::Down { retry_after, .. } | Self::Lost { retry_after, .. } => *retry_after,
            Self::Timeout { .. } | Self::Busy { .. } => Duration::ZERO,
        };
        known.max(Duration::from_secs(1))
    }
}

impl<A: SupervisedActor> ActorHandle<A> {
    /// Sends `message` and waits for the answer, at most [`Policy::call_timeout`](crate::Policy::call_timeout).
    ///
    /// Must run on a tokio or actix runtime. Dropping the future does not take the message back once the
    /// actor has begun to handle it.
    ///
    /// A call within a span is its own span, in which the actor's handler runs: what it logs and
    /// traces belongs to its caller. A future that the handler returns runs outside of it, unless the
    /// handler says `.instrument(Span::current())` (see `tracing::Instrument`).
    ///
    /// # Errors
    ///
    /// [`CallError`] says whether the message was sent, and when to try again.
    pub async fn call<M>(&self, message: M) -> Result<M::Result, CallError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let started = Instant::now();
        let span = self.call_span::<M>().map(Arc::new);
        let result = self.send(message, span.as_ref()).await;
        let outcome = match &result {
            Ok(_) => CallOutcome::Answered,
            Err(error) => {
                if let Some(span) = span {
                    span.record("otel.status_code", "ERROR");
                    span.record("error", tracing::field::display(error));
                }
                CallOutcome::Failed
            }
        };
        self.cell.observe(started.elapsed(), outcome);
        result
    }

    /// The span of one call, as a part of what its caller does. What is not part of a trace stays out of any: the
    /// ticks of the runtime would drown everything else.
    fn call_span<M>(&self) -> Option<Span> {
        if Span::current().is_none() {
            return None;
        }
        let message = std::any::type_name::<M>();
        let span = info_span!(
            "call",
            otel.name = %format_args!("call {}", self.cell.name),
            otel.status_code = Empty,
            error = Empty,
            actor.name = self.cell.name,
            actor.message = message.rsplit("::").next(),
        );
        Some(span)
    }

    async fn send<M>(&self, message: M, span: Option<&Arc<Span>>) -> Result<M::Result, CallError>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let actor = self.cell.name;
        let asked_at = now();
        let _admission = self.cell.admit().ok_or(CallError::Busy { actor })?;
        let Some(life) = self.address.serving.load_full() else {
            return Err(CallError::Down {
                actor,
                retry_after: self.cell.retry_in(),
            });
        };
        // Listen first, then look: a revocation between the two is seen by one of them.
        let mut revoked = pin!(life.revoked.notified());
        revoked.as_mut().enable();
        if life.over.load(SeqCst) {
            return Err(CallError::Down {
                actor,
                retry_after: self.cell.retry_in(),
            });
        }
        tokio::select! {
            biased;
            answer = life.calls.send(message, span) => match answer {
                Ok(answer) => {
                    self.cell.note_answer();
                    Ok(answer)
                }
                Err(_) => Err(CallError::Lost { actor, retry_after: self.cell.retry_in() }),
            },
            () = revoked => Err(CallError::Lost { actor, retry_after: self.cell.retry_in() }),
            () = tokio::time::sleep(self.cell.policy.call_timeout) => {
                self.cell.note_unanswered(asked_at);
                Err(CallError::Timeout { actor, waited: self.cell.policy.call_timeout })
            }
        }
    }

    /// Whether a call would be let in now.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.address.serving.load().is_some()
    }
}

impl<A: SupervisedActor> Deref for ActorHandle<A> {
    type Target = ComponentHandle;

    fn deref(&self) -> &ComponentHandle {
        &self.component
    }
}

impl<A: SupervisedActor> Clone for ActorHandle<A> {
    fn clone(&self) -> Self {
        Self {
            component: self.component.clone(),
            address: Arc::clone(&self.address),
        }
    }
}

impl<A: SupervisedActor> std::fmt::Debug for ActorHandle<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ActorHandle").field(&self.name()).finish()
    }
}

/// Where callers find the current life of an actor.
pub(crate) struct Address<A: SupervisedActor> {
    serving: ArcSwapOption<Life<A>>,
    /// The life that has begun; it serves from its first good status on.
    begun: Mutex<Option<Arc<Life<A>>>>,
}

struct Life<A: SupervisedActor> {
    generation: u64,
    calls: Calls<A>,
    over: AtomicBool,
    revoked: Notify,
}

impl<A: SupervisedActor> Address<A> {
    pub(crate) fn new() -> Self {
        Self {
            serving: ArcSwapOption::empty(),
            begun: Mutex::new(None),
        }
    }

    pub(crate) fn begin(&self, generation: u64, calls: Calls<A>) {
        let life = Life {
            generation,
            calls,
            over: AtomicBool::new(false),
            revoked: Notify::new(),
        };
        *self.begun() = Some(Arc::new(life));
    }

    fn begun(&self) -> std::sync::MutexGuard<'_, Option<Arc<Life<A>>>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<A: SupervisedActor> Slot for Address<A> {
    fn open(&self, generation: u64) {
        let begun = self.begun();
        if let Some(life) = begun.as_ref().filter(|life| life.generation == generation) {
            self.serving.store(Some(Arc::clone(life)));
        }
    }

    fn close(&self) -> Option<Withdrawn> {
        self.serving.store(None);
        None
    }

    fn revoke(&self) -> Option<Withdrawn> {
        self.serving.store(None);
        let begun = self.begun().take();
        if let Some(life) = begun {
            life.over.store(true, SeqCst);
            life.revoked.notify_waiters();
        }
        None
    }
}
