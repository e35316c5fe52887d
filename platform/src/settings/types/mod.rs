//! The types of settings that std does not have.

mod choice;
mod cors_origin;
mod database_url;
mod egress_target;
mod host;
mod log_filter;
mod method;
mod otlp_headers;
mod secret;
mod size;
mod url;

pub use choice::{Environment, LogFormat, VaultAuth};
pub use cors_origin::CorsOrigin;
pub use database_url::{DatabaseUrl, PostgresUrl};
pub use dotmac_db::{MigrateMode, SslMode};
pub use dotmac_secrets::{KvVersion, SecretReference};
pub use dotmac_telemetry::{Compression, Protocol};
pub use egress_target::EgressTarget;
pub use host::{HostName, HostPattern, ServerHost};
pub use log_filter::LogFilter;
pub use otlp_headers::otlp_headers;
pub use secret::{MountPath, SecretSetting};
pub use size::ByteSize;

pub(crate) use host::is_loopback;
pub(crate) use log_filter::from_rust_log;
pub(crate) use url::percent_decoded;
