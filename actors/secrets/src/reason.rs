//! The reasons that [`SecretsActor`](super::SecretsActor) gives when it is not simply ready.

use dotmac_supervision::Reason;

/// No connection to the server.
pub const UNREACHABLE: Reason = Reason::UNREACHABLE;
/// The server's certificate was not accepted, or one side does not speak TLS.
pub const TLS: Reason = Reason::new("tls_failed");
/// The server accepted the request and did not answer in time.
pub const TIMEOUT: Reason = Reason::new("timeout");
/// The server is sealed.
pub const SEALED: Reason = Reason::new("sealed");
/// The server was never initialised.
pub const NOT_INITIALIZED: Reason = Reason::new("not_initialized");
/// The server is a standby that knows no active node.
pub const STANDBY: Reason = Reason::new("standby");
/// The server reported a rate limit.
pub const RATE_LIMITED: Reason = Reason::new("rate_limited");
/// The token, or the role id and secret id, were refused.
pub const AUTHENTICATION_FAILED: Reason = Reason::new("authentication_failed");
/// The login is fine, its policies do not allow the path.
pub const PERMISSION_DENIED: Reason = Reason::new("permission_denied");
/// There is no such namespace.
pub const NAMESPACE_MISSING: Reason = Reason::new("namespace_missing");
/// Nothing is mounted where the KV engine should be.
pub const MOUNT_MISSING: Reason = Reason::new("mount_missing");
/// A secret that must exist does not.
pub const PATH_MISSING: Reason = Reason::new("path_missing");
/// The secret exists, the field does not, or which is meant is unclear.
pub const FIELD_MISSING: Reason = Reason::new("field_missing");
/// The database engine has no such role.
pub const ROLE_MISSING: Reason = Reason::new("role_missing");
/// The server is well, its database engine brings no credentials: mostly because the database is away.
pub const DATABASE_ENGINE_FAILED: Reason = Reason::new("database_engine_failed");
/// The lease has ended, and there is no other.
pub const LEASE_EXPIRED: Reason = Reason::new("lease_expired");
/// The answer was not one that Vault gives.
pub const BAD_ANSWER: Reason = Reason::new("bad_answer");
/// The actor's configuration contradicts itself.
pub const INVALID_CONFIGURATION: Reason = Reason::new("invalid_configuration");

/// All of them, for documentation and metrics.
pub const ALL: [Reason; 18] = [
    UNREACHABLE,
    TLS,
    TIMEOUT,
    SEALED,
    NOT_INITIALIZED,
    STANDBY,
    RATE_LIMITED,
    AUTHENTICATION_FAILED,
    PERMISSION_DENIED,
    NAMESPACE_MISSING,
    MOUNT_MISSING,
    PATH_MISSING,
    FIELD_MISSING,
    ROLE_MISSING,
    DATABASE_ENGINE_FAILED,
    LEASE_EXPIRED,
    BAD_ANSWER,
    INVALID_CONFIGURATION,
];
