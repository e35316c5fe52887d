//! The actor: one reading after another, and what each means for those who use the secrets.
//!
//! All waiting happens in futures on the actor's own thread; nothing here blocks it. At most one
//! reading is under way at a time. The rules of what follows from a reading are in `course`.

use std::{mem, sync::Arc, time::Instant};

use actix::prelude::*;
use secrecy::SecretString;
use tokio::sync::oneshot;
use tracing::{debug, error, info, warn};

use super::{
    Config, GetSecret, RefreshNow, SecretReference, SecretStore, SecretsError, Vault,
    cache::Cache,
    course::{Course, News, Word},
    error::Chain,
    loader::{self, Failed, Loaded},
    reason,
};
use crate::supervision::{Lifeline, Published, Service, Serving};

/// What [`RefreshNow`] is answered with.
type Refreshed = Result<Vec<String>, SecretsError>;

/// Reads for [`GetSecret`] under way at once, waiting ones included.
const READS_LIMIT: usize = 128;

/// Loads the secrets of the process, publishes them, and keeps them fresh.
///
/// It says `ready` once everything wanted was read, with a version that changes only if a secret
/// does. What it says while Vault cannot be used depends on [`Config::strict`].
pub struct SecretsActor {
    lifeline: Lifeline,
    config: Arc<Config>,
    store: Published<SecretStore>,
    vault: Option<Arc<Vault>>,
    course: Course,
    cache: Cache,
    loading: bool,
    next: Option<SpawnHandle>,
    /// Who waits for the reading under way, and who for the one after it.
    answer_now: Vec<oneshot::Sender<Refreshed>>,
    answer_next: Vec<oneshot::Sender<Refreshed>>,
    unpermitted: Vec<String>,
    reads: usize,
}

impl SecretsActor {
    /// An actor that will publish in `store` what `config` asks for. Nothing happens before its start.
    #[must_use]
    pub fn new(lifeline: Lifeline, config: Config, store: Published<SecretStore>) -> Self {
        Self {
            lifeline,
            store,
            vault: None,
            course: Course::new(config.strict),
            cache: Cache::new(config.refresh_interval),
            config: Arc::new(config),
            loading: false,
            next: None,
            answer_now: Vec::new(),
            answer_next: Vec::new(),
            unpermitted: Vec::new(),
            reads: 0,
        }
    }

    fn serve_literals(&self) {
        let literals = loader::literals(&self.config.wanted);
        let serving = Serving::from("environment").version(literals.fingerprint());
        self.lifeline.publish(&self.store, Arc::new(literals));
        self.lifeline.ready(serving);
        debug!(
            actor.name = self.lifeline.name(),
            "Vault is off: serving the configured secrets"
        );
    }

    /// Starts a reading unless one is under way.
    fn load(&mut self, ctx: &mut Context<Self>) {
        let Some(vault) = self.vault.clone().filter(|_| !self.loading) else {
            return;
        };
        self.loading = true;
        self.answer_now = mem::take(&mut self.answer_next);
        if let Some(planned) = self.next.take() {
            ctx.cancel_future(planned);
        }
        let (config, former) = (Arc::clone(&self.config), self.course.served());
        let reading = async move { loader::load(&vault, &config.wanted, former.as_deref()).await };
        ctx.spawn(
            Box::pin(reading)
                .into_actor(self)
                .map(|loaded, actor, ctx| actor.loaded(loaded, ctx)),
        );
    }

    fn loaded(&mut self, loaded: Loaded, ctx: &mut Context<Self>) {
        self.loading = false;
        self.cache.expire(Instant::now());
        self.tell_unpermitted(&loaded.unpermitted);
        let failures = loaded.failures.clone();
        let verdict = self.course.judge(loaded);
        if let Some(store) = verdict.publish {
            self.lifeline.publish(&self.store, store);
        }
        match verdict.word {
            Word::Ready(serving) => self.lifeline.ready(serving),
            Word::Degraded(reason, serving) => self.lifeline.degraded(reason, serving),
            Word::Unavailable(reason) => self.lifeline.unavailable(reason),
        }
        self.tell(verdict.news, &verdict.changed, &failures);

        let refreshed = match failures.into_iter().next() {
            None => Ok(verdict.changed),
            Some(failed) => Err(failed.error),
        };
        for asker in self.answer_now.drain(..) {
            // Whoever has stopped waiting does not want to know any more.
            drop(asker.send(refreshed.clone()));
        }
        if self.answer_next.is_empty() {
            let Config {
                refresh_interval,
                retry_min,
                retry_max,
                ..
            } = *self.config;
            let wait = self
                .course
                .next_in(refresh_interval, retry_min, retry_max, fastrand::f64());
            self.next = Some(ctx.run_later(wait, Self::load));
        } else {
            self.load(ctx);
        }
    }

    fn tell(&self, news: News, changed: &[String], failures: &[Failed]) {
        let name = self.lifeline.name();
        match news {
            News::Loaded => info!(actor.name = name, "loaded the secrets from Vault"),
            News::Recovered => info!(
                actor.name = name,
                "Vault answers again: secrets are up to date"
            ),
            News::Failed => {
                let Some(first) = failures.first() else {
                    return;
                };
                let also: Vec<_> = failures
                    .iter()
                    .skip(1)
                    .filter_map(|failed| failed.key.as_deref())
                    .collect();
                let reason = first.error.reason().as_str();
                if self.course.served().is_none() {
                    error!(actor.name = name, reason, secrets.also = ?also, "secrets are not loaded, trying again: {first}");
                } else {
                    warn!(actor.name = name, reason, secrets.also = ?also, "secrets are not up to date, going on with what there is: {first}");
                }
            }
            News::None => {
                if let Some(first) = failures.first() {
                    debug!(actor.name = name, "still failing: {first}");
                }
            }
        }
        if !changed.is_empty() {
            info!(actor.name = name, secrets.changed = ?changed, "secrets have changed");
        }
    }

    fn tell_unpermitted(&mut self, unpermitted: &[String]) {
        if !unpermitted.is_empty() && self.unpermitted != unpermitted {
            warn!(
                actor.name = self.lifeline.name(),
                secrets.keys = ?unpermitted,
                "no permission on the default paths of some secrets: they count as not set. Extend the policy, or set them"
            );
        }
        self.unpermitted = unpermitted.to_vec();
    }
}

impl Actor for SecretsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Err(error) = self.config.validate() {
            return self
                .lifeline
                .fail(reason::INVALID_CONFIGURATION, Chain(&error));
        }
        match self.config.vault.clone().map(Vault::new) {
            None => self.serve_literals(),
            Some(Ok(vault)) => {
                self.vault = Some(Arc::new(vault));
                self.load(ctx);
            }
            Some(Err(error)) => self
                .lifeline
                .fail(reason::INVALID_CONFIGURATION, Chain(&error)),
        }
    }
}

/// Stopping needs no farewell: what is under way is only reading.
impl Service for SecretsActor {}

impl Handler<RefreshNow> for SecretsActor {
    type Result = ResponseActFuture<Self, Refreshed>;

    fn handle(&mut self, _: RefreshNow, ctx: &mut Self::Context) -> Self::Result {
        if self.vault.is_none() {
            return answer(Ok(Vec::new()));
        }
        let (asker, answered) = oneshot::channel();
        self.cache.clear();
        self.answer_next.push(asker);
        self.load(ctx);
        // The asker lives as long as this actor, and so does this future.
        Box::pin(
            answered
                .into_actor(self)
                .map(|answer, _, _| answer.unwrap_or_else(|_| Ok(Vec::new()))),
        )
    }
}

impl Handler<GetSecret> for SecretsActor {
    type Result = ResponseActFuture<Self, Result<SecretString, SecretsError>>;

    fn handle(
        &mut self,
        GetSecret { reference }: GetSecret,
        _: &mut Self::Context,
    ) -> Self::Result {
        let asked_at = Instant::now();
        let Some(vault) = self.vault.clone() else {
            return answer(Err(SecretsError::VaultOff { reference }));
        };
        if let Some(document) = self.cache.get(&reference.path, asked_at) {
            return answer(document.field(&reference).cloned());
        }
        if self.reads >= READS_LIMIT {
            return answer(Err(SecretsError::Busy { reference }));
        }
        self.reads += 1;
        let SecretReference { path, .. } = reference.clone();
        let read = async move { vault.read(&path).await };
        Box::pin(
            Box::pin(read)
                .into_actor(self)
                .map(move |document, actor, _| {
                    actor.reads -= 1;
                    let document = Arc::new(document?);
                    actor
                        .cache
                        .insert(reference.path.clone(), Arc::clone(&document), asked_at);
                    document.field(&reference).cloned()
                }),
        )
    }
}

fn answer<T: 'static>(value: T) -> ResponseActFuture<SecretsActor, T> {
    Box::pin(actix::fut::ready(value))
}
