//! Jobs: what modules have done after their transactions, at least once, by whichever instance has room for it.
//!
//! A module lists the kinds of its jobs in its manifest, enqueues them on a transaction, and has a handler for each:
//!
//! ```
//! use dotmac_platform::{
//!     db::TenantTx,
//!     jobs::{Enqueue as _, EnqueueError, Job, JobError, Run},
//!     prelude::*,
//! };
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Reindex {
//!     folder: u64,
//! }
//!
//! impl Job for Reindex {
//!     const KIND: &'static str = "notes.reindex";
//!     type Output = u64;
//! }
//!
//! async fn folder_was_moved(tx: &mut TenantTx, folder: u64) -> Result<(), EnqueueError> {
//!     tx.enqueue(&Reindex { folder }).await?;
//!     Ok(())
//! }
//!
//! async fn reindex(run: Run<Reindex>) -> Result<u64, JobError> {
//!     run.progress(1, Some(1), "reading");
//!     Ok(run.folder)
//! }
//!
//! struct Notes;
//!
//! impl Module for Notes {
//!     const NAME: &'static str = "notes";
//!     type Settings = NoSettings;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("Short texts.").jobs::<Reindex>()
//!     }
//!
//!     fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
//!         on.job(reindex)
//!     }
//! }
//! ```
//!
//! All jobs of a program are run by one component, `job_runner`, on every instance. docs/services/jobs.md says what it promises.

mod catalogue;

pub(crate) use crate::events::Handles;
pub use catalogue::JobCatalogue;
pub(crate) use catalogue::JobTwice;
pub use dotmac_durable::jobs::*;
