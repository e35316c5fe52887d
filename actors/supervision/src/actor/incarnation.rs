//! One life of an actor: a fresh value on a fresh thread, watched until the last of it is gone.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use actix::prelude::*;
use actix_rt::Arbiter;
use tokio::sync::oneshot;
use tracing::Span;

use super::{handle::Address, inbox};
use crate::{
    Cause, Lifeline, SupervisedActor,
    life::{Exit, Incarnate, Incarnation, cell::Cell as ChildCell, panic_hook, run_guarded},
};

/// A running life of an actor: its thread.
struct ActorLife {
    arbiter: Arbiter,
    shutdown: Option<oneshot::Sender<Span>>,
    cell: Arc<ChildCell>,
}

impl Incarnation for ActorLife {
    /// The actor's `shutdown` runs within `span`.
    fn shut_down(&mut self, span: Span) {
        if let Some(shutdown) = self.shutdown.take() {
            // An actor that has already gone needs no asking: its exit is on the way to us.
            shutdown.send(span).ok();
        }
    }

    fn end(&mut self) {
        self.arbiter.stop();
    }

    fn hang(&self) -> Option<String> {
        let still = self.cell.since_progress();
        (still > self.cell.policy.hang_after)
            .then(|| format!("its thread made no progress for {still:?}"))
    }

    fn extend_deadlines(&self, _: Duration) {
        self.cell.note_progress();
    }
}

/// How a child's lives are built.
pub(crate) struct Blueprint<A: SupervisedActor> {
    pub(crate) factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    pub(crate) address: Arc<Address<A>>,
}

impl<A: SupervisedActor> Incarnate for Blueprint<A> {
    fn kind(&self) -> &'static str {
        "actor"
    }

    fn begin(&self, life: Lifeline, span: Span) -> io::Result<Box<dyn Incarnation>> {
        let arbiter = Arbiter::try_new()?;
        let (shutdown, asked) = oneshot::channel();
        let (factory, address) = (Arc::clone(&self.factory), Arc::clone(&self.address));
        let cell = Arc::clone(life.cell());
        let exit = Exit::of(life);
        let accepted = arbiter.spawn_fn(move || {
            actix_rt::spawn(live(factory, address, exit, asked, span));
        });
        if accepted {
            Ok(Box::new(ActorLife {
                arbiter,
                shutdown: Some(shutdown),
                cell,
            }))
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
    panic_hook::own_this_thread(Some(life.clone()));
    let build = || span.in_scope(|| factory(life.clone()));
    exit.cause = match catch_unwind(AssertUnwindSafe(build)) {
        Ok(actor) => {
            let (mut context, was_asked) = prepare::<A>(&life, asked);
            let (calls, inbox) = inbox::open();
            context.spawn(inbox);
            let panicked = if life.enter(|| address.begin(life.generation(), calls)) {
                run_guarded(context.into_future(actor), span)
                    .await
                    .is_none()
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
