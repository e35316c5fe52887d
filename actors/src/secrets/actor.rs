//! The actor: one reading after another, and what each means for those who use the secrets.
//!
//! All waiting happens in futures on the actor's own thread; nothing here blocks it. At most one
//! reading is under way at a time. The rules of what follows from a reading are in `course`.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use secrecy::SecretString;
use tokio::sync::{Notify, oneshot};
use tracing::{debug, error, info, warn};

use super::{
    Change, Config, DatabaseRole, GetSecret, LeaseHold, RefreshNow, SecretFeed, SecretReference,
    SecretStore, SecretsError, Vault, Want, Wanted,
    backoff::Backoff,
    cache::Cache,
    course::{Course, News, Word},
    database::Issued,
    error::Chain,
    hold::Report,
    instruments::Rotated,
    loader::{self, Failed, Loaded},
    reason,
    rotation::{News as RotationNews, Rotation},
};
use crate::supervision::{Lifeline, Published, Service, Serving};

/// What [`RefreshNow`] is answered with.
type Refreshed = Result<Vec<String>, SecretsError>;

/// Between a refusal and the reading that it causes: many connections are refused at once.
const REFUSAL_PAUSE: Duration = Duration::from_millis(250);

/// Reads for [`GetSecret`] under way at once, waiting ones included.
const READS_LIMIT: usize = 128;

/// Loads the secrets of the process, publishes them, and keeps them fresh.
///
/// It says `ready` once everything wanted was read, with a version that changes only if a secret
/// does that some consumer cannot take live. What it says while Vault cannot be used depends on
/// [`Config::strict`].
pub struct SecretsActor {
    lifeline: Lifeline,
    config: Arc<Config>,
    wanted: Arc<Vec<Wanted>>,
    store: Published<SecretStore>,
    feed: SecretFeed,
    backoff: Backoff,
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
    /// The last reading, and what there is of leased credentials; together they are what is served.
    loaded: Option<Loaded>,
    leased: Leased,
    /// Rung when leased credentials were refused where they are used.
    demand: Arc<Notify>,
    tending: Option<SpawnHandle>,
}

/// What there is of credentials that Vault leases.
#[derive(Default)]
struct Leased {
    present: Option<(Issued, LeaseHold)>,
    failure: Option<SecretsError>,
    expired: bool,
    /// Whether anything was heard yet.
    reported: bool,
}

impl SecretsActor {
    /// An actor that will publish in `store` what `config` asks for, and tell those who subscribe to
    /// `feed`. Nothing happens before its start.
    #[must_use]
    pub fn new(
        lifeline: Lifeline,
        config: Config,
        store: Published<SecretStore>,
        feed: SecretFeed,
    ) -> Self {
        let configured = || Arc::new(config.wanted.clone());
        Self {
            lifeline,
            store,
            wanted: feed.wanted().unwrap_or_else(configured),
            feed,
            backoff: Backoff::new(config.retry_min, config.retry_max),
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
            loaded: None,
            leased: Leased::default(),
            demand: Arc::default(),
            tending: None,
        }
    }

    fn serve_literals(&self) -> Vec<String> {
        let literals = Arc::new(loader::literals(&self.wanted));
        let changed = self.publish(&literals);
        self.lifeline
            .ready(self.serving("environment", Some(&*literals)));
        changed
    }

    /// Hands a store to those who take it; answers the keys that have changed.
    fn publish(&self, store: &Arc<SecretStore>) -> Vec<String> {
        self.lifeline.publish(&self.store, Arc::clone(store));
        let changes = self.feed.tell(store);
        changes
            .into_iter()
            .map(|change| {
                self.tell_change(&change);
                change.key
            })
            .collect()
    }

    fn serving(&self, source: &'static str, store: Option<&SecretStore>) -> Serving {
        let version = store.map_or(0, |store| self.feed.version(store));
        Serving::from(source).version(version)
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
        let (wanted, former) = (Arc::clone(&self.wanted), self.course.served());
        let reading = async move { loader::load(&vault, &wanted, former.as_deref()).await };
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
        self.backoff.note(!loaded.failures.is_empty());
        let failed = loaded.failures.first().map(|failed| failed.error.clone());
        self.loaded = Some(loaded);
        let changed = self.settle();
        for asker in self.answer_now.drain(..) {
            let refreshed = match &failed {
                None => Ok(changed.clone()),
                Some(error) => Err(error.clone()),
            };
            // Whoever has stopped waiting does not want to know any more.
            drop(asker.send(refreshed));
        }
        if self.answer_next.is_empty() {
            // A tenth more or less, so that replicas that started together do not ask together.
            let refresh = || {
                let interval = self.config.refresh_interval;
                interval.mul_f64(0.9 + 0.2 * fastrand::f64())
            };
            let wait = self.backoff.wait(fastrand::f64()).unwrap_or_else(refresh);
            self.next = Some(ctx.run_later(wait, Self::load));
        } else {
            self.load(ctx);
        }
    }

    /// Judges what the last reading and the leased credentials make together, and says so; the keys
    /// that have changed.
    fn settle(&mut self) -> Vec<String> {
        let Some(mut loaded) = self.loaded.clone() else {
            return Vec::new();
        };
        if let Some(role) = &self.config.database_role {
            if !self.leased.reported {
                return Vec::new();
            }
            self.leased.join(&mut loaded, role);
        }
        let failures = loaded.failures.clone();
        let verdict = self.course.judge(loaded);
        self.tell(verdict.news, &failures);
        let served = verdict.publish.as_deref();
        let changed = verdict
            .publish
            .as_ref()
            .map(|store| self.publish(store))
            .unwrap_or_default();
        match verdict.word {
            Word::Ready(source) => self.lifeline.ready(self.serving(source, served)),
            Word::Degraded(reason, source) => {
                self.lifeline.degraded(reason, self.serving(source, served));
            }
            Word::Unavailable(reason) => self.lifeline.unavailable(reason),
        }
        changed
    }

    /// Keeps token and leases, step by step.
    fn tend(&mut self, rotation: Rotation, ctx: &mut Context<Self>) {
        let step = Box::pin(rotation.step()).into_actor(self);
        self.tending = Some(ctx.spawn(step.map(|(rotation, news), actor, ctx| {
            actor.hear(news);
            actor.tend(rotation, ctx);
        })));
    }

    fn hear(&mut self, news: RotationNews) {
        let role = self.config.database_role.as_ref();
        self.leased.reported = true;
        match news {
            RotationNews::Issued(issued) => {
                let report = role.map(|role| Report {
                    feed: self.feed.clone(),
                    secret: role.name,
                    key: role.password.clone(),
                });
                if let Some(role) = role {
                    let instruments = self.feed.instruments();
                    instruments.ends_at(role.name, issued.clock.horizon());
                }
                let hold = LeaseHold::new(Arc::clone(&issued.lease), report);
                self.leased.present = Some((issued, hold));
                self.leased.failure = None;
                self.leased.expired = false;
            }
            RotationNews::Kept(deadline) => {
                if let (Some(role), Some(deadline)) = (role, deadline) {
                    self.feed.instruments().ends_at(role.name, deadline);
                }
                self.leased.failure = None;
            }
            RotationNews::Failed(error) => {
                if let (Some(role), SecretsError::Issue { .. }) = (role, &error) {
                    self.feed.instruments().rotated(role.name, Rotated::Failed);
                }
                self.leased.failure = Some(error);
            }
            RotationNews::Expired => {
                error!(
                    actor.name = self.lifeline.name(),
                    "the lease on the database's credentials has ended and Vault has given no others"
                );
                self.leased.present = None;
                self.leased.expired = true;
            }
        }
        self.settle();
    }

    fn tell(&self, news: News, failures: &[Failed]) {
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
    }

    /// One line for each key, by name only: who has the new value, and who waits for a restart.
    fn tell_change(
        &self,
        Change {
            key,
            taken_by,
            waiting,
        }: &Change,
    ) {
        let name = self.lifeline.name();
        let role = self.config.database_role.as_ref();
        if role.is_some_and(|role| [&role.username, &role.password].contains(&key)) {
            // Said once for both, when they came, and counted by who takes them.
            return;
        }
        let result = if waiting.is_empty() {
            Rotated::Applied
        } else {
            Rotated::NeedsRestart
        };
        self.feed.instruments().rotated(key, result);
        if waiting.is_empty() {
            info!(actor.name = name, key, result = "applied", secrets.taken_by = ?taken_by, "the secret `{key}` has changed");
        } else {
            warn!(actor.name = name, key, result = "needs_restart", secrets.waiting = ?waiting, "the secret `{key}` has changed and needs a restart of {waiting:?}");
        }
    }

    /// Reads everything again; `answer_next` is served by the first reading that begins now.
    fn refresh(&mut self, ctx: &mut Context<Self>) -> ResponseActFuture<Self, Refreshed> {
        if self.vault.is_none() {
            return answer(Ok(self.serve_literals()));
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

    /// Reads again at once when a consumer says that a secret was refused, at most once in
    /// [`REFUSAL_PAUSE`].
    fn heed_refusals(&mut self, ctx: &mut Context<Self>) {
        let feed = self.feed.clone();
        let refusals = async move {
            let refused = feed.refusals().await;
            tokio::time::sleep(REFUSAL_PAUSE).await;
            refused
        };
        ctx.spawn(Box::pin(refusals).into_actor(self).map(|refused, actor, ctx| {
            debug!(secrets.refused = ?refused, "secrets were refused where they are used: reading again");
            let role = actor.config.database_role.as_ref();
            if role.is_some_and(|role| refused.contains(&role.password)) {
                actor.demand.notify_one();
            } else {
                actor.load(ctx);
            }
            actor.heed_refusals(ctx);
        }));
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
            None => {
                self.serve_literals();
                debug!(
                    actor.name = self.lifeline.name(),
                    "Vault is off: serving the configured secrets"
                );
            }
            Some(Ok(vault)) => {
                let vault = Arc::new(vault.with_outbox(self.feed.outbox()));
                let rotation = Rotation::new(
                    &vault,
                    self.config.database_role.clone(),
                    Arc::clone(&self.demand),
                    self.config.refresh_interval,
                    self.backoff,
                );
                self.vault = Some(vault);
                self.load(ctx);
                self.tend(rotation, ctx);
                self.heed_refusals(ctx);
            }
            Some(Err(error)) => self
                .lifeline
                .fail(reason::INVALID_CONFIGURATION, Chain(&error)),
        }
    }
}

impl Service for SecretsActor {
    /// Gives leases and token back if the process ends; a restart leaves them to those who use them.
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        if let Some(tending) = self.tending.take() {
            ctx.cancel_future(tending);
        }
        let Some(vault) = self.vault.clone().filter(|_| self.feed.is_ending()) else {
            return ctx.stop();
        };
        let limit = self.config.farewell;
        let farewell = async move {
            if tokio::time::timeout(limit, vault.farewell()).await.is_err() {
                warn!("Vault did not take leases and token back in time; they end by themselves");
            }
        };
        ctx.spawn(
            Box::pin(farewell)
                .into_actor(self)
                .map(|(), _, ctx| ctx.stop()),
        );
    }
}

impl Leased {
    /// Adds what there is to `loaded`, and what there should be to its failures.
    fn join(&self, loaded: &mut Loaded, role: &DatabaseRole) {
        if let Some((issued, hold)) = &self.present {
            let store = &mut loaded.store;
            store.insert_leased(&role.username, issued.username.clone(), hold);
            store.insert_leased(&role.password, issued.password.clone(), hold);
        }
        if let Some(error) = &self.failure {
            let key = Some(role.password.clone());
            let error = error.clone();
            loaded.failures.push(Failed { key, error });
        }
        if self.expired {
            for key in [&role.username, &role.password] {
                loaded.store.mark_absent(key, reason::LEASE_EXPIRED);
            }
            let key = Some(role.password.clone());
            let role = role.role.clone();
            let error = SecretsError::LeaseExpired { role };
            loaded.failures.insert(0, Failed { key, error });
        }
    }
}

impl Handler<RefreshNow> for SecretsActor {
    type Result = ResponseActFuture<Self, Refreshed>;

    fn handle(&mut self, _: RefreshNow, ctx: &mut Self::Context) -> Self::Result {
        self.refresh(ctx)
    }
}

impl Handler<Want> for SecretsActor {
    type Result = ResponseActFuture<Self, Refreshed>;

    fn handle(&mut self, Want { wanted }: Want, ctx: &mut Self::Context) -> Self::Result {
        self.wanted = Arc::new(wanted);
        self.feed.want(Arc::clone(&self.wanted));
        self.refresh(ctx)
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
