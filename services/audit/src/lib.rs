//! The audit log as a service: its entries, checkpoints, verification and exports, over HTTP and on the command line.
//!
//! The log itself is a part of the platform (`dotmac_platform::audit`) and there without this module. What this one adds
//! is for clients and operators. docs/services/audit.md is the page about it.

mod bodies;
mod command;
mod error;
mod routes;
mod rules;
mod settings;
mod watch;

use dotmac_platform::{
    audit::{AuditedAct, ERASE, KeptLog},
    permissions,
    prelude::*,
    sealing::Sealer,
};

use command::AuditCommand;
pub use error::AuditLogError;
pub use settings::AuditSettings;

permissions! {
    /// Read the tenant's audit log.
    pub Read = "audit.events.read";
    /// Read the tenant's checkpoints, and verify its chain.
    pub Verify = "audit.chain.read";
    /// Export the tenant's audit log as a file.
    pub Export = "audit.exports.write";
}

/// The act that records a read of the log: a word of the OWASP vocabulary.
const READ: &str = "sensitive_read";

const ACTS: &[AuditedAct] = &[
    AuditedAct::new(READ, "Entries of the audit log were read or exported."),
    AuditedAct::new(
        ERASE,
        "The key of the personal fields about a person was erased.",
    ),
];

/// The module.
pub struct Audit;

/// The state of handlers.
#[derive(Clone)]
struct Service {
    db: ModuleDb,
    sealer: Option<Sealer>,
}

impl Module for Audit {
    const NAME: &'static str = "audit";
    type Settings = AuditSettings;

    fn manifest() -> Manifest {
        Manifest::new("The audit log, its chain and its checkpoints.")
            .permissions(PERMISSIONS)
            .audits(ACTS)
            .command::<AuditCommand>()
    }

    fn mount(settings: AuditSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.keep_audit_log(KeptLog {
            retention: settings.retention,
            verify_every: settings.verify_interval,
            checkpoint_archive: settings.checkpoint_archive,
        });
        watch::add(on, settings.status_interval)?;
        let (db, sealer) = (on.db(), on.audit_sealer());
        on.provide(Service { db, sealer });
        on.routes("/audit", routes::declare);
        Ok(())
    }
}
