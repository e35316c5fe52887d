//! The actor: periodic reads, leased credentials, and the resulting state for consumers of the secrets.
//!
//! All waiting happens in futures on the actor's own thread; nothing here blocks it. At most one
//! reading is under way at a time, and one step of `rotation`. What follows is in `load_state`.

use std::{
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::prelude::*;
use tokio::sync::{Notify, oneshot};
use tracing::{Instrument, Span, debug, info_span, warn};

use super::{
    Change, Config, SecretFeed, SecretStore, SecretsError, Vault, VaultFailure, Wanted,
    backoff::Backoff,
    instruments::Rotated,
    lease::{Leased, Rotation, RotationEvent},
    loader::{self, Cache, LoadState, Loaded, ReportedState, report},
    reason,
};
use dotmac_supervision::{Lifeline, Published, Serving, SupervisedActor};

mod answers;

/// The answer to [`RefreshNow`](super::RefreshNow).
type Refreshed = Result<Vec<String>, SecretsError>;

/// Between a refusal and the reading that it causes: many connections are refused at once.
const REFUSAL_PAUSE: Duration = Duration::from_millis(250);

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
    load_state: LoadState,
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
    /// Rung when Vault answers again, for what waits after its own failure.
    answers: Arc<Notify>,
    tending: Option<SpawnHandle>,
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
            load_state: LoadState::new(config.strict),
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
            answers: Arc::default(),
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
        let changes = self.feed.publish(store);
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
        let (wanted, former) = (Arc::clone(&self.wanted), self.load_state.served());
        let reading = async move { loader::load(&vault, &wanted, former.as_deref()).await };
        // Part of the span that asked for it, if there is one: the start, a request.
        let reading = reading.instrument(info_span!("read secrets"));
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
        let pauses = loaded.failures.iter().filter_map(|it| it.error.pause());
        let pause = pauses.max().unwrap_or_default();
        self.loaded = Some(loaded);
        if failed.is_none() && self.leased.meets_an_outage() {
            self.answers.notify_one();
        }
        let changed = self.settle();
        for asker in self.answer_now.drain(..) {
            let refreshed = match &failed {
                None => Ok(changed.clone()),
                Some(error) => Err(error.clone()),
            };
            // A caller that has stopped waiting needs no answer.
            drop(asker.send(refreshed));
        }
        if self.answer_next.is_empty() {
            // A tenth more or less, so that replicas that started together do not ask together.
            let refresh = || {
                let interval = self.config.refresh_interval;
                interval.mul_f64(0.9 + 0.2 * fastrand::f64())
            };
            let wait = self.backoff.wait(fastrand::f64()).unwrap_or_else(refresh);
            self.next = Some(ctx.run_later(wait.max(pause), Self::load));
        } else {
            self.load(ctx);
        }
    }

    /// Derives the state from the last read and the leased credentials, and reports it; returns the changed keys.
    fn settle(&mut self) -> Vec<String> {
        let Some(mut loaded) = self.loaded.clone() else {
            return Vec::new();
        };
        if let Some(role) = &self.config.database_role {
            if !self.leased.has_reported() {
                return Vec::new();
            }
            self.leased.join(&mut loaded, role);
        }
        let failures = loaded.failures.clone();
        let verdict = self.load_state.judge(loaded);
        let serves = self.load_state.served().is_some();
        report::reading(self.lifeline.name(), verdict.news, &failures, serves);
        let changed = verdict
            .publish
            .as_ref()
            .map(|store| self.publish(store))
            .unwrap_or_default();
        let served = self.load_state.served();
        let serving = |source| self.serving(source, served.as_deref());
        match verdict.word {
            ReportedState::Ready(source) => self.lifeline.ready(serving(source)),
            ReportedState::Degraded(reason, source) => {
                self.lifeline.degraded(reason, serving(source))
            }
            ReportedState::Unavailable(reason) => self.lifeline.unavailable(reason),
        }
        changed
    }

    fn reading_met_an_outage(&self) -> bool {
        let failures = self.loaded.iter().flat_map(|loaded| &loaded.failures);
        let mut causes = failures.filter_map(|failed| failed.error.failure());
        causes.any(VaultFailure::is_outage)
    }

    /// Keeps token and leases, step by step.
    fn maintain(&mut self, rotation: Rotation, ctx: &mut Context<Self>) {
        let step = Box::pin(rotation.step()).into_actor(self);
        self.tending = Some(ctx.spawn(step.map(|(rotation, news), actor, ctx| {
            let role = actor.config.database_role.as_ref();
            let answered = matches!(news, RotationEvent::Issued(_) | RotationEvent::Kept(_));
            actor.leased.hear(news, role, &actor.feed);
            actor.settle();
            if answered && actor.reading_met_an_outage() {
                actor.load(ctx);
            }
            actor.maintain(rotation, ctx);
        })));
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
            debug!(secrets.refused = ?refused, "a server refused secrets: reading them again");
            let role = actor.config.database_role.as_ref();
            if role.is_some_and(|role| refused.contains(&role.password)) {
                if actor.leased.is_refused() {
                    actor.demand.notify_one();
                }
            } else {
                actor.load(ctx);
            }
            actor.heed_refusals(ctx);
        }));
    }

    fn tell_unpermitted(&mut self, unpermitted: &[String]) {
        if !unpermitted.is_empty() && self.unpermitted != unpermitted {
            report::unpermitted(self.lifeline.name(), unpermitted);
        }
        self.unpermitted = unpermitted.to_vec();
    }

    /// Counts and logs a change, unless it is of leased credentials: those are logged on arrival, once for user and
    /// password, and their consumer counts them.
    fn tell_change(&self, change: &Change) {
        let role = self.config.database_role.as_ref();
        if role.is_some_and(|role| [&role.username, &role.password].contains(&&change.key)) {
            return;
        }
        let result = if change.waiting.is_empty() {
            Rotated::Applied
        } else {
            Rotated::NeedsRestart
        };
        self.feed.instruments().rotated(&change.key, result);
        report::change(self.lifeline.name(), change);
    }
}

impl Actor for SecretsActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        if let Err(error) = self.config.validate() {
            return self
                .lifeline
                .fail(reason::INVALID_CONFIGURATION, dotmac_causes::Chain(&error));
        }
        match self.config.vault.clone().map(Vault::new) {
            None => {
                self.serve_literals();
                debug!("Vault is off: serving the configured secrets");
            }
            Some(Ok(vault)) => {
                let vault = Arc::new(vault.remembering_in(&self.feed));
                let rotation = Rotation::new(
                    &vault,
                    self.config.database_role.clone(),
                    (Arc::clone(&self.demand), Arc::clone(&self.answers)),
                    self.config.refresh_interval,
                    self.backoff,
                );
                self.vault = Some(vault);
                self.load(ctx);
                self.maintain(rotation, ctx);
                self.heed_refusals(ctx);
            }
            Some(Err(error)) => self
                .lifeline
                .fail(reason::INVALID_CONFIGURATION, dotmac_causes::Chain(&error)),
        }
    }
}

impl SupervisedActor for SecretsActor {
    /// Gives leases and token back if the process ends; a restart leaves them to those who use them.
    fn shutdown(&mut self, ctx: &mut Self::Context) {
        if let Some(tending) = self.tending.take() {
            ctx.cancel_future(tending);
        }
        let Some(vault) = self.vault.clone().filter(|_| self.feed.is_ending()) else {
            return ctx.stop();
        };
        let limit = self.config.revoke_all_within;
        let revoke_all = async move {
            if tokio::time::timeout(limit, vault.revoke_all())
                .await
                .is_err()
            {
                warn!("Vault did not revoke leases and token in time; they expire");
            }
        };
        ctx.spawn(
            Box::pin(revoke_all.instrument(Span::current()))
                .into_actor(self)
                .map(|(), _, ctx| ctx.stop()),
        );
    }
}
