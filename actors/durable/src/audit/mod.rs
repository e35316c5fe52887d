//! The audit log: actor, action and resource of each act, written in its transaction, and chained so that a change shows.
//!
//! An act and its entry are committed together or not at all. A rule that changes something returns [`Audited`], which
//! nothing but an entry gives, and runs by [`Acts::act`], which takes nothing else; so a rule that forgets its entry does
//! not compile:
//!
//! ```no_run
//! use dotmac_db::{DbError, TenantDb, TenantTx};
//! use dotmac_durable::audit::{Acts as _, Audit as _, Audited, Entry};
//!
//! async fn delete(tx: &mut TenantTx, note: u64) -> Result<Audited<()>, DbError> {
//!     // … is deleted
//!     let recorded = tx.audit(Entry::new("note_delete", "notes.note", note.to_string()))?;
//!     Ok(recorded.of(()))
//! }
//!
//! async fn handler(db: TenantDb) -> Result<(), DbError> {
//!     db.act("delete note", async |tx| delete(tx, 7).await).await
//! }
//! ```
//!
//! ```compile_fail,E0271
//! # use dotmac_db::{DbError, TenantDb, TenantTx};
//! # use dotmac_durable::audit::Acts as _;
//! async fn delete(tx: &mut TenantTx, note: u64) -> Result<(), DbError> {
//!     // … is deleted, and nothing names the actor
//!     Ok(())
//! }
//!
//! async fn handler(db: TenantDb) -> Result<(), DbError> {
//!     db.act("delete note", async |tx| delete(tx, 7).await).await
//! }
//! ```
//!
//! Nothing else makes the proof:
//!
//! ```compile_fail,E0423
//! # use dotmac_durable::audit::Audited;
//! fn pretend() -> Audited<()> {
//!     Audited((), ())
//! }
//! ```
//!
//! A connection alone, or the way to the database, records nothing:
//!
//! ```compile_fail,E0599
//! # use dotmac_db::Connection;
//! # use dotmac_durable::audit::{Audit, Entry};
//! fn without_a_transaction(connection: &mut Connection) {
//!     connection.audit(Entry::new("note_delete", "notes.note", "7"));
//! }
//! ```
//!
//! # The chain
//!
//! The [`sealer`] links the entries of each tenant in the order of their commits, within a second:
//! `hash = SHA-256(hash before, canonical JSON of the entry and its number)`. Writers wait for none of it. It makes
//! checkpoints after 5 minutes or 1,000 links, each of which names the one before, and signs them and the register of all
//! chains once it has computed again what is new; and it writes them to the log. [`Verification`] computes a chain again and
//! names the first entry that was changed, deleted or put in; the [`verifier`] does that all the time.
//!
//! docs/services/audit.md has a table of what can be done to the database, how it shows, and what does not show.

mod archive;
mod chain;
mod check;
mod checkpoint;
mod entry;
mod export;
mod fault;
mod link;
mod links;
mod log;
mod personal;
mod progress;
mod proof;
mod range;
mod record;
mod register;
mod retention;
mod sealer;
mod signing;
mod status;
mod tables;
mod verifier;
mod verify;

pub use chain::{Hash, HashError};
pub use check::{CHECKPOINT_EVERY, CHECKPOINT_LINKS};
pub use checkpoint::{Checkpoint, Statement, checkpoints};
pub use entry::{
    AuditError, Entry, EntryId, MAX_ENTRIES, MAX_ENTRY, Outcome, StoredEntry, Subject, SubjectId,
    is_name,
};
pub use export::{Export, ExportError, VerifiedExport, verify_export};
pub use fault::{Broken, Fault, Verified};
pub use log::{Filter, LinkedEntry, find, follow, list};
pub use personal::{ERASE, SUBJECT_KEYS, erase};
pub use range::numbers_between;
pub(crate) use record::is_full;
pub use record::{AcrossActs, Acts, Audit, Audited, Recorded, SystemActs, audit_for, declare};
pub use retention::{RETENTION, maintain, retention};
pub use sealer::{Sealing, archiving_sealer, seal_some, sealer};
pub use signing::{PublicKey, SIGNING_KEYS, SigningKey, SigningKeyId, SigningKeys};
pub use status::{SealerStatus, status};
pub use verifier::{VERIFY_EVERY, chains, verifier};
pub use verify::{MIN_RETENTION, Verification, VerifiedPlace};

use dotmac_db::TenantId;
use dotmac_supervision::Reason;

/// Whose the entries of the system are.
pub const SYSTEM: TenantId = crate::SYSTEM;

/// An audit chain does not fit what was signed, or itself.
pub const AUDIT_CHAIN_BROKEN: Reason = Reason::new("audit_chain_broken");
/// Checkpoints of the audit log cannot be written to their file.
pub const AUDIT_NOT_ARCHIVED: Reason = Reason::new("audit_not_archived");
/// Checkpoints of the audit log cannot be signed, or their signatures not be checked.
pub const AUDIT_NOT_SIGNED: Reason = Reason::new("audit_not_signed");
