//! The database, as modules use it: the crate `dotmac-db`, but for what the platform's authentication alone may do.

pub use dotmac_db::*;

/// Takes the place of the crate's own, through which a tenant's rows are opened without a reason.
#[expect(hidden_glob_reexports, reason = "hiding it is what it is for")]
mod authentication {}
