//! Supervision for actix actors, and the three supervised actors that services share.
//!
//! [`supervision`] is useful alone (`default-features = false`): it restarts what actix leaves dead,
//! and says the truth about it. [`secrets`], [`db`] and [`telemetry`] are actors built on it, each
//! behind the cargo feature of its name. Nothing here knows HTTP or reads the environment.

#[cfg(feature = "db")]
pub mod db;
#[cfg(feature = "secrets")]
pub mod secrets;
pub mod supervision;
#[cfg(feature = "telemetry")]
pub mod telemetry;
