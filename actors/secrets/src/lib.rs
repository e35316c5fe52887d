//! Loads the secrets of the process from Vault or OpenBao, and keeps them fresh.
//!
//! The only module that talks to Vault. [`SecretsActor`] publishes a [`SecretStore`] before anything
//! that uses a secret is built, reads everything again from time to time, and notifies the subscribers
//! of a [`SecretFeed`] of changes. While Vault is away the last known values stay in use.
//!
//! Reading order: [`SecretReference`] (where a secret lies), [`Config`] (what is wanted), [`SecretsActor`]
//! (the loop). Rooms: `loader` reads everything that is wanted and decides what follows from a reading; `lease`
//! renews, replaces and revokes leases; `feed` hands secrets and their changes to consumers; `vault` is the
//! client: login, sessions, database credentials, diagnosis of failures, and [`backend`], its two adapters.
//!
//! Invariants: no secret, token or secret id in `Debug`, errors or logs; only a [`SecretPath`] becomes
//! part of a URL; no credential goes to another host than the configured one, through a proxy neither; nothing
//! waits without a limit, and no answer is read without one.

mod actor;
mod backoff;
mod config;
mod error;
mod failure;
mod feed;
mod instruments;
mod lease;
mod loader;
mod messages;
pub mod reason;
mod reference;
mod vault;

pub use actor::SecretsActor;
pub use config::{
    Client, Config, ConfigError, DatabaseRole, KvVersion, VaultConfig, Wanted, WantedSource,
};
pub use error::SecretsError;
pub use failure::VaultFailure;
pub use feed::{Change, SecretFeed, SecretStore, SecretWatch, Subscription, Takes};
pub use lease::LeaseHold;
pub use loader::{Failed, Loaded, literals, load};
pub use messages::{GetSecret, PutSecret, RefreshNow, Want};
pub use reference::{ReferenceError, SecretPath, SecretReference};
pub use vault::{Auth, Credential, Document, Expected, Identity, Vault, backend};

pub use secrecy::{ExposeSecret, SecretString};
