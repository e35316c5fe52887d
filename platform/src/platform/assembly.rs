//! The tree of actors and what handlers are given, while they are being put together.

use std::{
    any::{Any, TypeId},
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::Registration;
use crate::{
    components, credentials,
    extract::Db,
    http::Routes,
    metrics,
    settings::{Environment, Settings},
};
use dotmac_db::{self as db, DbActor, Journal, Migrations, Pool, PoolSize};
use dotmac_secrets::{
    self as secrets, ReferenceError, SecretFeed, SecretReference, SecretStore, SecretWatch,
    SecretsActor, Subscription, Takes, Wanted, WantedSource,
};
use dotmac_supervision::{ActorHandle, ChildSpec, Published, SupervisionTree, TreeError};
use dotmac_telemetry::{Telemetry, TelemetryActor};

/// Time for telemetry to tell what its last flush could not send.
const FLUSH_MARGIN: Duration = Duration::from_secs(1);

/// Why a platform cannot be put together: a mistake in the embedding program or in the settings.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AssemblyError {
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Secrets(#[from] secrets::ConfigError),
    #[error("the reference of the secret that `{needy}` needs cannot be followed")]
    Reference {
        needy: &'static str,
        source: ReferenceError,
    },
    #[error("`{needy}` needs an actor of type `{needed}`, which was not added before it")]
    NotAdded {
        needy: &'static str,
        needed: &'static str,
    },
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
    pub(crate) pool_size: PoolSize,
    /// Of those who have tables of their own; complete before the tree is started.
    pub(crate) migrations: Arc<Mutex<Vec<Migrations>>>,
    provided: HashMap<TypeId, Box<dyn Any>>,
    pub(crate) routes: Routes,
}

impl Assembly {
    /// The daemon's own actors - secrets, database, telemetry, in this order - and then whatever is registered.
    ///
    /// # Errors
    ///
    /// [`AssemblyError`]; nothing runs then.
    pub(crate) fn new(
        settings: &Settings,
        telemetry: &Telemetry,
        registrations: Vec<Registration>,
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
        let (size, migrations) = (PoolSize::new(settings.database.pool_size), Arc::default());
        let given = (size.clone(), Arc::clone(&migrations));
        let db_actor = add_db(&mut tree, settings, given, (&secrets, &feed), &pool)?;
        let headers = in_vault(settings).then_some((&secrets, &feed, &store));
        add_telemetry(&mut tree, settings, telemetry, headers, &db_actor)?;

        let db = Db(db::Db::new(pool));
        let mut assembly = Self {
            tree,
            secrets,
            feed,
            wanted,
            db_actor,
            db: db.clone(),
            pool_size: size,
            migrations,
            provided: HashMap::new(),
            routes: Routes::default(),
        };
        assembly.provide(db);
        for add in registrations {
            add(&mut assembly)?;
        }
        if !settings.vault.enabled {
            assembly.own_secrets().clear();
        }
        Ok(assembly)
    }

    /// Makes `reference` one of the secrets that are loaded, for `needy`.
    pub(crate) fn watch(&self, needy: &'static str, reference: SecretReference) -> SecretWatch {
        let key = reference.to_string();
        let mut wanted = self.own_secrets();
        if wanted.iter().all(|it| it.key != key) {
            wanted.push(Wanted {
                key: key.clone(),
                source: WantedSource::Reference(reference),
            });
        }
        self.feed.watch(needy, &key)
    }

    pub(crate) fn own_secrets(&self) -> MutexGuard<'_, Vec<Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `value` available to handlers that take it, and to actors that need it.
    pub(crate) fn provide<T: Clone + Send + Sync + 'static>(&mut self, value: T) {
        self.provided
            .insert(TypeId::of::<T>(), Box::new(value.clone()));
        self.routes.provide(value);
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
    (size, migrations): (PoolSize, Arc<Mutex<Vec<Migrations>>>),
    (secrets, feed): (&ActorHandle<SecretsActor>, &SecretFeed),
    pool: &Published<Pool>,
) -> Result<ActorHandle<DbActor>, AssemblyError> {
    let journal = Journal::new(uuid::Uuid::now_v7().to_string(), tree.events());
    let mut config = components::database(settings, credentials::from_feed(feed));
    config.pool_size = size;
    let slot = pool.clone();
    let spec = ChildSpec::new("db", move |life| {
        watch_thread();
        let mut config = config.clone();
        let more = migrations.lock().unwrap_or_else(PoisonError::into_inner);
        config.migrations.extend(more.iter().copied());
        drop(more);
        DbActor::new(life, config, slot.clone(), Some(journal.clone()))
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
