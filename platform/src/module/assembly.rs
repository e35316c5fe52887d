//! The tree of actors and what handlers are given, while they are being put together.

mod provisions;

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{Mount, MountError, Registered};
use crate::{
    MIGRATIONS,
    access::{Authentication, Authenticator},
    components, credentials,
    egress::Egress,
    http::{self, Routes},
    metrics,
    program::Program,
    routing::{self, Limiter, ModuleRequests, MountedRoutes, Route, RoutesError},
    settings::{APP_MASTER_KEY, APP_SECRET_KEY, Appliers, Environment, NotApplied, Settings},
};
use dotmac_db::{
    Db, DbActor, Journal, Lease, Migrations, MigrationsError, ModuleDb, Pool, PoolSize, Share,
    migrations::in_order, sealing::Sealer,
};
use dotmac_secrets::{
    self as secrets, SecretFeed, SecretReference, SecretStore, SecretWatch, SecretsActor,
    Subscription, Takes, Wanted, WantedSource,
};
use dotmac_supervision::{ActorHandle, ChildSpec, Published, SupervisionTree, TreeError};
use dotmac_telemetry::{Telemetry, TelemetryActor};
use tracing::warn;

/// Time for telemetry to tell what its last flush could not send.
const FLUSH_MARGIN: Duration = Duration::from_secs(1);

/// Why a program cannot be put together: a mistake in a module or in the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Secrets(#[from] secrets::ConfigError),
    #[error(transparent)]
    Migrations(#[from] MigrationsError),
    #[error("module `{module}` cannot be mounted")]
    Mount {
        module: &'static str,
        source: MountError,
    },
    #[error(transparent)]
    Routes(#[from] RoutesError),
    #[error(
        "{APP_SECRET_KEY} is needed for lists in pages and not set; set it, or its _FILE twin, or have it read from Vault"
    )]
    SecretMissing,
    #[error(transparent)]
    NotApplied(#[from] NotApplied),
    #[error(
        "module `{module}` seals secrets in the database, and {APP_MASTER_KEY} is not set; set it, or its _FILE twin, to 32 random bytes in base64 (`openssl rand -base64 32`), or have it read from Vault"
    )]
    MasterKeyMissing { module: &'static str },
    #[error("the operating system has no random bytes")]
    NoRandom,
}

/// Everything that will run, not started yet.
pub(crate) struct Assembly {
    pub(crate) tree: SupervisionTree,
    pub(crate) secrets: ActorHandle<SecretsActor>,
    pub(crate) feed: SecretFeed,
    /// Secrets of those who need some of their own; complete before the tree is started.
    wanted: Arc<Mutex<Vec<Wanted>>>,
    pub(crate) db_actor: ActorHandle<DbActor>,
    pub(crate) db: Db,
    /// The way to it for each module that is mounted.
    modules: HashMap<&'static str, ModuleDb>,
    pub(crate) pool_size: PoolSize,
    pub(super) egress: Egress,
    /// There once a module seals.
    pub(super) sealer: Option<Sealer>,
    provided: HashMap<TypeId, Box<dyn Any>>,
    /// This process among those that share its database.
    instance: Arc<str>,
    /// A value that was provided twice.
    twice: Option<&'static str>,
    declared: Vec<routing::Route>,
    /// The requests of each module.
    pub(crate) requests: Vec<Arc<ModuleRequests>>,
    authenticator: Option<(&'static str, Arc<dyn Authenticator>)>,
    pub(crate) routes: Routes,
    /// Of the live keys of modules; complete before the tree is started.
    pub(crate) appliers: Appliers,
    vault: bool,
    production: bool,
}

impl Assembly {
    /// The platform's own components - secrets, database, telemetry, in this order - and then the parts of each module
    /// that is switched on. Without `telemetry`, as a command needs it that starts nothing, that component is left out.
    ///
    /// # Errors
    ///
    /// [`AssemblyError`]; nothing runs then.
    fn new(
        settings: &Settings,
        telemetry: Option<&Telemetry>,
        modules: &[Registered],
        authenticator: Option<Arc<dyn Authenticator>>,
    ) -> Result<Self, AssemblyError> {
        let mut tree = SupervisionTree::new(components::policy(&settings.supervision))?
            .observe_calls(metrics::call_observer())
            .observe_worker_runtime(|runtime| {
                dotmac_telemetry::watch_runtime_of(runtime, "workers");
            });

        let store = Published::<SecretStore>::new();
        let feed = SecretFeed::new();
        let wanted = Arc::default();
        let secrets = add_secrets(&mut tree, settings, &wanted, &store, &feed)?;
        let pool = Published::<Pool>::new();
        let migrations = in_order(&migrations(modules))?;
        let size = PoolSize::new(settings.database.pool_size);
        let given = (size.clone(), migrations);
        let db_actor = add_db(&mut tree, settings, given, (&secrets, &feed), &pool)?;
        if let Some(telemetry) = telemetry {
            let headers = in_vault(settings).then_some((&secrets, &feed, &store));
            add_telemetry(&mut tree, settings, telemetry, headers, &db_actor)?;
        }

        let db = Db::new(pool);
        let mut assembly = Self {
            tree,
            secrets,
            feed,
            wanted,
            db_actor,
            db,
            modules: HashMap::new(),
            pool_size: size,
            egress: Egress::new(components::egress(settings)),
            sealer: None,
            provided: HashMap::new(),
            instance: uuid::Uuid::now_v7().to_string().into(),
            twice: None,
            declared: Vec::new(),
            requests: Vec::new(),
            authenticator: authenticator.map(|given| ("the program", given)),
            routes: Routes::default(),
            appliers: Appliers::default(),
            vault: settings.vault.enabled,
            production: settings.app.environment == Environment::Production,
        };
        assembly.provide(assembly.egress.clone());
        for module in modules
            .iter()
            .filter(|module| settings.module_enabled(module.name))
        {
            assembly.mount(module, settings)?;
        }
        assembly.finish(settings, modules)?;
        assembly.appliers.check(settings)?;
        Ok(assembly)
    }

    /// Everything that the program serves with.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn for_serving(
        settings: &Settings,
        telemetry: &Telemetry,
        program: &Program,
    ) -> Result<Self, AssemblyError> {
        Self::new(
            settings,
            Some(telemetry),
            &program.modules,
            program.authenticator.clone(),
        )
    }

    /// The same without telemetry, for a command that looks at it, or starts secrets and database alone.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn for_command(
        settings: &Settings,
        modules: &[Registered],
        authenticator: Option<Arc<dyn Authenticator>>,
    ) -> Result<Self, AssemblyError> {
        Self::new(settings, None, modules, authenticator)
    }

    fn mount(&mut self, module: &Registered, settings: &Settings) -> Result<(), AssemblyError> {
        let failed = |source| AssemblyError::Mount {
            module: module.name,
            source,
        };
        if module.manifest.seals {
            self.add_sealer(settings, module.name)?;
        }
        let db = self.db.for_module(module.name, module.manifest.share);
        self.modules.insert(module.name, db.clone());
        let requests = ModuleRequests::new(module.name, module.manifest.request_share);
        self.requests.push(Arc::clone(&requests));
        let mut on = Mount {
            db,
            requests,
            assembly: self,
            module: module.name,
            is_required: module.manifest.is_required,
            seals: module.manifest.seals,
        };
        module.mount(settings, &mut on).map_err(failed)?;
        match self.twice.take() {
            Some(value) => Err(failed(MountError::ProvidedTwice(value))),
            None => Ok(()),
        }
    }

    /// Checks what only the whole can tell: that handlers get what they take, and that routes can be reached.
    fn finish(&mut self, settings: &Settings, modules: &[Registered]) -> Result<(), AssemblyError> {
        self.provide_cursor_key(settings)?;
        self.provide_key_store(settings)?;
        if self.declared.iter().any(Route::needs::<Limiter>) {
            self.provide(Limiter::new());
        }
        let declared = std::mem::take(&mut self.declared);
        let permissions = modules
            .iter()
            .flat_map(|module| module.manifest.permissions);
        let permissions: Vec<_> = permissions.map(|permission| permission.name).collect();
        let mounted = MountedRoutes::new(declared, &http::built_in_paths(), &permissions, |id| {
            self.provided.contains_key(&id)
        })?;
        self.routes.serve_modules(mounted);
        let authenticator = self.authenticator.take();
        let authentication =
            authenticator.map_or_else(Authentication::default, |(_, it)| Authentication::by(it));
        self.routes.provide(authentication);
        Ok(())
    }

    /// Lets each module have its share of so many requests at a time.
    pub(crate) fn bound_requests(&self, requests: usize) {
        self.requests
            .iter()
            .for_each(|module| module.bound(requests));
    }

    /// The lease of that name, for this instance.
    pub(super) fn lease(&self, name: &'static str, ttl: Duration) -> Lease {
        Lease::new(self.db.clone(), name, Arc::clone(&self.instance), ttl)
    }

    pub(super) fn add_routes(&mut self, routes: routing::Routes) {
        self.declared.extend(routes.into_routes());
    }

    pub(super) fn authenticate(
        &mut self,
        module: &'static str,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<(), MountError> {
        match &self.authenticator {
            Some((first, _)) => Err(MountError::other(format!(
                "`{first}` authenticates already; a program has one authenticator"
            ))),
            None => {
                self.authenticator = Some((module, authenticator));
                Ok(())
            }
        }
    }

    /// Makes `reference` one of the secrets that are loaded, for `component`.
    ///
    /// # Errors
    ///
    /// In production, if Vault is not enabled. Elsewhere there is no secret then, and a warning.
    pub(super) fn watch(
        &self,
        component: &'static str,
        reference: SecretReference,
    ) -> Result<SecretWatch, MountError> {
        let key = reference.to_string();
        if !self.vault {
            let absent = self.feed.watch(component, &key);
            let component = component.to_owned();
            let missing = MountError::SecretWithoutVault {
                component,
                reference,
            };
            if self.production {
                return Err(missing);
            }
            warn!(key, "{missing}");
            return Ok(absent);
        }
        let mut wanted = self.own_secrets();
        if wanted.iter().all(|it| it.key != key) {
            wanted.push(Wanted {
                key: key.clone(),
                source: WantedSource::Reference(reference),
            });
        }
        Ok(self.feed.watch(component, &key))
    }

    pub(crate) fn own_secrets(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `value` available to handlers that take it, and to actors that need it.
    pub(crate) fn provide<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        let former = self
            .provided
            .insert(TypeId::of::<T>(), Box::new(value.clone()));
        if former.is_some() {
            self.twice.get_or_insert(std::any::type_name::<T>());
        }
        self.routes.provide(value);
    }

    /// The database within the share of `module`.
    pub(super) fn module_db(&self, module: &'static str) -> ModuleDb {
        let mounted = self.modules.get(module).cloned();
        mounted.unwrap_or_else(|| self.db.for_module(module, Share::default()))
    }

    pub(crate) fn provided<T: Clone + 'static>(&self) -> Option<T> {
        self.provided
            .get(&TypeId::of::<T>())?
            .downcast_ref()
            .cloned()
    }
}

fn add_secrets(
    tree: &mut SupervisionTree,
    settings: &Settings,
    wanted: &Arc<Mutex<Vec<Wanted>>>,
    store: &Published<SecretStore>,
    feed: &SecretFeed,
) -> Result<ActorHandle<SecretsActor>, AssemblyError> {
    let config = components::secrets(settings);
    config.validate()?;
    let (slot, feed, wanted) = (store.clone(), feed.clone(), Arc::clone(wanted));
    let spec = ChildSpec::new("secrets", move |life| {
        watch_thread();
        let mut config = config.clone();
        let more = wanted.lock().unwrap_or_else(PoisonError::into_inner);
        config.wanted.extend(more.iter().cloned());
        drop(more);
        SecretsActor::new(life, config, slot.clone(), feed.clone())
    });
    let spec = spec.publishes(store);
    let must_be_there =
        settings.vault.enabled && settings.app.environment == Environment::Production;
    Ok(tree.add(if must_be_there {
        spec.essential()
    } else {
        spec
    })?)
}

/// Takes other credentials while it runs, so that nobody notices.
fn add_db(
    tree: &mut SupervisionTree,
    settings: &Settings,
    (size, migrations): (PoolSize, Vec<Migrations>),
    (secrets, feed): (&ActorHandle<SecretsActor>, &SecretFeed),
    pool: &Published<Pool>,
) -> Result<ActorHandle<DbActor>, AssemblyError> {
    let journal = Journal::new(uuid::Uuid::now_v7().to_string(), tree.events());
    let mut config = components::database(settings, credentials::from_feed(feed));
    config.pool_size = size;
    config.migrations = migrations;
    let slot = pool.clone();
    let spec = ChildSpec::new("db", move |life| {
        watch_thread();
        DbActor::new(life, config.clone(), slot.clone(), Some(journal.clone()))
    });
    Ok(tree.add(spec.publishes(pool).required().needs(secrets.to_start()))?)
}

/// Comes after the database but does not wait for it to be well: it is needed most when it is not.
fn add_telemetry(
    tree: &mut SupervisionTree,
    settings: &Settings,
    telemetry: &Telemetry,
    headers: Option<FromVault<'_>>,
    db_actor: &ActorHandle<DbActor>,
) -> Result<(), AssemblyError> {
    let mut policy = components::policy(&settings.supervision);
    // Its stop is a flush that may take the export time-out; what is left of it then must be told.
    policy.stop_timeout = policy
        .stop_timeout
        .max(settings.telemetry.export_timeout + FLUSH_MARGIN);
    let (telemetry, store) = (
        telemetry.clone(),
        headers.map(|(_, _, store)| store.clone()),
    );
    let spec = ChildSpec::new("telemetry", move |life| {
        watch_thread();
        let secrets = store.as_ref().and_then(Published::get);
        TelemetryActor::new(life, telemetry.clone())
            .with_headers(components::collector_headers(secrets.as_deref()))
    });
    let spec = spec.policy(policy).needs(db_actor.in_order());
    // Headers that are in Vault have to be there first, and are taken anew when they change.
    tree.add(match headers {
        Some((secrets, feed, _)) => {
            feed.subscribe(Subscription {
                name: "telemetry",
                keys: vec![components::OTLP_HEADERS.to_owned()],
                takes: Takes::AtRestart,
            });
            spec.needs(secrets.on_change())
        }
        None => spec,
    })?;
    Ok(())
}

/// What telemetry needs of secrets if its headers lie in Vault.
type FromVault<'a> = (
    &'a ActorHandle<SecretsActor>,
    &'a SecretFeed,
    &'a Published<SecretStore>,
);

fn in_vault(settings: &Settings) -> bool {
    settings.telemetry.otlp_headers.reference().is_some()
}

/// Shows the thread of an actor's life, which its factory runs on, in the figures of the runtimes.
pub(super) fn watch_thread() {
    dotmac_telemetry::watch_runtime("actors");
}

/// The migrations of every owner of tables, those of modules that are switched off among them: their tables stay.
pub(crate) fn migrations(modules: &[Registered]) -> Vec<Migrations> {
    let of_modules = modules
        .iter()
        .filter_map(|module| module.manifest.migrations_of(module.name));
    std::iter::once(MIGRATIONS).chain(of_modules).collect()
}
