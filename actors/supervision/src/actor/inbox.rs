//! The calls that wait for one life, in the order in which they came.
//!
//! A queue in addition to the actor's mailbox, since an actix message cannot say in which span it is
//! to be handled. [`ActorHandle`](crate::ActorHandle) bounds what is in here.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
    task::{self, Poll},
};

use actix::{
    ActorFuture, AsyncContext, Handler, Message,
    dev::{Envelope, EnvelopeProxy},
};
use tokio::sync::{mpsc, oneshot};
use tracing::Span;

use crate::SupervisedActor;

/// Where callers put their calls.
pub(crate) struct Calls<A: SupervisedActor>(mpsc::UnboundedSender<Call<A>>);

/// Handles the calls; part of the actor's context.
pub(crate) struct Inbox<A: SupervisedActor>(mpsc::UnboundedReceiver<Call<A>>);

struct Call<A: SupervisedActor> {
    message: Envelope<A>,
    /// Weak, so that a call whose caller is gone does not hold up the end of its trace.
    span: Weak<Span>,
}

/// The life is over, or ended before it answered.
#[derive(Debug)]
pub(crate) struct LifeEnded;

/// Both ends of the queue of a new life.
pub(crate) fn open<A: SupervisedActor>() -> (Calls<A>, Inbox<A>) {
    let (calls, inbox) = mpsc::unbounded_channel();
    (Calls(calls), Inbox(inbox))
}

impl<A: SupervisedActor> Calls<A> {
    /// Has `message` handled within `span` and waits for the answer.
    pub(crate) async fn send<M>(
        &self,
        message: M,
        span: Option<&Arc<Span>>,
    ) -> Result<M::Result, LifeEnded>
    where
        A: Handler<M>,
        M: Message + Send + 'static,
        M::Result: Send,
    {
        let (asker, answer) = oneshot::channel();
        let call = Call {
            message: Envelope::new(message, Some(asker)),
            span: span.map(Arc::downgrade).unwrap_or_default(),
        };
        self.0.send(call).map_err(|_| LifeEnded)?;
        answer.await.map_err(|_| LifeEnded)
    }
}

impl<A: SupervisedActor> ActorFuture<A> for Inbox<A> {
    type Output = ();

    fn poll(
        mut self: Pin<&mut Self>,
        actor: &mut A,
        context: &mut A::Context,
        task: &mut task::Context<'_>,
    ) -> Poll<()> {
        // As the mailbox does: an actor that waits for its own future, or ends, handles nothing.
        while !context.waiting() {
            let Some(mut call) = task::ready!(self.0.poll_recv(task)) else {
                return Poll::Ready(());
            };
            match call.span.upgrade() {
                Some(span) => span.in_scope(|| call.message.handle(actor, context)),
                None => call.message.handle(actor, context),
            }
        }
        Poll::Pending
    }
}
