//! Failures of requests to Vault, classified by remedy.
//!
//! [`SecretsError`] says what we were doing, its source [`VaultFailure`] what stood in the way and
//! what to do. Both are made of names, addresses and Vault's own error texts; no value, token or
//! secret id ever gets into one.

use std::{fmt, time::Duration};

use super::{SecretPath, SecretReference, VaultFailure, reason};
use dotmac_supervision::Reason;

/// A secret that could not be had or kept, and what we were doing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretsError {
    /// The login itself failed; nothing was read.
    #[error("failed to log in to Vault")]
    Login {
        /// The cause.
        #[source]
        source: VaultFailure,
    },
    /// One secret could not be read.
    #[error("failed to read secret `{path}` from Vault")]
    Read {
        /// The secret, below the mount.
        path: SecretPath,
        /// The cause.
        #[source]
        source: VaultFailure,
    },
    /// One secret could not be written.
    #[error("failed to write secret `{path}` to Vault")]
    Write {
        /// The secret, below the mount.
        path: SecretPath,
        /// The cause.
        #[source]
        source: VaultFailure,
    },
    /// Another version was there than the one that was to be replaced; nothing was written.
    #[error("secret `{path}` was changed concurrently; read it again")]
    Changed {
        /// The secret, below the mount.
        path: SecretPath,
    },
    /// KV v1 has no versions to compare; nothing was written.
    #[error(
        "secret `{path}` cannot be compared before it is written: its engine is KV v1; use KV v2"
    )]
    Unversioned {
        /// The secret, below the mount.
        path: SecretPath,
    },
    /// A role brought no credentials.
    #[error("failed to get credentials of database role `{role}` from Vault")]
    Issue {
        /// The role, below the mount of the database engine.
        role: SecretPath,
        /// The cause.
        #[source]
        source: VaultFailure,
    },
    /// The lease on credentials was neither renewed nor looked up.
    #[error("failed to renew the lease of the credentials of database role `{role}`")]
    Renew {
        /// The role, below the mount of the database engine.
        role: SecretPath,
        /// The cause.
        #[source]
        source: VaultFailure,
    },
    /// The lease on credentials has ended before there were others.
    #[error(
        "the lease of the credentials of database role `{role}` has ended and Vault issued no others"
    )]
    LeaseExpired {
        /// The role, below the mount of the database engine.
        role: SecretPath,
        /// Why Vault has given no others, if that is known.
        #[source]
        source: Option<VaultFailure>,
    },
    /// The actor is still at it; what comes of it is taken into use when it comes.
    #[error("Vault has not answered within {after:?}; the read goes on, and its result is used")]
    UnderWay {
        /// How long the caller was kept waiting.
        after: Duration,
    },
    /// The secret is there, without the field that was asked for.
    #[error(
        "secret `{path}` has no field `{field}`; it has {}: correct the reference or add the field",
        Names(found)
    )]
    FieldMissing {
        /// The secret, below the mount.
        path: SecretPath,
        /// The field asked for.
        field: String,
        /// The fields it has.
        found: Vec<String>,
    },
    /// No field was named, and there is neither one called `value` nor exactly one.
    #[error(
        "secret `{path}` has no field `value`; it has {}: name one, as in `vault:{path}#NAME`",
        Names(found)
    )]
    FieldUnclear {
        /// The secret, below the mount.
        path: SecretPath,
        /// The fields it has.
        found: Vec<String>,
    },
    /// More reads are under way than the actor allows; asking again later is safe.
    #[error("failed to read `{reference}`: too many reads are under way; retry later")]
    Busy {
        /// The requested path or role.
        reference: SecretReference,
    },
    /// A reference cannot be followed without Vault.
    #[error(
        "failed to read `{reference}`: Vault is not configured; set its address or the value itself"
    )]
    VaultOff {
        /// The requested path or role.
        reference: SecretReference,
    },
}

impl SecretsError {
    /// The word for it that probes, metrics and the board show.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Login { source }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Issue { source, .. }
            | Self::Renew { source, .. } => source.reason(),
            // The cause, where it is known: that the lease has ended is what the database says.
            Self::LeaseExpired { source, .. } => source
                .as_ref()
                .map_or(reason::LEASE_EXPIRED, VaultFailure::reason),
            Self::UnderWay { .. } => reason::TIMEOUT,
            Self::FieldMissing { .. } | Self::FieldUnclear { .. } => reason::FIELD_MISSING,
            Self::Busy { .. } => reason::RATE_LIMITED,
            // The first two are answers to a caller alone: the actor itself is well.
            Self::Changed { .. } | Self::Unversioned { .. } | Self::VaultOff { .. } => {
                reason::INVALID_CONFIGURATION
            }
        }
    }

    /// The failure of the request to Vault, if any.
    pub(super) fn failure(&self) -> Option<&VaultFailure> {
        match self {
            Self::Login { source }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::Issue { source, .. }
            | Self::Renew { source, .. } => Some(source),
            Self::LeaseExpired { source, .. } => source.as_ref(),
            _ => None,
        }
    }

    /// Whether it is the database that fails, and not Vault.
    pub(super) fn is_of_database_engine(&self) -> bool {
        matches!(self.failure(), Some(VaultFailure::DatabaseEngine { .. }))
    }

    /// For how long Vault wants to be left alone.
    pub(super) fn pause(&self) -> Option<Duration> {
        self.failure().and_then(VaultFailure::pause)
    }

    /// Whether other paths would fail in the same way, so that it is idle to try them now.
    pub(super) fn is_general(&self) -> bool {
        match self {
            Self::Login { .. } => true,
            Self::Read { source, .. } => {
                !source.is_denied()
                    && !matches!(
                        source,
                        VaultFailure::PathMissing { .. } | VaultFailure::BadAnswer { .. }
                    )
            }
            Self::Write { .. }
            | Self::Changed { .. }
            | Self::Unversioned { .. }
            | Self::Issue { .. }
            | Self::Renew { .. }
            | Self::LeaseExpired { .. }
            | Self::UnderWay { .. }
            | Self::FieldMissing { .. }
            | Self::FieldUnclear { .. }
            | Self::Busy { .. }
            | Self::VaultOff { .. } => false,
        }
    }

    pub(super) fn is_path_missing(&self) -> bool {
        matches!(
            self,
            Self::Read {
                source: VaultFailure::PathMissing { .. },
                ..
            }
        )
    }

    pub(super) fn is_denied(&self) -> bool {
        matches!(self, Self::Read { source, .. } if source.is_denied())
    }

    /// Whether a policy forbids the write, so that nothing was written.
    #[must_use]
    pub fn is_write_denied(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.is_denied())
    }
}

/// Field names as a reader expects them; they are names, so showing them gives nothing away.
struct Names<'a>(&'a [String]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        if self.0.is_empty() {
            return f.write_str("none");
        }
        for (n, name) in self.0.iter().take(SHOWN).enumerate() {
            write!(
                f,
                "{}`{}`",
                if n == 0 { "" } else { ", " },
                name.escape_debug()
            )?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
