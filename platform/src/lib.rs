//! A supervised runtime for services: secrets, database and telemetry as actors, truthful probes,
//! restarts, an orderly stop; and the daemon `dotmac` that is built of it.
//!
//! Another program embeds it by [`Platform`]: its actors and routes become part of the same tree, the
//! same `/ready`, the same `/metrics` and the same stop. The platform's own services are mounted by
//! exactly this interface.

mod about;
pub mod access;
mod admin;
pub mod audit;
mod cli;
mod components;
mod credentials;
pub mod db;
mod descriptors;
pub mod directory;
pub mod egress;
pub mod events;
mod exit;
pub mod files;
pub mod http;
pub mod jobs;
mod later;
pub mod mail;
mod master_key;
mod memory;
mod metrics;
pub mod module;
mod platform;
pub mod prelude;
mod program;
pub mod routing;
mod run;
pub mod settings;
mod shown;
pub mod standard_webhooks;
mod supervised;
mod tls;

pub use about::Build;
pub use cli::REMEDIES;
pub use dotmac_db::{insert_all, migrations, on, sealing, words};
pub use dotmac_durable::delivery;
pub use dotmac_secrets as secrets;
pub use dotmac_supervision as supervision;
pub use dotmac_telemetry as telemetry;
pub use exit::Exit;
pub use platform::Platform;
pub use supervised::Supervised;

/// Compiles the recipes.
#[cfg(doctest)]
#[doc = include_str!("../../docs/recipes.md")]
struct Recipes;

/// The migrations of the platform's own tables.
pub const MIGRATIONS: db::Migrations =
    migrations!("../migrations/postgres", "../migrations/sqlite")
        .owned_by(db::migrations::PLATFORM);
