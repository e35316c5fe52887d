//! An actor that can be broken on purpose, to see what supervision does about it.
//!
//! Run it, then `curl -X POST localhost:8000/chaos/panic` (or `stop`, `hang?ms=20000`, `silence`), and
//! watch `/ready`, `/metrics` and the log. The tests break it in the same way.
#![expect(
    clippy::panic,
    clippy::disallowed_methods,
    reason = "breaking an actor on purpose is what this is for"
)]

use std::{process::ExitCode, sync::LazyLock, time::Duration};

use actix::prelude::*;
use actix_web::{HttpResponse, get, post, web};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    Db, Needs, Platform, Supervised,
    db::DbError,
    http::Problem,
    on,
    supervision::{Lifeline, Serving, SupervisedActor},
};
use opentelemetry::{global, metrics::Counter};
use serde::Deserialize;
use tracing::{Instrument, Span, debug, info_span};
use utoipa_actix_web::service_config::ServiceConfig;

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

/// What to do to the actor.
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
        // The handler runs within its caller's span; what it leaves behind has to be told.
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

#[derive(Deserialize)]
struct Time {
    #[serde(default)]
    ms: u64,
}

impl Time {
    fn get(&self) -> Duration {
        Duration::from_millis(self.ms)
    }
}

type Answer = Result<HttpResponse, Problem>;

async fn tell(chaos: Supervised<Chaos>, what: Do) -> Answer {
    let generation = chaos.call(what).await?;
    Ok(HttpResponse::Ok().json(serde_json::json!({ "generation": generation })))
}

/// Asks the actor which life it is in.
#[utoipa::path]
#[get("/ping")]
async fn ping(chaos: Supervised<Chaos>) -> Answer {
    PINGS.add(1, &[]);
    let ask = tell(chaos, Do::Ping).instrument(info_span!("ask for the generation"));
    ask.await
}

/// Makes the actor panic.
#[utoipa::path]
#[post("/panic")]
async fn panic(chaos: Supervised<Chaos>) -> Answer {
    tell(chaos, Do::Panic).await
}

/// Makes the actor stop by itself.
#[utoipa::path]
#[post("/stop")]
async fn stop(chaos: Supervised<Chaos>) -> Answer {
    tell(chaos, Do::Stop).await
}

/// Makes the actor hold its thread.
#[utoipa::path(params(("ms" = u64, Query, description = "For how many milliseconds.")))]
#[post("/hang")]
async fn hang(chaos: Supervised<Chaos>, time: web::Query<Time>) -> Answer {
    tell(chaos, Do::Hang(time.get())).await
}

/// Has the actor answer after a while.
#[utoipa::path(params(("ms" = u64, Query, description = "After how many milliseconds.")))]
#[get("/wait")]
async fn wait(chaos: Supervised<Chaos>, time: web::Query<Time>) -> Answer {
    let generation = chaos.call(Wait(time.get())).await?;
    Ok(HttpResponse::Ok().json(generation))
}

/// Asks the actor something that it never answers.
#[utoipa::path]
#[post("/silence")]
async fn silence(chaos: Supervised<Chaos>) -> Answer {
    let generation = chaos.call(Silence).await?;
    Ok(HttpResponse::Ok().json(generation))
}

/// Panics in the request's own handler.
#[utoipa::path]
#[post("/panic-in-handler")]
async fn panic_in_handler() -> Answer {
    panic!("asked to panic in a handler");
}

#[derive(Deserialize)]
struct Many {
    count: u32,
}

/// Makes spans faster than any traffic would.
#[utoipa::path(params(("count" = u32, Query, description = "How many.")))]
#[post("/spans")]
async fn spans(many: web::Query<Many>) -> Answer {
    for _ in 0..many.count {
        info_span!("one of many").in_scope(|| ());
    }
    Ok(HttpResponse::Ok().json("done"))
}

/// Takes its time.
#[utoipa::path(params(("ms" = u64, Query, description = "For how many milliseconds.")))]
#[get("/slow")]
async fn slow(time: web::Query<Time>) -> Answer {
    tokio::time::sleep(time.get()).await;
    Ok(HttpResponse::Ok().json("done"))
}

/// Blocks its worker, and with it all that the worker has to do.
#[utoipa::path(params(("ms" = u64, Query, description = "For how many milliseconds.")))]
#[post("/block")]
async fn block(time: web::Query<Time>) -> Answer {
    tracing::warn!("blocking a worker");
    std::thread::sleep(time.get());
    Ok(HttpResponse::Ok().json("done"))
}

/// Holds a transaction open for some time, then commits it.
#[utoipa::path(params(("ms" = u64, Query, description = "For how many milliseconds.")))]
#[post("/transaction")]
async fn transaction(db: Db, time: web::Query<Time>) -> Answer {
    let time = time.get();
    let work = db.transaction("hold a transaction", async move |connection| {
        on!(connection, |c| diesel::sql_query(
            "DELETE FROM runtime_journal WHERE id < 0"
        )
        .execute(c)
        .await)?;
        tokio::time::sleep(time).await;
        Ok::<_, DbError>(())
    });
    work.await?;
    Ok(HttpResponse::Ok().json("committed"))
}

fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(ping)
        .service(panic)
        .service(stop)
        .service(hang)
        .service(wait)
        .service(silence);
    config
        .service(panic_in_handler)
        .service(spans)
        .service(slow)
        .service(block)
        .service(transaction);
}

#[actix_web::main]
async fn main() -> ExitCode {
    Platform::from_env()
        .actor("chaos", Needs::none(), |life, ()| Chaos(life))
        .routes("/chaos", routes)
        .run()
        .await
}
