//! The components that every program has: secrets, database, telemetry, in this order.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use dotmac_db::{DbActor, Journal, Migrations, Pool, PoolSize};
use dotmac_secrets::{SecretFeed, SecretStore, SecretsActor, Subscription, Takes, Wanted};
use dotmac_supervision::{ActorHandle, ChildSpec, Published, SupervisionTree};
use dotmac_telemetry::{Telemetry, TelemetryActor};

use super::AssemblyError;
use crate::{
    components, credentials,
    settings::{Environment, Settings},
};

/// Time for telemetry to tell what its last flush could not send.
const FLUSH_MARGIN: Duration = Duration::from_secs(1);

pub(super) fn add_secrets(
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
        super::watch_thread();
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

/// Takes other credentials while it runs, without a restart.
pub(super) fn add_db(
    tree: &mut SupervisionTree,
    settings: &Settings,
    (size, migrations, journal): (PoolSize, Vec<Migrations>, Option<Journal>),
    (secrets, feed): (&ActorHandle<SecretsActor>, &SecretFeed),
    pool: &Published<Pool>,
) -> Result<ActorHandle<DbActor>, AssemblyError> {
    let mut config = components::database(settings, credentials::from_feed(feed));
    config.pool_size = size;
    config.migrations = migrations;
    let slot = pool.clone();
    let spec = ChildSpec::new("db", move |life| {
        super::watch_thread();
        DbActor::new(life, config.clone(), slot.clone(), journal.clone())
    });
    Ok(tree.add(spec.publishes(pool).required().needs(secrets.to_start()))?)
}

/// Comes after the database but does not wait for it to be well: it is needed most when it is not.
pub(super) fn add_telemetry(
    tree: &mut SupervisionTree,
    settings: &Settings,
    telemetry: &Telemetry,
    headers: Option<FromVault<'_>>,
    db_actor: &ActorHandle<DbActor>,
) -> Result<(), AssemblyError> {
    let mut policy = components::policy(&settings.supervision);
    // Its stop is a flush that may take the export time-out; it then reports the lost items.
    policy.stop_timeout = policy
        .stop_timeout
        .max(settings.telemetry.export_timeout + FLUSH_MARGIN);
    let (telemetry, store) = (
        telemetry.clone(),
        headers.map(|(_, _, store)| store.clone()),
    );
    let spec = ChildSpec::new("telemetry", move |life| {
        super::watch_thread();
        let secrets = store.as_ref().and_then(Published::get);
        TelemetryActor::new(life, telemetry.clone())
            .with_headers(components::collector_headers(secrets.as_deref()))
    });
    let spec = spec.policy(policy).needs(db_actor.in_order());
    // Headers in Vault must be loaded first, and are taken again when they change.
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

/// Telemetry's need of secrets if its headers are in Vault.
pub(super) type FromVault<'a> = (
    &'a ActorHandle<SecretsActor>,
    &'a SecretFeed,
    &'a Published<SecretStore>,
);

pub(super) fn in_vault(settings: &Settings) -> bool {
    settings.telemetry.otlp_headers.reference().is_some()
}
