//! Pieces of work on the database: read [`run`] for how one is done, and [`handle`] for how it is asked for.
//!
//! `scope` says on whose behalf, `tx` and `tenant_tx` are what work is lent, `piece` hides its types from `run`, `tenant` and
//! `handle` put the types around it.

mod closing;
mod handle;
mod piece;
mod run;
mod scope;
mod tenant;
mod tenant_tx;
mod transaction;
mod tx;

pub(crate) use closing::Closing;
pub use closing::{Arguments, RowWithCommit};
pub use handle::{Db, ModuleDb};
pub use scope::{Actor, Tenant, TenantId, TenantScope};
pub use tenant::TenantDb;
pub use tenant_tx::{AcrossTx, TenantTx};
pub use transaction::{Isolation, Retry};
pub use tx::{Querying, Tx, Work};
