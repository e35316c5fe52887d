//! The tables of accounts, and every query on them.

pub(crate) mod api_keys;
pub(crate) mod bindings;
pub(crate) mod ceremonies;
pub(crate) mod changes;
pub(crate) mod devices;
pub(crate) mod factors;
pub(crate) mod flows;
pub(crate) mod grants;
pub(crate) mod held;
pub(crate) mod keys;
pub(crate) mod one_time;
pub(crate) mod passkeys;
pub(crate) mod registrations;
pub(crate) mod roles;
mod schema;
pub(crate) mod service_accounts;
pub(crate) mod sessions;
pub(crate) mod slice;
pub(crate) mod tenants;
pub(crate) mod throttle;
pub(crate) mod user_pages;
pub(crate) mod users;

use dotmac_platform::db::types::Moment;

/// The status of a user, a tenant, a membership or a service account that may act.
pub(crate) const ACTIVE: &str = "active";

/// The status of one that may not.
pub(crate) const DISABLED: &str = "disabled";

/// The version of an object that has no number of its own, from the time of its last change.
pub(crate) fn version_at(time: Moment) -> i64 {
    let time: chrono::DateTime<chrono::Utc> = time.into();
    time.timestamp_micros()
}
