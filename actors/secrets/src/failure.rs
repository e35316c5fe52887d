//! Failures of requests to Vault. Each text has the cause, then the remedy.

use std::{fmt, path::PathBuf, time::Duration};

use super::reason;
use dotmac_supervision::Reason;

/// The longest pause that a server can ask for: it shall not silence us for a day.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// The failure of a request. Each text has the cause, then the remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VaultFailure {
    /// No connection, or one that broke.
    #[error(
        "no connection to `{address}` ({detail}); check the address, the network and that the server runs"
    )]
    Unreachable {
        /// The configured address.
        address: String,
        /// The innermost cause.
        detail: String,
    },
    /// No TLS session.
    #[error(
        "no TLS session with `{address}` ({detail}); check the scheme, the certificate's name and dates, and that the \
        configured CA certificate signed it"
    )]
    Tls {
        /// The configured address.
        address: String,
        /// The innermost cause.
        detail: String,
    },
    /// The configured CA certificate cannot be used.
    #[error("CA certificate `{path}` cannot be used ({detail}); give a readable file of PEM certificates", path = path.display())]
    CaCertificate {
        /// The configured file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// Accepted and never answered.
    #[error(
        "`{address}` did not answer within {after:?}; check that the server is not overloaded or frozen"
    )]
    Timeout {
        /// The configured address.
        address: String,
        /// How long we waited.
        after: Duration,
    },
    /// The server is sealed.
    #[error("the server is sealed; unseal it (`bao operator unseal`)")]
    Sealed,
    /// The server was never initialised.
    #[error("the server is not initialised; initialise and unseal it (`bao operator init`)")]
    NotInitialized,
    /// A standby without an active node.
    #[error(
        "the server is a standby and cannot reach an active node; check the cluster's other nodes"
    )]
    Standby,
    /// Too many requests for a quota of the server.
    #[error(
        "the server limits the rate; raise its quota for this client or refresh less often{}",
        Pause(*retry_after)
    )]
    RateLimited {
        /// The pause that the server requests, if any.
        retry_after: Option<Duration>,
    },
    /// It sends us on to where our credentials must not go.
    #[error(
        "the server redirects to `{to}`, and credentials are sent to the configured host only; configure the address \
         of the active node or of a load balancer, and check that the standby reaches its active node"
    )]
    Redirected {
        /// Scheme, host and port of that place.
        to: String,
        /// Whether the server says that it is a standby.
        is_standby: bool,
    },
    /// The credentials were refused.
    #[error(
        "the {method} was refused ({detail}); check that it is correct, not expired and of this namespace"
    )]
    AuthenticationFailed {
        /// The method of the login, such as "token" or "AppRole".
        method: &'static str,
        /// The message of the server.
        detail: String,
    },
    /// A credential to log in with could not be read.
    #[error("cannot read the {method} from `{path}` ({detail}); give a file that this process may read", path = path.display())]
    Credential {
        /// The credential of the login.
        method: &'static str,
        /// The configured file.
        path: PathBuf,
        /// Why not.
        detail: String,
    },
    /// A wrapping token brought no secret id.
    #[error(
        "the wrapped secret id was not unwrapped ({detail}); its token is valid for one use, so if no process here has used it, an attacker may have: revoke that secret id and wrap another"
    )]
    NotUnwrapped {
        /// The message of the server.
        detail: String,
    },
    /// The content of a wrapping token is not a secret id of the configured mount.
    #[error(
        "the wrapping token was made at `{path}`, not at `auth/{mount}/role/ROLE/secret-id`, and was not unwrapped; it may have been swapped: find out its origin, and wrap another"
    )]
    WrappedElsewhere {
        /// Where it was made.
        path: String,
        /// Where AppRole is mounted.
        mount: String,
    },
    /// The configured client certificate cannot be used.
    #[error(
        "the client certificate cannot be used ({detail}); give readable PEM files of the certificate and its key"
    )]
    ClientCertificate {
        /// Why not.
        detail: String,
    },
    /// The login's policies do not cover the path.
    #[error(
        "no permission on `{path}`; grant it with `path \"{path}\" {{ capabilities = [\"{capability}\"] }}` in a policy of this login"
    )]
    PermissionDenied {
        /// The path as a policy spells it.
        path: String,
        /// The required capability.
        capability: &'static str,
    },
    /// The server says nothing about the mount: it may not exist, or not for us.
    #[error(
        "no mount `{mount}`, or no permission on anything below it; check its name, then the policies of this login"
    )]
    MountHidden {
        /// The configured mount.
        mount: String,
    },
    /// No such namespace.
    #[error("no namespace `{namespace}`; check its spelling, parents included")]
    NamespaceMissing {
        /// The configured namespace.
        namespace: String,
    },
    /// Nothing is mounted there.
    #[error("nothing is mounted at `{mount}`; check the mount, or enable the engine there")]
    MountMissing {
        /// The configured mount.
        mount: String,
    },
    /// The database engine does not know the role.
    #[error(
        "the database engine at `{mount}` has no role `{role}`, neither dynamic nor static; check its spelling, or write it"
    )]
    RoleMissing {
        /// Where the engine is mounted.
        mount: String,
        /// The configured role.
        role: String,
    },
    /// The server is well and its database engine is not: mostly because the database is away.
    #[error(
        "Vault answers, but its database engine at `{mount}` failed for role `{role}` ({detail}); check that the \
         database's server runs, and that Vault can reach it and log in to it"
    )]
    DatabaseEngine {
        /// Where the engine is mounted.
        mount: String,
        /// The configured role.
        role: String,
        /// The message of the server.
        detail: String,
    },
    /// No secret there, or its latest version was deleted.
    #[error(
        "no secret at `{path}`; write it, or correct the reference (its path does not include the mount)"
    )]
    PathMissing {
        /// The path as the server's API spells it.
        path: String,
    },
    /// Not what Vault would answer.
    #[error(
        "unexpected answer ({detail}); check that the address is that of a Vault or OpenBao server"
    )]
    BadAnswer {
        /// The problem.
        detail: String,
    },
}

impl VaultFailure {
    /// Whether the server refused the request, for any reason.
    pub(super) fn is_denied(&self) -> bool {
        matches!(
            self,
            Self::PermissionDenied { .. } | Self::MountHidden { .. }
        )
    }

    /// Whether nothing can be had of the server: what is asked of it next would fail too, until it serves again.
    pub(super) fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Tls { .. }
                | Self::Timeout { .. }
                | Self::Sealed
                | Self::NotInitialized
                | Self::Standby
        )
    }

    /// For how long the server wants to be left alone, at most [`LONGEST_PAUSE`].
    pub(super) fn pause(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => retry_after.map(|it| it.min(LONGEST_PAUSE)),
            _ => None,
        }
    }

    /// The word for it that probes, metrics and the board show.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Unreachable { .. } => reason::UNREACHABLE,
            Self::Tls { .. } | Self::CaCertificate { .. } => reason::TLS,
            Self::Timeout { .. } => reason::TIMEOUT,
            Self::Sealed => reason::SEALED,
            Self::NotInitialized => reason::NOT_INITIALIZED,
            Self::Standby => reason::STANDBY,
            Self::RateLimited { .. } => reason::RATE_LIMITED,
            Self::Redirected {
                is_standby: true, ..
            } => reason::STANDBY,
            Self::AuthenticationFailed { .. }
            | Self::Credential { .. }
            | Self::NotUnwrapped { .. }
            | Self::WrappedElsewhere { .. }
            | Self::ClientCertificate { .. } => reason::AUTHENTICATION_FAILED,
            Self::RoleMissing { .. } => reason::ROLE_MISSING,
            Self::DatabaseEngine { .. } => reason::DATABASE_ENGINE_FAILED,
            Self::PermissionDenied { .. } | Self::MountHidden { .. } => reason::PERMISSION_DENIED,
            Self::NamespaceMissing { .. } => reason::NAMESPACE_MISSING,
            Self::MountMissing { .. } => reason::MOUNT_MISSING,
            Self::PathMissing { .. } => reason::PATH_MISSING,
            Self::Redirected { .. } | Self::BadAnswer { .. } => reason::BAD_ANSWER,
        }
    }
}

/// The end of a sentence: the pause that was asked for, in whole seconds.
struct Pause(Option<Duration>);

impl fmt::Display for Pause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(pause) => write!(f, " (it asks for a pause of {} s)", pause.as_secs()),
            None => Ok(()),
        }
    }
}
