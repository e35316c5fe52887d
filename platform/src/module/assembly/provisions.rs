//! The platform's provisions for routes and modules: keys of cursors, sealers, idempotency keys with
//! their worker, the worker that takes old events away, and those that run jobs.

use std::time::Duration;

use dotmac_db::{Share, sealing::Sealer};
use dotmac_secrets::{SecretPath, SecretReference, Wanted, WantedSource};
use dotmac_supervision::{Exhausted, Schedule};
use tracing::warn;

use super::{super::single, Assembly, AssemblyError, PLATFORM};
use crate::{
    components, events,
    jobs::{self, Runner},
    master_key,
    routing::{self, CursorKey, KeyStore, Route},
    settings::{APP_MASTER_KEY, APP_SECRET_KEY, Environment, Settings},
};

/// The worker that deletes expired idempotency keys, and its work on the database.
const IDEMPOTENCY: &str = "idempotency";

/// The worker that takes old events away, and its work on the database.
const EVENT_RETENTION: &str = "event_retention";

/// The worker that runs jobs, and its work on the database.
const JOB_RUNNER: &str = "job_runner";

/// The worker that takes old jobs away, and its work on the database.
const JOB_RETENTION: &str = "job_retention";

/// Time between runs of the worker that deletes idempotency keys.
const KEYS_DELETED_EVERY: Duration = Duration::from_secs(600);

impl Assembly {
    /// The key of cursors, if there are lists in pages.
    pub(super) fn provide_cursor_key(&mut self, settings: &Settings) -> Result<(), AssemblyError> {
        if !self.declared.iter().any(Route::needs::<CursorKey>) {
            return Ok(());
        }
        let is_given = settings.has_secret(APP_SECRET_KEY);
        let is_production = settings.app.environment == Environment::Production;
        if !is_given && is_production {
            return Err(AssemblyError::SecretMissing);
        }
        match self.want_from_vault(settings, APP_SECRET_KEY) {
            Some(path) if !is_production => warn!(
                key = APP_SECRET_KEY,
                "{APP_SECRET_KEY} is not set: while Vault has none at `{path}`, cursors of lists are valid for this \
                process only"
            ),
            Some(_) => {}
            None if !is_given => warn!(
                key = APP_SECRET_KEY,
                "{APP_SECRET_KEY} is not set: cursors of lists are valid for this process only"
            ),
            None => {}
        }
        let secret = is_given.then(|| self.feed.watch("platform", APP_SECRET_KEY));
        let key = CursorKey::new(secret).map_err(|_| AssemblyError::NoRandom)?;
        Ok(self.values.share(PLATFORM, key)?)
    }

    /// Has the secrets read a key of the platform's own from its path in Vault, unless it is given in another way; the path.
    /// In production it must be there. Elsewhere its absence is no fault: its consumers report it.
    fn want_from_vault(&mut self, settings: &Settings, key: &str) -> Option<SecretPath> {
        let path = settings.own_secret_path(key).filter(|_| self.vault)?;
        let source = match settings.app.environment {
            Environment::Production => WantedSource::Reference(SecretReference {
                path: path.clone(),
                field: None,
            }),
            _ => WantedSource::DefaultPath(path.clone()),
        };
        let key = key.to_owned();
        self.own_secrets().push(Wanted { key, source });
        Some(path)
    }

    /// The sealer of `module`; the same for all modules.
    pub(super) fn add_sealer(
        &mut self,
        settings: &Settings,
        module: &'static str,
    ) -> Result<(), AssemblyError> {
        let is_given = settings.has_secret(APP_MASTER_KEY);
        if !is_given && settings.app.environment == Environment::Production {
            return Err(AssemblyError::MasterKeyMissing { module });
        }
        if self.sealer.is_some() {
            return Ok(());
        }
        if !is_given {
            warn!(
                key = APP_MASTER_KEY,
                "module `{module}` seals secrets in the database, and {APP_MASTER_KEY} is not set: sealing fails until \
                it is, unless the module has its own key; create one with `openssl rand -base64 32`"
            );
        }
        if let Some(path) = self.want_from_vault(settings, APP_MASTER_KEY)
            && settings.app.environment != Environment::Production
        {
            warn!(
                key = APP_MASTER_KEY,
                "module `{module}` seals secrets in the database: while Vault has no key at `{path}`, sealing fails \
                unless the module has its own key"
            );
        }
        self.follow_master_key();
        Ok(())
    }

    /// Seals with the keys of the master key, as far as there are any.
    pub(super) fn follow_master_key(&mut self) {
        if self.sealer.is_none() {
            self.sealer = Some(Sealer::new(master_key::follow(&self.feed)));
        }
    }

    /// The sealer of the master key, if there is one.
    pub(in crate::module) fn sealer_of_master_key(&mut self) -> Sealer {
        self.follow_master_key();
        let feed = &self.feed;
        let sealer = self
            .sealer
            .get_or_insert_with(|| Sealer::new(master_key::follow(feed)));
        sealer.clone()
    }

    /// Where idempotency keys are kept, and the worker that deletes them, if there are routes that take any.
    pub(super) fn provide_key_store(&mut self, settings: &Settings) -> Result<(), AssemblyError> {
        if !self.declared.iter().any(Route::needs::<KeyStore>) {
            return Ok(());
        }
        let db = self.db.for_module(IDEMPOTENCY, Share::HALF);
        let secret = settings
            .has_secret(APP_SECRET_KEY)
            .then(|| self.feed.watch("platform", APP_SECRET_KEY));
        let store = KeyStore::new(db.clone(), settings.http.request_timeout, secret);
        self.values.share(PLATFORM, store)?;
        let delete =
            move |_, _| routing::delete_expired(db.system("delete expired idempotency keys"));
        let schedule = Schedule::Every(KEYS_DELETED_EVERY);
        let spec = single::worker(self, IDEMPOTENCY, schedule, delete)
            .optional()
            .when_exhausted(Exhausted::Fail);
        self.tree.add_worker(spec)?;
        Ok(())
    }

    /// The worker that takes events away when they are too old, if a module emits any.
    pub(super) fn add_event_retention(&mut self) -> Result<(), AssemblyError> {
        if self.events.is_empty() && self.events_kept.is_none() {
            return Ok(());
        }
        let keep = self.events_kept.unwrap_or(events::RETENTION);
        let db = self.db.for_module(EVENT_RETENTION, Share::HALF);
        let spec = events::retention(EVENT_RETENTION, &db, keep)
            .needs(self.db_actor.to_start())
            .optional()
            .when_exhausted(Exhausted::Fail);
        self.tree.add_worker(spec)?;
        Ok(())
    }

    /// The worker that runs the jobs of all modules, and the one that takes old jobs away, if a module has any.
    pub(super) fn add_job_runner(&mut self, settings: &Settings) -> Result<(), AssemblyError> {
        let handlers = std::mem::take(&mut self.job_handlers);
        let is_handled = |kind| handlers.iter().any(|it| it.spec().kind == kind);
        let missing = self.jobs.owned().find(|(spec, _)| !is_handled(spec.kind));
        if let Some((spec, module)) = missing {
            let kind = spec.kind;
            return Err(AssemblyError::NoHandler { module, kind });
        }
        if handlers.is_empty() {
            return Ok(());
        }
        // The earlier drain and the later stops have the other half.
        let drain = settings.shutdown.timeout / 2;
        let runner = Runner::new(handlers)?
            .drain(drain)
            .policy(components::policy(&settings.supervision));
        self.jobs.follow(runner.status());
        let db = self.db.for_module(JOB_RUNNER, Share::HALF);
        let runner = runner.worker(JOB_RUNNER, &db);
        let db = self.db.for_module(JOB_RETENTION, Share::HALF);
        let keep = self.jobs_kept.unwrap_or_default();
        let retention = jobs::retention(JOB_RETENTION, &db, keep);
        for spec in [runner, retention] {
            let spec = spec
                .needs(self.db_actor.to_start())
                .optional()
                .when_exhausted(Exhausted::Fail);
            self.tree.add_worker(spec)?;
        }
        Ok(())
    }
}
