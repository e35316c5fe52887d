//! The groups of keys. Their doc comments are what operators read in `docs/settings.md`.

mod app;
mod cors;
mod database;
mod egress;
mod http;
mod shutdown;
mod supervision;
mod telemetry;
mod vault;

pub(crate) use app::APP_NAME;
pub use app::AppSettings;
pub use cors::CorsSettings;
pub use database::{DatabaseSettings, DatabaseTarget, PostgresTarget};
pub use egress::EgressSettings;
pub use http::HttpSettings;
pub use shutdown::ShutdownSettings;
pub use supervision::SupervisionSettings;
pub use telemetry::TelemetrySettings;
pub use vault::VaultSettings;

use super::engine::group::{Group, GroupSpec};

/// Every group, in the order of the documentation.
pub(crate) const ALL: [&GroupSpec; 9] = [
    AppSettings::SPEC,
    HttpSettings::SPEC,
    ShutdownSettings::SPEC,
    SupervisionSettings::SPEC,
    VaultSettings::SPEC,
    DatabaseSettings::SPEC,
    TelemetrySettings::SPEC,
    CorsSettings::SPEC,
    EgressSettings::SPEC,
];
