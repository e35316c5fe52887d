//! The event log: what happened, kept in one stable order in which no earlier event appears after a reader has passed.
//!
//! An event is a type. It is emitted on a transaction and nowhere else, so it is there if and only if what it reports
//! is:
//!
//! ```no_run
//! use dotmac_db::{TenantTx, types::Id};
//! use dotmac_durable::events::{Emit, EmitError, Event};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct NoteAdded {
//!     note: u64,
//! }
//!
//! impl Event for NoteAdded {
//!     const TYPE: &'static str = "note.added.v1";
//!     fn subject(&self) -> String {
//!         format!("notes/{}", self.note)
//!     }
//! }
//!
//! fn note_was_added(tx: &mut TenantTx, note: u64) -> Result<(), EmitError> {
//!     tx.emit(&NoteAdded { note })?;
//!     Ok(())
//! }
//! ```
//!
//! A connection alone, or the way to the database, cannot emit:
//!
//! ```compile_fail,E0599
//! # use dotmac_db::Connection;
//! # use dotmac_durable::events::{Emit, Event};
//! # #[derive(serde::Serialize)]
//! # struct NoteAdded;
//! # impl Event for NoteAdded {
//! #     const TYPE: &'static str = "note.added.v1";
//! #     fn subject(&self) -> String { String::new() }
//! # }
//! fn without_a_transaction(connection: &mut Connection) {
//!     connection.emit(&NoteAdded);
//! }
//! ```
//!
//! # Order
//!
//! A sequence is handed out before its transaction commits, so a reader that keeps the highest number passes what
//! commits late. On PostgreSQL events are ordered by the id of their transaction, and read only below the oldest
//! transaction that is still open (`pg_snapshot_xmin`): nothing can appear there any more. The price is that one long
//! transaction that writes, anywhere in the cluster, holds the log back; [`subscribers`] names it. SQLite has one
//! writer, so there the order of rows is the order of commits.
//!
//! Two transactions of which the second saw what the first wrote are in that order, unless the second had begun to
//! write before: a transaction has its place from its first write on.

mod cursor;
mod emit;
mod event;
mod horizon;
mod log;
mod relay;
mod retention;
mod status;
mod stored;
mod subscriber;
mod tables;

pub use cursor::{RewindError, RewindTo, Start, retry_parked, rewind};
pub use emit::{Emit, declare, emit_custom, emit_for, flush};
pub use event::{
    CUSTOM, CustomEvent, EmitError, Event, EventId, MAX_DATA, MAX_EVENTS, MAX_SUBJECT,
    is_custom_type, is_event_type, is_subject,
};
pub use log::{Filter, Page, find, read, read_all};
pub use relay::{BROKER_NOT_DURABLE, BROKER_UNREACHABLE, Broker, NotDurable, relay};
pub use retention::{RETENTION, maintain, retention};
pub use status::{FailedEvent, SubscriberState, SubscriberStatus, subscribers};
pub use stored::{CloudEvent, Position, PositionError, Received, StoredEvent};
pub use subscriber::{
    EVENTS_EXPIRED, EVENTS_PARKED, HandlerError, Handles, POSITION_AHEAD, Retries, Subscriber,
    TOO_MANY_HELD,
};
