//! Where a module puts its parts.

use std::{sync::Arc, time::Duration};

use dotmac_db::{Db, DbError, Held, ModuleDb, TenantTx, Tx, sealing::Sealer};
use dotmac_secrets::SecretWatch;
use dotmac_supervision::{
    ActorFactory, Lifeline, Schedule, SupervisedActor, WorkerBody, WorkerContext,
};

use serde::de::DeserializeOwned;

use super::{
    Assembly, ComponentBuilder, Finding, Later, Measured, MountError, Needs, SubscriptionBuilder,
    WorkerError, check::ConnectionCheck, component, explanation::Explanation, single,
};
use crate::{
    access::{Authenticator, Authorizer},
    egress::Egress,
    events::{Event, EventCatalogue, HandlerError, Handles, Received, StoredEvent, Subscriber},
    mail::Mailer,
    routing::{ModuleRequests, Routes},
    settings::{Applied, Group, Live, SecretSetting},
};

/// Below it are the routes of all modules.
pub(crate) const API_PREFIX: &str = "/api/v1";

/// A program while one module is being mounted on it.
///
/// Components added here start once every module is mounted. Components are named after the module: `notes` for the
/// name `""`, `notes.index` for `"index"`.
pub struct Mount<'a> {
    pub(super) assembly: &'a mut Assembly,
    pub(super) db: ModuleDb,
    pub(super) requests: Arc<ModuleRequests>,
    pub(super) module: &'static str,
    pub(super) is_required: bool,
    pub(super) seals: bool,
}

impl Mount<'_> {
    /// The module's name.
    #[must_use]
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// The database, with at most the module's share of its connections.
    #[must_use]
    pub fn db(&self) -> ModuleDb {
        self.db.clone()
    }

    /// A secret of the module's settings, whether it is written out, in a file or in Vault. The watch follows each
    /// change of it.
    #[must_use]
    pub fn secret(&self, secret: &SecretSetting) -> SecretWatch {
        self.assembly.feed.watch(self.module, secret.key())
    }

    /// The module's `settings`, to be read afresh by each piece of work: at a reload its live keys change, and the others
    /// stay as they were at the start.
    pub fn live<G: Group>(&mut self, settings: G) -> Live<G> {
        self.assembly.appliers.live(self.module, settings)
    }

    /// Applies live keys of the module's settings where [`live`](Self::live) is not enough: `apply` is called at each
    /// reload that changes one, on its own thread, with the live keys as they are now and the others as they were
    /// at the start. It may take 5 s, and rejects the new values by an error or a panic. Live keys without such a
    /// function refuse the start.
    pub fn reload<G: Group, R: Applied>(
        &mut self,
        apply: impl Fn(&G) -> R + Send + Sync + 'static,
    ) {
        self.assembly.appliers.register(self.module, apply);
    }

    /// The client for calls to the outside. Handlers take it as [`Use<Egress>`](crate::routing::Use).
    #[must_use]
    pub fn egress(&self) -> Egress {
        self.assembly.take_egress()
    }

    /// Seals and opens the module's secrets, with the keys of `DOTMAC_APP_MASTER_KEY`, followed live. Its handlers
    /// take it as [`Use<Sealer>`](crate::routing::Use).
    ///
    /// # Errors
    ///
    /// [`MountError`] if the module's manifest does not say that it [seals](super::Manifest::seals).
    pub fn sealer(&self) -> Result<Sealer, MountError> {
        let sealer = self.assembly.sealer.clone().filter(|_| self.seals);
        sealer
            .ok_or_else(|| MountError::other("it takes a sealer, but its manifest lacks `seals()`"))
    }

    /// The same for a module that seals only what others give it, and starts without a key: sealing then fails with
    /// [`SealingError::NoKey`](dotmac_db::sealing::SealingError::NoKey).
    pub fn optional_sealer(&mut self) -> Sealer {
        self.assembly.sealer_of_master_key()
    }

    /// Has `check` say something of the module that its settings tell by themselves, with `--connect` and without: `what` it is
    /// about, and a sentence. Nothing that must not be is said here: the [rules](crate::settings::Rules) of settings refuse that.
    /// With `--connect` a [check](Self::check_connection) of the same `what` speaks in its place.
    pub fn remark(&mut self, what: &'static str, found: impl Into<Finding>) {
        self.assembly.remarks.push((what, found.into()));
    }

    /// Has `check --connect` try something that the module depends on: `try_it` says in a sentence what it found, as a text or
    /// as a [`Finding`], or what is wrong and what to do. Secrets of the module have their values by then.
    pub fn check_connection<R, F>(
        &mut self,
        what: &'static str,
        try_it: impl FnOnce() -> R + 'static,
    ) where
        R: Future<Output = Result<F, String>> + 'static,
        F: Into<Finding> + 'static,
    {
        let check = ConnectionCheck::new(what, try_it);
        self.assembly.checks.push(check);
    }

    /// A supervised actor. `factory` builds a fresh value for each life, from the [`Lifeline`] by which the actor
    /// reports its state, and from what `needs` names. Nothing is added before [`ComponentBuilder::add`](ComponentBuilder).
    ///
    /// It is required or optional as the module is; when it uses up its restarts it is `failed`, and everything else
    /// goes on.
    pub fn actor<A, N>(
        &mut self,
        name: &str,
        needs: Needs<N>,
        factory: impl Fn(Lifeline, N) -> A + Send + Sync + 'static,
    ) -> ComponentBuilder<'_, ActorFactory<A>>
    where
        A: SupervisedActor,
        N: Clone + Send + Sync + 'static,
    {
        let (name, owner) = (self.component(name), self.owner());
        let spec = component::actor(self.assembly, name, needs, factory);
        ComponentBuilder::new(self.assembly, owner, spec)
    }

    /// A supervised async function that runs without a request, periodically or all the time; see
    /// [`WorkerSpec`](dotmac_supervision::WorkerSpec) for what counts as a fault. It starts when the database is ready. Nothing is added before
    /// [`ComponentBuilder::add`](ComponentBuilder).
    ///
    /// An outage of the database is no fault of the worker: it is `unavailable` meanwhile; see [`WorkerError`].
    pub fn worker<F, R, E>(
        &mut self,
        name: &str,
        schedule: Schedule,
        function: F,
    ) -> ComponentBuilder<'_, WorkerBody>
    where
        F: Fn(WorkerContext) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: WorkerError,
    {
        let (name, owner) = (self.component(name), self.owner());
        let spec = component::worker(self.assembly, name, schedule, function);
        ComponentBuilder::new(self.assembly, owner, Ok(spec))
    }

    /// A worker that runs on one of any number of instances at a time: the one that holds a lease in the database.
    /// `function` is given the lease's fence too, a number that grows with each change of hands; what it writes can
    /// carry the number, so that a holder which was stopped cannot overwrite its successor's work.
    ///
    /// Of a periodic one, a run is due an interval after the end of the last one on whichever instance; a restart does
    /// not repeat it. A run that an instance did not end is begun by another within 30 s. The source that `/ready` shows
    /// is `leader` or `standby`. A lease that is lost ends the run at its `.await`.
    pub fn single_worker<F, R, E>(
        &mut self,
        name: &str,
        schedule: Schedule,
        function: F,
    ) -> ComponentBuilder<'_, WorkerBody>
    where
        F: Fn(WorkerContext, Held) -> R + Clone + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: WorkerError + 'static,
    {
        let (name, owner) = (self.component(name), self.owner());
        let spec = single::worker(self.assembly, name, schedule, function);
        ComponentBuilder::new(self.assembly, owner, Ok(spec))
    }

    /// A subscriber to tenants' events of type `E`: a supervised worker named `<module>.<name>`, whose handler's queries
    /// and the move of its cursor are one transaction. See [`Subscriber`] for what it promises. The name is that of the
    /// cursor too: another name is another subscriber, which begins again. Nothing is added before
    /// [`SubscriptionBuilder::add`].
    pub fn subscribe<E, H, X>(&mut self, name: &str, handler: H) -> SubscriptionBuilder<'_>
    where
        E: Event + DeserializeOwned + Send + 'static,
        for<'c> H: AsyncFnOnce(&'c mut TenantTx, Received<E>) -> Result<(), X>
            + Handles<&'c mut TenantTx, Received<E>, Result<(), X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<HandlerError> + Send + 'static,
    {
        let name = self.component(name);
        SubscriptionBuilder::new(self, Subscriber::new(name, handler))
    }

    /// As [`subscribe`](Self::subscribe), to events of any of `kinds`, of every type if there is none, of all tenants and of
    /// the system, on transactions of the system.
    pub fn subscribe_across_tenants<H, X>(
        &mut self,
        name: &str,
        kinds: &'static [&'static str],
        handler: H,
    ) -> SubscriptionBuilder<'_>
    where
        for<'c> H: AsyncFnOnce(&'c mut Tx, StoredEvent) -> Result<(), X>
            + Handles<&'c mut Tx, StoredEvent, Result<(), X>, Future: Send>
            + Clone
            + Send
            + Sync
            + 'static,
        X: Into<HandlerError> + Send + 'static,
    {
        let name = self.component(name);
        SubscriptionBuilder::new(self, Subscriber::across_tenants(name, kinds, handler))
    }

    /// The types of events that the program's modules emit, and who subscribes: complete once all are mounted.
    #[must_use]
    pub fn events(&self) -> EventCatalogue {
        self.assembly.events.clone()
    }

    /// Keeps events for so long, in place of [`RETENTION`](crate::events::RETENTION). For the whole program.
    pub fn keep_events(&mut self, keep: Duration) {
        self.assembly.events_kept = Some(keep);
    }

    /// Measures something in the database every so often, by the worker `watch`, on a scope of the system that is for
    /// `why`. What was measured last is for [`explain`](Self::explain) and [gauges](Measured::observe).
    ///
    /// # Errors
    ///
    /// [`MountError`] for a second one: a module has one such worker.
    pub fn measure<T, F, R>(
        &mut self,
        every: Duration,
        why: &'static str,
        measure: F,
    ) -> Result<Measured<T>, MountError>
    where
        T: Clone + Default + Send + Sync + 'static,
        F: Fn(Db) -> R + Send + Sync + 'static,
        R: Future<Output = Result<T, DbError>> + Send + 'static,
    {
        let (db, measured) = (self.db.system(why), Measured::none());
        let kept = measured.clone();
        let worker = self.worker("watch", Schedule::Every(every), move |_| {
            let (measuring, kept) = (measure(db.clone()), kept.clone());
            async move {
                let done = measuring.await;
                let (value, done) =
                    done.map_or_else(|error| (T::default(), Err(error)), |it| (it, Ok(())));
                kept.set(value);
                done
            }
        });
        worker.add()?;
        Ok(measured)
    }

    /// Adds sentences to what `dotmac why` prints of the module: what its work waits for, and why. `explain` is called
    /// for each such question, and returns what is known already: it neither waits nor asks.
    pub fn explain(&mut self, explain: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        let explanation = Explanation::new(self.module, explain);
        self.assembly.explanations.push(explanation);
    }

    /// Makes `value` available to the handlers of this module that take [`Use<T>`](crate::routing::Use). Cloned for each
    /// request, so it should be a handle. Other modules do not see it; a second one of its type refuses the start.
    pub fn provide<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        let provided = self.assembly.values.provide(self.module, value);
        self.assembly.note(provided);
    }

    /// Makes `value` available to the handlers of every module, and to the mount of those that follow
    /// ([`shared`](Self::shared)): for what fulfils a contract between modules, such as an `Arc<dyn Notifier>`. Where a module
    /// [provides](Self::provide) a value of that type itself, its handlers get that one. A second one that is shared
    /// refuses the start.
    pub fn share<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        let shared = self.assembly.values.share(self.module, value);
        self.assembly.note(shared);
    }

    /// A value that a module mounted before this one [shares](Self::share).
    ///
    /// # Errors
    ///
    /// [`MountError`] if none does.
    pub fn shared<T: Clone + 'static>(&self) -> Result<T, MountError> {
        let value = std::any::type_name::<T>();
        let shared = self.assembly.values.shared();
        shared.ok_or(MountError::NotShared { value })
    }

    /// A value that any module of the program [shares](Self::share), mounted before this one or after.
    pub fn later<T: Clone + Send + Sync + 'static>(&mut self) -> Later<T> {
        self.assembly.later()
    }

    /// The way to send mail, whichever module fulfils it. Handlers take it as [`Use<Mailer>`](crate::routing::Use).
    #[must_use]
    pub fn mailer(&self) -> Mailer {
        self.assembly.mailer.clone()
    }

    /// Serves routes below `/api/v1` and `prefix` (`/notes`), which is not empty. May be called more than once.
    pub fn routes(&mut self, prefix: &str, declare: impl FnOnce(&mut Routes)) {
        self.routes_below((API_PREFIX, prefix), declare);
    }

    /// Serves routes at `prefix` as it is, for what a standard puts outside of `/api/v1`: `/.well-known`.
    pub fn root_routes(&mut self, prefix: &str, declare: impl FnOnce(&mut Routes)) {
        self.routes_below(("", prefix), declare);
    }

    /// Finds out who calls guarded routes, for the whole program.
    ///
    /// # Errors
    ///
    /// [`MountError`] if something else does already.
    pub fn authenticator(&mut self, authenticator: impl Authenticator) -> Result<(), MountError> {
        self.assembly
            .authenticate(self.module, Arc::new(authenticator))
    }

    /// Decides, for the whole program, whether a caller with the permission of a route may use it on the resource of its request.
    ///
    /// # Errors
    ///
    /// [`MountError`] if another module does already.
    pub fn authorizer(&mut self, authorizer: impl Authorizer) -> Result<(), MountError> {
        self.assembly.authorize(self.module, Arc::new(authorizer))
    }

    fn routes_below(&mut self, (root, prefix): (&str, &str), declare: impl FnOnce(&mut Routes)) {
        let requests = Arc::clone(&self.requests);
        let mut routes = Routes::new(self.module, (root, prefix), requests);
        declare(&mut routes);
        self.assembly.add_routes(routes);
    }

    /// The module, and whether the program is not ready without it.
    pub(super) const fn owner(&self) -> (&'static str, bool) {
        (self.module, self.is_required)
    }

    /// The component's name in `/ready`, metrics and logs. Kept for the life of the process: there is one for each
    /// component that is mounted.
    pub(super) fn component(&self, name: &str) -> &'static str {
        if name.is_empty() {
            self.module
        } else {
            format!("{}.{name}", self.module).leak()
        }
    }
}
