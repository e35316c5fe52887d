//! Events: what modules emit on their transactions, and what follows.
//!
//! A module lists the types that it emits in its manifest, and emits on a transaction; another follows by a subscriber:
//!
//! ```
//! use dotmac_platform::{
//!     db::{DbError, TenantTx},
//!     events::{Emit as _, Event, Received},
//!     prelude::*,
//! };
//! use serde::{Deserialize, Serialize};
//! use utoipa::ToSchema;
//!
//! /// A note was added.
//! #[derive(Serialize, Deserialize, ToSchema)]
//! struct NoteAdded {
//!     /// Its text.
//!     text: String,
//! }
//!
//! impl Event for NoteAdded {
//!     const TYPE: &'static str = "note.added.v1";
//!     fn subject(&self) -> String {
//!         "notes".to_owned()
//!     }
//! }
//!
//! async fn add(tx: &mut TenantTx, text: String) -> Result<(), DbError> {
//!     // … is stored
//!     tx.emit(&NoteAdded { text })?;
//!     Ok(())
//! }
//!
//! async fn count(tx: &mut TenantTx, added: Received<NoteAdded>) -> Result<(), DbError> {
//!     tracing::debug!(text = added.text, "a note was added");
//!     Ok(())
//! }
//!
//! struct Notes;
//!
//! impl Module for Notes {
//!     const NAME: &'static str = "notes";
//!     type Settings = NoSettings;
//!
//!     fn manifest() -> Manifest {
//!         Manifest::new("Short texts.").emits::<NoteAdded>()
//!     }
//!
//!     fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
//!         on.subscribe("count", count).add()?;
//!         Ok(())
//!     }
//! }
//! ```
//!
//! A program has one event log in its database. `/asyncapi.json` documents all
//! types of a program.

mod asyncapi;
mod catalogue;

pub use dotmac_durable::events::*;

pub(crate) use asyncapi::document;
pub(crate) use catalogue::EventTwice;
pub use catalogue::{EventCatalogue, EventSpec, EventType, Subscription};
