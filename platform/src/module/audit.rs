//! A module's part of the audit log.

use dotmac_db::sealing::Sealer;

use super::Mount;
use crate::audit::{AuditCatalogue, KeptLog};

impl Mount<'_> {
    /// The acts that the program's modules record.
    #[must_use]
    pub fn audit_catalogue(&self) -> AuditCatalogue {
        self.assembly.audit.catalogue.clone()
    }

    /// Keeps the audit log so, in place of what [`KeptLog`] says by default. For the whole program.
    pub fn keep_audit_log(&mut self, kept: KeptLog) {
        self.assembly.audit.kept = Some(kept);
    }

    /// The sealer of the audit log's signing key and of the keys of personal fields: the keys of
    /// `DOTMAC_APP_MASTER_KEY`, of which there may be none. `None` if no module of the program records acts.
    #[must_use]
    pub fn audit_sealer(&self) -> Option<Sealer> {
        let is_audited = !self.assembly.audit.catalogue.is_empty();
        self.assembly.sealer.clone().filter(|_| is_audited)
    }
}
