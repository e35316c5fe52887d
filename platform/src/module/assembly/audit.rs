//! The audit log's part of a program.

use dotmac_db::Share;
use dotmac_secrets::{Wanted, WantedSource};
use dotmac_supervision::{Exhausted, WorkerSpec};
use tracing::warn;

use super::{Assembly, AssemblyError, enabled};
use crate::{
    audit::{self, AuditCatalogue, AuditedAct, KeptLog, operators},
    module::Registered,
    settings::{APP_MASTER_KEY, Settings},
};

/// The worker that links entries, and its work on the database.
const SEALER: &str = "audit_sealer";

/// The worker that verifies chains, and its work on the database.
const VERIFIER: &str = "audit_verifier";

/// The worker that takes old entries away, and its work on the database.
const RETENTION: &str = "audit_retention";

/// The state of the audit log during the assembly of a program.
pub(crate) struct AuditParts {
    pub(crate) catalogue: AuditCatalogue,
    /// Its retention, if a module sets it.
    pub(crate) kept: Option<KeptLog>,
}

impl AuditParts {
    pub(super) fn new(settings: &Settings, modules: &[Registered]) -> Self {
        let recorded = enabled(settings, modules);
        let recorded = recorded.map(|module| (module.name, module.manifest.acts));
        let mut recorded: Vec<_> = recorded.filter(|(_, acts)| !acts.is_empty()).collect();
        if !recorded.is_empty() {
            recorded.push((operators::MODULE, operators::ACTS));
        }
        Self {
            catalogue: AuditCatalogue::new(recorded),
            kept: None,
        }
    }
}

impl Assembly {
    /// Has checkpoints signed with a key that the master key seals, if modules record acts and it is there. A module that
    /// seals needs the same key; without one the log can do without.
    pub(super) fn follow_audit_key(
        &mut self,
        settings: &Settings,
        modules: &[Registered],
    ) -> Result<(), AssemblyError> {
        if self.audit.catalogue.is_empty() {
            return Ok(());
        }
        if let Some(seals) = enabled(settings, modules).find(|module| module.manifest.seals) {
            return self.add_sealer(settings, seals.name);
        }
        let path = settings.own_secret_path(APP_MASTER_KEY);
        match path.filter(|_| self.vault) {
            Some(path) => self.own_secrets().push(Wanted {
                key: APP_MASTER_KEY.to_owned(),
                source: WantedSource::DefaultPath(path),
            }),
            None if !settings.has_secret(APP_MASTER_KEY) => warn!(
                key = APP_MASTER_KEY,
                "{APP_MASTER_KEY} is not set: checkpoints of the audit log are not signed, and entries with personal \
                fields are refused; create one with `openssl rand -base64 32`"
            ),
            None => {}
        }
        self.follow_master_key();
        Ok(())
    }

    /// The workers of the audit log, if a module records acts.
    pub(super) fn add_audit_workers(&mut self) -> Result<(), AssemblyError> {
        if self.audit.catalogue.is_empty() {
            return Ok(());
        }
        audit::declare(
            operators::MODULE,
            operators::ACTS.iter().map(AuditedAct::name),
        );
        self.admin_db = Some(self.db.for_module(operators::MODULE, Share::HALF));
        let kept = self.audit.kept.clone().unwrap_or_default();
        let signing = self.sealer.clone();
        let db = |name| self.db.for_module(name, Share::HALF);
        let workers: [WorkerSpec; 3] = [
            audit::archiving_sealer(
                SEALER,
                &db(SEALER),
                signing.clone(),
                kept.checkpoint_archive,
            ),
            audit::verifier(VERIFIER, &db(VERIFIER), signing.clone(), kept.verify_every),
            audit::retention(RETENTION, &db(RETENTION), signing, kept.retention),
        ];
        for spec in workers {
            let spec = spec
                .needs(self.db_actor.to_start())
                .optional()
                .when_exhausted(Exhausted::Fail);
            self.tree.add_worker(spec)?;
        }
        Ok(())
    }
}
