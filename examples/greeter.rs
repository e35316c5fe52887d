//! A service of your own on the platform: a supervised actor, a route, and nothing else to write.
use actix::prelude::*;
use actix_web::{get, web::Path};
use dotmac_platform::supervision::{Lifeline, Serving, SupervisedActor};
use dotmac_platform::{Needs, Platform, Supervised, http::Problem};

struct Greeter(Lifeline, u64);
impl SupervisedActor for Greeter {}
impl Actor for Greeter {
    type Context = Context<Self>;
    fn started(&mut self, _: &mut Self::Context) {
        self.0.ready(Serving::default());
    }
}
#[derive(Message)]
#[rtype(u64)]
struct Greet;
impl Handler<Greet> for Greeter {
    type Result = u64;
    fn handle(&mut self, _: Greet, _: &mut Self::Context) -> u64 {
        self.1 += 1;
        self.1
    }
}
#[utoipa::path(responses((status = 200, description = "A greeting.", body = String)))]
#[get("/{name}")]
async fn greet(greeter: Supervised<Greeter>, name: Path<String>) -> Result<String, Problem> {
    let count = greeter.call(Greet).await?;
    Ok(format!("Hello, {name}! You are number {count}.\n"))
}

#[actix_web::main]
async fn main() -> std::process::ExitCode {
    Platform::from_env()
        .actor("greeter", Needs::db(), |life, _| Greeter(life, 0))
        .routes("/greet", |routes| _ = routes.service(greet))
        .run()
        .await
}
