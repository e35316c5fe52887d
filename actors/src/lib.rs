//! Supervision for actix actors, and the three supervised actors that services share.
//!
//! [`supervision`] is useful alone (`default-features = false`): it restarts what actix leaves dead,
//! and says the truth about it. [`secrets`], [`db`] and [`telemetry`] are actors built on it, each
//! behind the cargo feature of its name. Nothing here knows HTTP or reads the environment.

/// Target of the log line that says why the process ends; no log level hides it.
pub const EXIT: &str = "dotmac::exit";

#[cfg(feature = "db")]
pub mod db;
#[cfg(feature = "secrets")]
pub mod secrets;
pub mod supervision;
#[cfg(feature = "telemetry")]
pub mod telemetry;
