//! What may happen with accounts. Each rule is a function over a transaction; one that changes something records that as an act.

pub(crate) mod addresses;
pub(crate) mod api_keys;
pub(crate) mod export;
pub(crate) mod factors;
pub(crate) mod held;
mod holders;
pub(crate) mod mail;
pub(crate) mod mail_sign_in;
pub(crate) mod mfa;
pub(crate) mod new_passwords;
pub(crate) mod next_step;
pub(crate) mod one_time;
pub(crate) mod passkeys;
pub(crate) mod passwords;
mod powers;
pub(crate) mod refresh;
pub(crate) mod registration;
pub(crate) mod roles;
pub(crate) mod service_accounts;
pub(crate) mod sessions;
pub(crate) mod sign_in;
pub(crate) mod standing;
pub(crate) mod step_up;
pub(crate) mod tenant_policy;
pub(crate) mod tenants;
pub(crate) mod throttle;
pub(crate) mod users;
