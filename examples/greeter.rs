//! A service of your own on the platform: a supervised actor, a route, and nothing else to write.
use actix::{Actor, Context, Handler, Message};
use dotmac_platform::prelude::*;

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
async fn greet(_: Public, to: Supervised<Greeter>, name: Path<String>) -> Result<String, Problem> {
    let count = to.call(Greet).await?;
    Ok(format!("Hello, {name}! You are number {count}.\n"))
}
impl Module for Greeter {
    const NAME: &'static str = "greeter";
    type Settings = NoSettings;
    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.actor("", Needs::db(), |life, _| Greeter(life, 0))
            .add()?;
        on.routes("/greet", |routes| _ = routes.get("/{name}", greet));
        Ok(())
    }
}
fn main() -> std::process::ExitCode {
    Platform::new("greeter", "1.0.0").module::<Greeter>().main()
}
