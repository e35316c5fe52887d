//! One life of an actor: a fresh value on a fresh thread, watched until the last of it is gone.

use std::{
    cell::Cell,
    future::poll_fn,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use actix::prelude::*;
use actix_rt::Arbiter;
use tokio::sync::oneshot;
use tracing::Span;

use super::{handle::Address, inbox};
use crate::{
    Cause, Lifeline, SupervisedActor,
    life::{panic_hook, wire::Notice},
};

/// Begins lives of one child; the actor's type is known only in here.
pub(crate) trait Incarnate {
    /// Starts a thread and the actor on it; its factory and its `started` run within `span`.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    fn begin(&self, life: Lifeline, span: Span) -> io::Result<Incarnation>;
}

/// A running life, as its supervisor holds it.
pub(crate) struct Incarnation {
    arbiter: Arbiter,
    shutdown: Option<oneshot::Sender<Span>>,
}

impl Incarnation {
    /// Asks the actor to end in good order; its `shutdown` runs within `span`. Later calls do nothing.
    pub(crate) fn shut_down(&mut self, span: Span) {
        if let Some(shutdown) = self.shutdown.take() {
            // An actor that has already gone needs no asking: its exit is on the way to us.
            shutdown.send(span).ok();
        }
    }

    /// Ends the thread as soon as it comes back to its event loop.
    pub(crate) fn end_thread(&self) {
        self.arbiter.stop();
    }
}

/// How a child's lives are built.
pub(crate) struct Blueprint<A: SupervisedActor> {
    pub(crate) factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    pub(crate) address: Arc<Address<A>>,
}

impl<A: SupervisedActor> Incarnate for Blueprint<A> {
    fn begin(&self, life: Lifeline, span: Span) -> io::Result<Incarnation> {
        let arbiter = Arbiter::try_new()?;
        let (shutdown, asked) = oneshot::channel();
        let (factory, address) = (Arc::clone(&self.factory), Arc::clone(&self.address));
        // Made here and not by the task, which may be dropped before its first poll.
        let exit = Exit {
            life,
            cause: Some(Cause::ThreadLost),
        };
        let accepted = arbiter.spawn_fn(move || {
            actix_rt::spawn(live(factory, address, exit, asked, span));
        });
        if accepted {
            Ok(Incarnation {
                arbiter,
                shutdown: Some(shutdown),
            })
        } else {
            Err(io::Error::other("the thread ended before its first task"))
        }
    }
}

/// The whole of one life, from its factory to the end of its thread.
async fn live<A: SupervisedActor>(
    factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    address: Arc<Address<A>>,
    mut exit: Exit,
    asked: oneshot::Receiver<Span>,
    span: Span,
) {
    let life = exit.life.clone();
    panic_hook::own_this_thread(life.clone());
    let build = || span.in_scope(|| factory(life.clone()));
    exit.cause = match catch_unwind(AssertUnwindSafe(build)) {
        Ok(actor) => {
            let (mut context, was_asked) = prepare::<A>(&life, asked);
            let (calls, inbox) = inbox::open();
            context.spawn(inbox);
            let panicked = if life.enter(|| address.begin(life.generation(), calls)) {
                run(context, actor, span).await
            } else {
                catch_unwind(AssertUnwindSafe(|| drop(actor))).is_err()
            };
            match (panicked, was_asked.get()) {
                (true, _) => Some(Cause::Panic),
                (false, true) => None,
                (false, false) => Some(Cause::Stop),
            }
        }
        Err(_) => Some(Cause::Panic),
    };
    drop(exit);
    Arbiter::current().stop();
}

/// A context that beats while its thread turns, and passes the request to stop on to the actor.
fn prepare<A: SupervisedActor>(
    life: &Lifeline,
    asked: oneshot::Receiver<Span>,
) -> (Context<A>, Rc<Cell<bool>>) {
    let mut context = Context::<A>::new();
    let cell = Arc::clone(life.cell());
    context.run_interval(life.cell().policy.heartbeat, move |_, _| {
        cell.note_progress();
    });
    let was_asked = Rc::new(Cell::new(false));
    let note = Rc::clone(&was_asked);
    let passed_on = fut::wrap_future::<_, A>(asked).map(
        move |asked, actor: &mut A, context: &mut Context<A>| {
            if let Ok(span) = asked {
                note.set(true);
                span.in_scope(|| actor.shutdown(context));
            }
        },
    );
    context.spawn(passed_on);
    (context, was_asked)
}

/// Runs the actor to its end; says whether that was a panic. Only its beginning is within `span`: what
/// goes on for ever belongs to no start.
///
/// The actor's own `stopped` and `Drop` may panic as well. They run when the context is dropped, and
/// must not run during an unwinding, where a second panic aborts the process: so the context lives
/// outside what is caught, and is dropped in a catch of its own.
async fn run<A: SupervisedActor>(context: Context<A>, actor: A, span: Span) -> bool {
    let mut life = Box::pin(context.into_future(actor));
    let mut span = Some(span);
    let panicked = poll_fn(|cx| {
        let begins_in = span.take().unwrap_or_else(Span::none);
        let poll = || begins_in.in_scope(|| Pin::new(&mut life).poll(cx));
        match catch_unwind(AssertUnwindSafe(poll)) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(())) => Poll::Ready(false),
            Err(_) => Poll::Ready(true),
        }
    })
    .await;
    let dropped = catch_unwind(AssertUnwindSafe(move || drop(life)));
    panicked || dropped.is_err()
}

/// Tells the supervisor that the life is over, however it ends: also when its thread is torn down
/// and the task that holds this is dropped.
struct Exit {
    life: Lifeline,
    cause: Option<Cause>,
}

impl Drop for Exit {
    fn drop(&mut self) {
        self.life.revoke();
        let withdrawn = self.life.take_withdrawn();
        // The hook has logged it if one of them panics, and there is no life left to charge it to.
        catch_unwind(AssertUnwindSafe(|| drop(withdrawn))).ok();
        self.life.signal(Notice::Exited(self.cause));
    }
}
