//! An actor with a secret of its own in Vault, `vault:signer/key`, which it takes while it runs.
use actix::prelude::*;
use actix_web::{get, web::Json};
use dotmac_platform::secrets::{ExposeSecret, SecretString, SecretWatch};
use dotmac_platform::supervision::{Lifeline, Serving, SupervisedActor};
use dotmac_platform::{Needs, Platform, Supervised, http::Problem};

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
#[utoipa::path]
#[get("")]
async fn ask(signer: Supervised<Signer>) -> Result<Json<(u64, usize)>, Problem> {
    Ok(Json(signer.call(Ask).await?))
}

#[actix_web::main]
async fn main() -> std::process::ExitCode {
    let signer = |life, watch| Signer {
        life,
        watch,
        key: None,
        taken: 0,
    };
    Platform::from_env()
        .actor("signer", Needs::secret("vault:signer/key"), signer)
        .routes("/signer", |routes| _ = routes.service(ask))
        .run()
        .await
}
