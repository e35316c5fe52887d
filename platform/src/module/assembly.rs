//! The tree of actors, and the values of handlers, during the assembly of a program.

mod audit;
mod core_components;
mod error;
mod finish;
mod provisions;
mod secrets;
mod values;

use std::{
    cell::Cell,
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use self::{
    audit::AuditParts,
    core_components::{add_db, add_secrets, add_telemetry, in_vault},
    values::PLATFORM,
};
pub(crate) use self::{error::AssemblyError, values::Values};
use super::{
    ConnectionCheck, Finding, Later, Mount, MountError, Registered, explanation::Explanation,
};
use crate::{
    MIGRATIONS,
    about::About,
    access::{Authenticator, Authorizer},
    components,
    egress::Egress,
    events::EventCatalogue,
    http::Routes,
    jobs::{JobCatalogue, JobHandler, Kept},
    mail::{Mailer, SharedMailQueue},
    metrics,
    routing::{self, ModuleRequests, RoutesError},
    settings::{Appliers, Environment, MigrateMode, Settings},
};
use dotmac_db::{
    Db, DbActor, Journal, Lease, Migrations, ModuleDb, Pool, PoolSize, Share, migrations::in_order,
    sealing::Sealer,
};
use dotmac_secrets::{SecretFeed, SecretStore, SecretsActor, Wanted};
use dotmac_supervision::{ActorHandle, Published, SupervisionTree};
use dotmac_telemetry::Telemetry;
use uuid::Uuid;

/// Looks for a value that is awaited.
type Find = Box<dyn FnOnce(&Values)>;

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
    egress: Egress,
    /// Whether a module takes it.
    calls_out: Cell<bool>,
    /// There once a module seals.
    pub(super) sealer: Option<Sealer>,
    /// The values for handlers and actors.
    pub(crate) values: Values,
    /// Values that are requested before they are shared: each is resolved once all modules are mounted.
    awaited: Vec<Find>,
    pub(super) mailer: Mailer,
    /// This process among those that share its database.
    pub(super) instance: Arc<str>,
    /// The first mistake of the module that is being mounted.
    mistake: Option<MountError>,
    declared: Vec<routing::Route>,
    /// The first mistake in how routes were declared.
    misdeclared: Option<RoutesError>,
    /// The requests of each module.
    pub(crate) requests: Vec<Arc<ModuleRequests>>,
    authenticator: Option<(&'static str, Arc<dyn Authenticator>)>,
    authorizer: Option<(&'static str, Arc<dyn Authorizer>)>,
    pub(crate) routes: Routes,
    /// Of the live keys of modules; complete before the tree is started.
    pub(crate) appliers: Appliers,
    /// The types of events that modules emit, and who subscribes.
    pub(crate) events: EventCatalogue,
    /// The retention of events, if a module sets it.
    pub(super) events_kept: Option<Duration>,
    /// The kinds of jobs of modules.
    pub(crate) jobs: JobCatalogue,
    pub(super) job_handlers: Vec<JobHandler>,
    /// The retention of finished jobs, if a module sets it.
    pub(super) jobs_kept: Option<Kept>,
    pub(crate) audit: AuditParts,
    /// The way to the database of what is done over the admin socket, if that is recorded.
    pub(crate) admin_db: Option<ModuleDb>,
    /// The modules' explanations for operators.
    pub(crate) explanations: Vec<Explanation>,
    /// The checks of modules' dependencies for `check --connect`.
    pub(crate) checks: Vec<ConnectionCheck>,
    /// What `check` says of modules without trying anything.
    pub(crate) remarks: Vec<(&'static str, Finding)>,
    vault: bool,
    production: bool,
}

impl Assembly {
    /// The platform's own components: secrets, database, telemetry, in this order. Without `serving`, as commands need it,
    /// there is no telemetry, and no journal, which is about daemons.
    ///
    /// # Errors
    ///
    /// [`AssemblyError`]; nothing runs then.
    fn new(
        settings: &Settings,
        serving: Option<(&Telemetry, About)>,
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
        let journal = serving.map(|(_, about)| {
            Journal::new(Uuid::now_v7().to_string(), &about.process(), tree.events())
        });
        let given = (size.clone(), migrations, journal);
        let db_actor = add_db(&mut tree, settings, given, (&secrets, &feed), &pool)?;
        if let Some((telemetry, _)) = serving {
            let headers = in_vault(settings).then_some((&secrets, &feed, &store));
            add_telemetry(&mut tree, settings, telemetry, headers, &db_actor)?;
        }

        let db = Db::new(pool);
        let mail_queue = Later::<SharedMailQueue>::new();
        let emitted = enabled(settings, modules);
        let emitted = emitted.map(|module| (module.name, module.manifest.events.as_slice()));
        let done = enabled(settings, modules);
        let done = done.map(|module| (module.name, module.manifest.jobs.as_slice()));
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
            calls_out: Cell::new(false),
            sealer: None,
            values: Values::default(),
            awaited: Vec::new(),
            mailer: Mailer::new(mail_queue.clone()),
            instance: uuid::Uuid::now_v7().to_string().into(),
            mistake: None,
            declared: Vec::new(),
            misdeclared: None,
            requests: Vec::new(),
            authenticator: authenticator.map(|given| ("the program", given)),
            authorizer: None,
            routes: Routes::default(),
            appliers: Appliers::default(),
            events: EventCatalogue::new(emitted)?,
            events_kept: None,
            jobs: JobCatalogue::new(done)?,
            job_handlers: Vec::new(),
            jobs_kept: None,
            audit: AuditParts::new(settings, modules),
            explanations: Vec::new(),
            admin_db: None,
            checks: Vec::new(),
            remarks: Vec::new(),
            vault: settings.vault.enabled,
            production: settings.app.environment == Environment::Production,
        };
        assembly.values.share(PLATFORM, assembly.egress.clone())?;
        assembly.values.share(PLATFORM, assembly.events.clone())?;
        assembly.values.share(PLATFORM, assembly.jobs.clone())?;
        assembly.values.share(PLATFORM, assembly.mailer.clone())?;
        assembly.await_shared(mail_queue);
        Ok(assembly)
    }

    /// Adds the parts of each module that is switched on.
    fn with_modules(
        mut self,
        settings: &Settings,
        modules: &[Registered],
    ) -> Result<Self, AssemblyError> {
        self.follow_audit_key(settings, modules)?;
        for module in enabled(settings, modules) {
            self.mount(module, settings)?;
        }
        self.finish(settings, modules)?;
        self.appliers.check(settings)?;
        Ok(self)
    }

    /// Everything that the program serves with.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn for_serving(
        settings: &Settings,
        serving: (&Telemetry, About),
        modules: &[Registered],
        authenticator: Option<Arc<dyn Authenticator>>,
    ) -> Result<Self, AssemblyError> {
        let platform = Self::new(settings, Some(serving), modules, authenticator)?;
        platform.with_modules(settings, modules)
    }

    /// The same without telemetry, for a command that reads it and starts nothing.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn for_command(
        settings: &Settings,
        modules: &[Registered],
        authenticator: Option<Arc<dyn Authenticator>>,
    ) -> Result<Self, AssemblyError> {
        Self::new(settings, None, modules, authenticator)?.with_modules(settings, modules)
    }

    /// Secrets and database alone, and what seals secrets in it: for a command that starts them. It has no worker of a
    /// module, which would handle events and run jobs; runs no migrations; and is not in the journal, which is about daemons.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub(crate) fn for_database(
        settings: &Settings,
        modules: &[Registered],
    ) -> Result<Self, AssemblyError> {
        let mut settings = settings.clone();
        if settings.database.migrate == MigrateMode::Auto {
            settings.database.migrate = MigrateMode::Check;
        }
        let settings = &settings;
        let mut platform = Self::new(settings, None, modules, None)?;
        for module in enabled(settings, modules).filter(|module| module.manifest.seals) {
            platform.add_sealer(settings, module.name)?;
        }
        platform.follow_audit_key(settings, modules)?;
        Ok(platform)
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
        if let (true, Some(sealer)) = (module.manifest.seals, self.sealer.clone()) {
            self.values.provide(module.name, sealer).map_err(failed)?;
        }
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
        match self.mistake.take() {
            Some(mistake) => Err(failed(mistake)),
            None => Ok(()),
        }
    }

    /// Keeps the first mistake of a module that goes on mounting, to be reported once it has ended.
    pub(super) fn note<T>(&mut self, done: Result<T, MountError>) {
        if let Err(mistake) = done {
            self.mistake.get_or_insert(mistake);
        }
    }

    /// A `T` that is shared by now or by a module that follows.
    pub(super) fn later<T: Clone + Send + Sync + 'static>(&mut self) -> Later<T> {
        let later = Later::new();
        self.await_shared(later.clone());
        later
    }

    fn await_shared<T: Clone + Send + Sync + 'static>(&mut self, later: Later<T>) {
        let find = move |values: &Values| {
            if let Some(value) = values.shared() {
                later.set(value);
            }
        };
        self.awaited.push(Box::new(find));
    }

    /// The lease of that name, for this instance.
    pub(super) fn lease(&self, name: &'static str, ttl: Duration) -> Lease {
        Lease::new(self.db.clone(), name, Arc::clone(&self.instance), ttl)
    }

    pub(super) fn add_routes(&mut self, routes: routing::Routes) {
        match routes.into_routes() {
            Ok(routes) => self.declared.extend(routes),
            Err(mistake) => drop(self.misdeclared.get_or_insert(mistake)),
        }
    }

    pub(super) fn authenticate(
        &mut self,
        module: &'static str,
        authenticator: Arc<dyn Authenticator>,
    ) -> Result<(), MountError> {
        fill_once(
            &mut self.authenticator,
            "authenticator",
            (module, authenticator),
        )
    }

    pub(super) fn authorize(
        &mut self,
        module: &'static str,
        authorizer: Arc<dyn Authorizer>,
    ) -> Result<(), MountError> {
        fill_once(&mut self.authorizer, "authorizer", (module, authorizer))
    }

    /// The database within the share of `module`.
    pub(super) fn module_db(&self, module: &'static str) -> ModuleDb {
        let mounted = self.modules.get(module).cloned();
        mounted.unwrap_or_else(|| self.db.for_module(module, Share::default()))
    }
}

/// Fills a place of which a program has one.
fn fill_once<T>(
    place: &mut Option<(&'static str, T)>,
    what: &str,
    given: (&'static str, T),
) -> Result<(), MountError> {
    if let Some((first, _)) = place {
        return Err(MountError::other(format!(
            "`{first}` is the {what} already; a program has one"
        )));
    }
    *place = Some(given);
    Ok(())
}

/// The modules that are switched on.
fn enabled<'m>(
    settings: &'m Settings,
    modules: &'m [Registered],
) -> impl Iterator<Item = &'m Registered> {
    let is_on = |module: &&Registered| settings.module_enabled(module.name);
    modules.iter().filter(is_on)
}

/// Shows the thread of an actor's life, which its factory runs on, in the figures of the runtimes.
pub(super) fn watch_thread() {
    dotmac_telemetry::watch_runtime("actors");
}

/// The migrations of every owner of tables, the platform's and those of what is durable first, those of modules that are switched off among them: their tables stay.
pub(crate) fn migrations(modules: &[Registered]) -> Vec<Migrations> {
    let of_modules = modules
        .iter()
        .filter_map(|module| module.manifest.migrations_of(module.name));
    let own = [MIGRATIONS, dotmac_durable::MIGRATIONS];
    own.into_iter().chain(of_modules).collect()
}
