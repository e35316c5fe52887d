//! The audit log: who did what to what, written in the transaction of the act, and chained so that a change shows.
//!
//! A module lists its acts in its manifest and records each on the transaction that does it:
//!
//! ```
//! use dotmac_platform::{
//!     audit::{Acts as _, Audit as _, Audited, AuditedAct, Entry},
//!     db::{DbError, TenantDb, TenantTx},
//!     prelude::*,
//! };
//!
//! const DELETE: AuditedAct = AuditedAct::new("note_delete", "A note was deleted.");
//!
//! /// A rule that changes something proves that it is recorded.
//! async fn delete(tx: &mut TenantTx, note: u64) -> Result<Audited<()>, DbError> {
//!     // … is deleted
//!     let entry = Entry::new(DELETE.name(), "notes.note", note.to_string());
//!     Ok(tx.audit(entry)?.of(()))
//! }
//!
//! /// `act` takes no rule without that proof.
//! async fn handler(db: TenantDb) -> Result<(), DbError> {
//!     db.act("delete note", async |tx| delete(tx, 7).await).await
//! }
//!
//! struct Notes;
//!
//! impl Module for Notes {
//!     const NAME: &'static str = "notes";
//!     type Settings = NoSettings;
//!
//!     fn manifest() -> Manifest {
//!         const ACTS: &[AuditedAct] = &[DELETE];
//!         Manifest::new("Short texts.").audits(ACTS)
//!     }
//!
//!     fn mount(_: NoSettings, _: &mut Mount<'_>) -> Result<(), MountError> {
//!         Ok(())
//!     }
//! }
//! ```
//!
//! In a program that has such acts, every instance has the components `audit_sealer`, which links entries and makes
//! checkpoints, `audit_verifier`, which computes all chains again and again, and `audit_retention`.
//! docs/services/audit.md says what the log promises.

mod catalogue;
pub(crate) mod operators;

use std::{path::PathBuf, time::Duration};

pub use catalogue::{AuditCatalogue, AuditedAct};
pub use dotmac_durable::audit::*;

/// How the audit log of a program is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLog {
    /// How long entries are kept, at least [`MIN_RETENTION`].
    pub retention: Duration,
    /// Pause between two verifications of all chains.
    pub verify_every: Duration,
    /// A file to which each checkpoint is appended.
    pub checkpoint_archive: Option<PathBuf>,
}

impl Default for KeptLog {
    fn default() -> Self {
        Self {
            retention: RETENTION,
            verify_every: VERIFY_EVERY,
            checkpoint_archive: None,
        }
    }
}
