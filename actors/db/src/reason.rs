//! Why the database does not do its work, or not all of it: the words in probes and metrics.

use dotmac_supervision::Reason;

/// The server refused the user or the password.
pub const AUTHENTICATION_FAILED: Reason = Reason::new("authentication_failed");
/// The server refuses the user that is to come next; the former one stays in use.
pub const CREDENTIALS_REFUSED: Reason = Reason::new("credentials_refused");
/// No account is known yet.
pub const CREDENTIALS_MISSING: Reason = Reason::new("credentials_missing");
/// The server does not prove to be the one that was asked for.
pub const TLS_FAILED: Reason = Reason::new("tls_failed");
/// There is no database of that name.
pub const DATABASE_MISSING: Reason = Reason::new("database_missing");
/// It answers, but takes no writes.
pub const READ_ONLY: Reason = Reason::new("read_only");
/// The schema is being brought up to date, here or by another replica.
pub const MIGRATING: Reason = Reason::new("migrating");
/// A migration did not go through; the schema is as it was before it.
pub const MIGRATION_FAILED: Reason = Reason::new("migration_failed");
/// The schema lacks migrations, and this process must not run them.
pub const MIGRATION_PENDING: Reason = Reason::new("migration_pending");
/// The file cannot be opened or is no database.
pub const UNUSABLE_FILE: Reason = Reason::new("unusable_file");
/// The process may not open another file or socket.
pub const NO_DESCRIPTORS: Reason = Reason::new("no_descriptors");
/// Work met data that is damaged, on the disk or in an index. The rest still does its work.
pub const DATA_CORRUPTED: Reason = Reason::new("data_corrupted");
/// Other work holds the locks that ours needs.
pub const LOCKED: Reason = Reason::new("locked");
/// No space is left for the database.
pub const DISK_FULL: Reason = Reason::new("disk_full");
/// Work waits in vain for a free connection.
pub const POOL_EXHAUSTED: Reason = Reason::new("pool_exhausted");
/// Work blocks threads of the database.
pub const WORK_BLOCKED: Reason = Reason::new("work_blocked");
/// It answers, late.
pub const SLOW: Reason = Reason::new("slow");
/// The server is starting, stopping or recovering.
pub const NOT_ACCEPTING: Reason = Reason::new("not_accepting");
/// The schema has changes that this program does not know and that are not marked as compatible.
pub const SCHEMA_NEWER: Reason = Reason::new("schema_newer");
/// The server refuses further connections.
pub const TOO_MANY_CONNECTIONS: Reason = Reason::new("too_many_connections");
