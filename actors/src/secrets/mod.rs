//! Loads the secrets of the process from Vault or OpenBao, and keeps them fresh.
//!
//! The only module that talks to Vault. [`SecretsActor`] publishes a [`SecretStore`] before anything
//! that uses a secret is built, reads everything again from time to time, and tells those who have
//! subscribed to a [`SecretFeed`] what has changed. While Vault is away the last known values stay in use.
//!
//! Reading order: [`SecretReference`] (where a secret lies), [`Config`] (what is wanted), `course`
//! (what follows from a reading), [`SecretsActor`] (the loop), [`Vault`] (what Vault's answers mean),
//! [`backend`] (the crates that speak to it).
//!
//! Invariants: no secret, token or secret id in `Debug`, errors or logs; only a [`SecretPath`] becomes
//! part of a URL; nothing waits without a limit.

mod actor;
pub mod backend;
mod backoff;
mod cache;
mod config;
mod course;
mod document;
mod error;
mod feed;
mod loader;
mod messages;
mod reference;
mod store;
mod vault;

pub use actor::SecretsActor;
pub use config::{Auth, Client, Config, ConfigError, KvVersion, VaultConfig, Wanted, WantedSource};
pub use document::Document;
pub use error::{SecretsError, VaultFailure, reason};
pub use feed::{Change, SecretFeed, Subscription, Takes};
pub use loader::{Failed, Loaded, literals, load};
pub use messages::{GetSecret, RefreshNow, Want};
pub use reference::{ReferenceError, SecretPath, SecretReference};
pub use store::SecretStore;
pub use vault::Vault;
