//! An actor and a worker that can be broken on purpose, to see what supervision does about it.
//!
//! Run it, then `curl -X POST localhost:8000/chaos/panic` (or `stop`, `hang?ms=20000`, `silence`,
//! `worker?order=panic`), and watch `/ready`, `/metrics` and the log. The tests break it in the same way.
#![expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "breaking an actor on purpose is what this is for"
)]

use std::{
    io,
    process::ExitCode,
    sync::{Arc, LazyLock, Mutex, PoisonError},
    time::Duration,
};

use actix::{Actor, ActorContext as _, Context, Handler, Message, ResponseFuture};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    Exit,
    module::{CommandContext, ModuleCommand},
    on,
    prelude::*,
    supervision::{Schedule, WorkerContext, WorkerHandle},
};
use opentelemetry::{global, metrics::Counter};
use serde::{Deserialize, Serialize};
use tracing::{Instrument, Span, debug, info_span};
use utoipa::{IntoParams, ToSchema};

/// Measured as anywhere: nothing of ours is needed for `chaos_pings_total`, here and by OTLP.
static PINGS: LazyLock<Counter<u64>> = LazyLock::new(|| {
    global::meter("chaos")
        .u64_counter("chaos.pings")
        .with_description("Pings asked for.")
        .build()
});

struct Chaos(Lifeline);

impl Actor for Chaos {
    type Context = Context<Self>;

    fn started(&mut self, _: &mut Self::Context) {
        self.0.ready(Serving::default());
    }
}

impl SupervisedActor for Chaos {}

/// The fault to cause.
#[derive(Message)]
#[rtype(result = "u64")]
enum Do {
    /// Answer with the number of the life.
    Ping,
    /// Panic in the handler.
    Panic,
    /// Stop without being asked to.
    Stop,
    /// Hold the thread for so long.
    Hang(Duration),
}

impl Handler<Do> for Chaos {
    type Result = u64;

    fn handle(&mut self, what: Do, context: &mut Self::Context) -> u64 {
        match what {
            Do::Ping => debug!("answering a ping"),
            Do::Panic => panic!("asked to panic"),
            Do::Stop => context.stop(),
            Do::Hang(time) => std::thread::sleep(time),
        }
        self.0.generation()
    }
}

/// A call that is answered after a while, without holding the thread.
#[derive(Message)]
#[rtype(result = "u64")]
struct Wait(Duration);

impl Handler<Wait> for Chaos {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, Wait(time): Wait, _: &mut Self::Context) -> Self::Result {
        let generation = self.0.generation();
        let answer = async move {
            tokio::time::sleep(time)
                .instrument(info_span!("take a while"))
                .await;
            debug!("waited long enough");
            generation
        };
        // The handler runs within its caller's span; a spawned task needs the span explicitly.
        Box::pin(answer.instrument(Span::current()))
    }
}

/// A call that is never answered, by an actor that is otherwise well.
#[derive(Message)]
#[rtype(result = "u64")]
struct Silence;

impl Handler<Silence> for Chaos {
    type Result = ResponseFuture<u64>;

    fn handle(&mut self, _: Silence, _: &mut Self::Context) -> Self::Result {
        Box::pin(std::future::pending())
    }
}

/// The worker, and what it is to do in its next run.
#[derive(Clone)]
struct Worker {
    handle: WorkerHandle,
    next: Arc<Mutex<Option<Work>>>,
}

#[derive(Clone, Copy, Deserialize, IntoParams)]
struct Work {
    #[param(inline)]
    order: Order,
    /// How many milliseconds, where it takes time.
    #[serde(default)]
    ms: u64,
}

#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Panic.
    Panic,
    /// Return an error.
    Fail,
    /// Hold the thread.
    Block,
    /// Wait, and count each second as progress.
    Wait,
}

/// Executes a request in one run, and nothing in the others.
async fn work(context: WorkerContext, next: Arc<Mutex<Option<Work>>>) -> io::Result<()> {
    let work = next.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Work { order, ms }) = work else {
        return Ok(());
    };
    match order {
        Order::Panic => panic!("asked to panic"),
        Order::Fail => return Err(io::Error::other("asked to fail")),
        Order::Block => std::thread::sleep(Duration::from_millis(ms)),
        Order::Wait => {
            context.progress(1, Some(2));
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
    }
    Ok(())
}

#[derive(Deserialize, IntoParams)]
struct Time {
    /// How many milliseconds.
    #[serde(default)]
    ms: u64,
}

impl Time {
    fn get(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

/// Which life of the actor answered.
#[derive(Serialize, ToSchema)]
struct Generation {
    generation: u64,
}

type Reply<T> = Result<Json<T>, Problem>;

async fn tell(chaos: Supervised<Chaos>, what: Do) -> Reply<Generation> {
    let generation = chaos.call(what).await?;
    Ok(Json(Generation { generation }))
}

async fn ping(_: Public, chaos: Supervised<Chaos>) -> Reply<Generation> {
    PINGS.add(1, &[]);
    let ask = tell(chaos, Do::Ping).instrument(info_span!("ask for the generation"));
    ask.await
}

async fn panic(_: Public, chaos: Supervised<Chaos>) -> Reply<Generation> {
    tell(chaos, Do::Panic).await
}

async fn stop(_: Public, chaos: Supervised<Chaos>) -> Reply<Generation> {
    tell(chaos, Do::Stop).await
}

async fn hang(_: Public, chaos: Supervised<Chaos>, time: Query<Time>) -> Reply<Generation> {
    tell(chaos, Do::Hang(time.get())).await
}

async fn wait(_: Public, chaos: Supervised<Chaos>, time: Query<Time>) -> Reply<u64> {
    Ok(Json(chaos.call(Wait(time.get())).await?))
}

async fn silence(_: Public, chaos: Supervised<Chaos>) -> Reply<u64> {
    Ok(Json(chaos.call(Silence).await?))
}

async fn panic_in_handler(_: Public) -> Reply<()> {
    panic!("asked to panic in a handler");
}

async fn order(_: Public, worker: Use<Worker>, work: Query<Work>) -> Reply<&'static str> {
    *worker.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(work.into_inner());
    worker.handle.run_now();
    Ok(Json("ordered"))
}

#[derive(Deserialize, IntoParams)]
struct Many {
    /// How many.
    count: u32,
}

async fn spans(_: Public, many: Query<Many>) -> Reply<&'static str> {
    for _ in 0..many.count {
        info_span!("one of many").in_scope(|| ());
    }
    Ok(Json("done"))
}

async fn slow(_: Public, time: Query<Time>) -> Reply<&'static str> {
    tokio::time::sleep(time.get()).await;
    Ok(Json("done"))
}

async fn block(_: Public, time: Query<Time>) -> Reply<&'static str> {
    tracing::warn!("blocking a worker");
    std::thread::sleep(time.get());
    Ok(Json("done"))
}

/// The state of handlers.
#[derive(Clone)]
struct Store(ModuleDb);

async fn transaction(_: Public, store: Use<Store>, time: Query<Time>) -> Reply<&'static str> {
    let time = time.get();
    let db = store.0.0.system("chaos holds a transaction");
    let work = db.transaction("hold a transaction", async move |tx| {
        on!(tx, |c| diesel::sql_query(
            "DELETE FROM runtime_journal WHERE id < 0"
        )
        .execute(c)
        .await)?;
        tokio::time::sleep(time).await;
        Ok::<_, DbError>(())
    });
    work.await?;
    Ok(Json("committed"))
}

fn routes(routes: &mut Routes) {
    routes
        .get("/ping", ping)
        .summary("Asks the actor which life it is in.");
    routes
        .post("/panic", panic)
        .summary("Makes the actor panic.");
    routes
        .post("/stop", stop)
        .summary("Makes the actor stop by itself.");
    routes
        .post("/hang", hang)
        .summary("Makes the actor hold its thread.");
    routes
        .get("/wait", wait)
        .summary("Has the actor answer after a while.");
    routes
        .post("/silence", silence)
        .summary("Asks the actor something that it never answers.");
    routes
        .post("/worker", order)
        .summary("Has the worker run at once, and do that.");
    routes
        .post("/panic-in-handler", panic_in_handler)
        .summary("Panics in the request's own handler.");
    routes
        .post("/spans", spans)
        .summary("Makes spans faster than any traffic would.");
    routes.get("/slow", slow).summary("Takes its time.");
    routes
        .post("/block", block)
        .summary("Blocks its worker, and with it all that the worker has to do.");
    routes
        .post("/transaction", transaction)
        .summary("Holds a transaction open for some time, then commits it.");
}

/// Breaks what it is run by.
#[derive(clap::Parser)]
enum ChaosCommand {
    /// Panics.
    Panic,
}

impl ModuleCommand for ChaosCommand {
    async fn run(self, _: CommandContext) -> Result<(), Exit> {
        match self {
            Self::Panic => panic!("asked to panic"),
        }
    }
}

impl Module for Chaos {
    const NAME: &'static str = "chaos";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("An actor and a worker that can be broken on purpose.")
            .required()
            .command::<ChaosCommand>()
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.actor("", Needs::none(), |life, ()| Chaos(life)).add()?;
        let next = Arc::<Mutex<Option<Work>>>::default();
        let orders = Arc::clone(&next);
        let hourly = Schedule::Every(Duration::from_secs(3600));
        let worker = on.worker("worker", hourly, move |context| {
            work(context, Arc::clone(&orders))
        });
        let handle = worker.optional().add()?;
        on.provide(Worker { handle, next });
        on.provide(Store(on.db()));
        on.root_routes("/chaos", routes);
        Ok(())
    }
}

fn main() -> ExitCode {
    Platform::new("chaos", env!("CARGO_PKG_VERSION"))
        .module::<Chaos>()
        .main()
}
