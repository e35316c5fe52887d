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

use super::{Cause, Service, handle::Address, lifeline::Lifeline, panic_hook, wire::Notice};

/// Begins lives of one child; the actor's type is known only in here.
pub(super) trait Incarnate {
    /// Starts a thread and the actor on it.
    ///
    /// # Errors
    ///
    /// The operating system has no thread left.
    fn begin(&self, life: Lifeline) -> io::Result<Incarnation>;
}

/// A running life, as its supervisor holds it.
pub(super) struct Incarnation {
    arbiter: Arbiter,
    shutdown: Option<oneshot::Sender<()>>,
}

impl Incarnation {
    /// Asks the actor to end in good order. Later calls do nothing.
    pub(super) fn shut_down(&mut self) {
        if let Some(shutdown) = self.shutdown.take() {
            // An actor that has already gone needs no asking: its exit is on the way to us.
            shutdown.send(()).ok();
        }
    }

    /// Ends the thread as soon as it comes back to its event loop.
    pub(super) fn end_thread(&self) {
        self.arbiter.stop();
    }
}

/// How a child's lives are built.
pub(super) struct Blueprint<A: Service> {
    pub(super) factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    pub(super) address: Arc<Address<A>>,
}

impl<A: Service> Incarnate for Blueprint<A> {
    fn begin(&self, life: Lifeline) -> io::Result<Incarnation> {
        let arbiter = Arbiter::try_new()?;
        let (shutdown, asked) = oneshot::channel();
        let (factory, address) = (Arc::clone(&self.factory), Arc::clone(&self.address));
        // Made here and not by the task, which may be dropped before its first poll.
        let exit = Exit {
            life,
            cause: Some(Cause::ThreadLost),
        };
        let accepted = arbiter.spawn_fn(move || {
            actix_rt::spawn(live(factory, address, exit, asked));
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
async fn live<A: Service>(
    factory: Arc<dyn Fn(Lifeline) -> A + Send + Sync>,
    address: Arc<Address<A>>,
    mut exit: Exit,
    asked: oneshot::Receiver<()>,
) {
    let life = exit.life.clone();
    panic_hook::own_this_thread(life.clone());
    exit.cause = match catch_unwind(AssertUnwindSafe(|| factory(life.clone()))) {
        Ok(actor) => {
            let (context, was_asked) = prepare::<A>(&life, asked);
            let begin = || address.begin(life.generation(), context.address());
            let panicked = if life.enter(begin) {
                run(context, actor).await
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
fn prepare<A: Service>(
    life: &Lifeline,
    asked: oneshot::Receiver<()>,
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
            if asked.is_ok() {
                note.set(true);
                actor.shutdown(context);
            }
        },
    );
    context.spawn(passed_on);
    (context, was_asked)
}

/// Runs the actor to its end; says whether that was a panic.
///
/// The actor's own `stopped` and `Drop` may panic as well. They run when the context is dropped, and
/// must not run during an unwinding, where a second panic aborts the process: so the context lives
/// outside what is caught, and is dropped in a catch of its own.
async fn run<A: Service>(context: Context<A>, actor: A) -> bool {
    let mut life = Box::pin(context.into_future(actor));
    let panicked =
        poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut life).poll(cx))) {
                Ok(Poll::Pending) => Poll::Pending,
                Ok(Poll::Ready(())) => Poll::Ready(false),
                Err(_) => Poll::Ready(true),
            },
        )
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
