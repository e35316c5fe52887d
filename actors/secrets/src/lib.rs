//! Loads the secrets of the process from Vault or OpenBao, and keeps them fresh.
//!
//! The only module that talks to Vault. [`SecretsActor`] publishes a [`SecretStore`] before anything
//! that uses a secret is built, reads everything again from time to time, and tells those who have
//! subscribed to a [`SecretFeed`] what has changed. While Vault is away the last known values stay in use.
//!
//! Reading order: [`SecretReference`] (where a secret lies), [`Config`] (what is wanted), `course`
//! (what follows from a reading), `lease` (when a lease is renewed or replaced), `rotation` (doing
//! it), [`SecretsActor`] (the loop), `session` (what we hold and give back), [`Vault`], `login`,
//! `database` and `diagnosis` (Vault's API), [`backend`] (what speaks to it).
//!
//! Invariants: no secret, token or secret id in `Debug`, errors or logs; only a [`SecretPath`] becomes
//! part of a URL; no credential goes to another host than the configured one, through a proxy neither; nothing
//! waits without a limit, and no answer is read without one.

mod actor;
mod auth;
pub mod backend;
mod backoff;
mod cache;
mod config;
mod course;
mod database;
mod diagnosis;
mod document;
mod error;
mod failure;
mod farewell;
mod feed;
mod hold;
mod instruments;
mod lease;
mod leased;
mod loader;
mod login;
mod messages;
mod pause;
mod reference;
mod report;
mod rotation;
mod session;
mod store;
mod vault;
mod watch;

pub use actor::SecretsActor;
pub use auth::{Auth, Credential};
pub use config::{Client, Config, ConfigError, KvVersion, VaultConfig, Wanted, WantedSource};
pub use database::DatabaseRole;
pub use document::Document;
pub use error::{SecretsError, reason};
pub use failure::VaultFailure;
pub use feed::{Change, SecretFeed, Subscription, Takes};
pub use hold::LeaseHold;
pub use loader::{Failed, Loaded, literals, load};
pub use messages::{GetSecret, RefreshNow, Want};
pub use reference::{ReferenceError, SecretPath, SecretReference};
pub use session::Identity;
pub use store::SecretStore;
pub use vault::Vault;
pub use watch::SecretWatch;

pub use secrecy::{ExposeSecret, SecretString};
