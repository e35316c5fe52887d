//! An actor with its own secret in Vault, `vault:signer/key`, which it takes while it runs.
use actix::{Actor, AsyncContext as _, Context, Handler, Message, MessageResult, StreamHandler};
use dotmac_platform::{
    prelude::*,
    secrets::{ExposeSecret, SecretString, SecretWatch},
};

struct Signer {
    life: Lifeline,
    watch: SecretWatch,
    key: Option<SecretString>,
    taken: u64,
}
impl SupervisedActor for Signer {}
impl Actor for Signer {
    type Context = Context<Self>;
    fn started(&mut self, context: &mut Self::Context) {
        context.add_stream(self.watch.changes());
        self.life.ready(Serving::default());
    }
}
impl StreamHandler<Option<SecretString>> for Signer {
    fn handle(&mut self, key: Option<SecretString>, _: &mut Self::Context) {
        self.key = key;
        self.taken += 1;
    }
}
/// How many keys it has had, and how long the present one is.
#[derive(Message)]
#[rtype(result = "(u64, usize)")]
struct Ask;
impl Handler<Ask> for Signer {
    type Result = MessageResult<Ask>;
    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> Self::Result {
        let length = |key: &SecretString| key.expose_secret().len();
        MessageResult((self.taken, self.key.as_ref().map_or(0, length)))
    }
}
async fn ask(_: Public, signer: Supervised<Signer>) -> Result<Json<Vec<u64>>, Problem> {
    let (taken, length) = signer.call(Ask).await?;
    Ok(Json(vec![taken, length as u64]))
}
impl Module for Signer {
    const NAME: &'static str = "signer";
    type Settings = NoSettings;
    fn manifest() -> Manifest {
        Manifest::new("Follows its own secret.").required()
    }
    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let signer = |life, watch| Signer {
            life,
            watch,
            key: None,
            taken: 0,
        };
        on.actor("", Needs::secret("vault:signer/key"), signer)
            .add()?;
        on.root_routes("/signer", |routes| _ = routes.get("", ask));
        Ok(())
    }
}

fn main() -> std::process::ExitCode {
    Platform::new("signer", "1.0.0").module::<Signer>().main()
}
