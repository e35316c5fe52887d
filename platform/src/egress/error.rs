//! Why a call to the outside has no answer, and whether another attempt can have one.

use std::{net::IpAddr, time::Duration};

use super::AddressClass;

/// Why a call has no answer. Holds the host, never the path, the query or a header: those may be secrets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EgressError {
    /// The URL is none that is called.
    #[error("the URL cannot be called: {problem}")]
    InvalidUrl {
        /// The problem.
        problem: &'static str,
    },
    /// The host has an address that is not public and that no operator opened.
    #[error(
        "`{host}` has the {class} address {address}, which is blocked unless DOTMAC_EGRESS_ALLOW opens it"
    )]
    BlockedAddress {
        /// The host of the URL.
        host: String,
        /// The address that it has.
        address: IpAddr,
        /// The class of that address.
        class: AddressClass,
    },
    /// The port is not among those that are called.
    #[error(
        "port {port} of `{host}` is blocked unless DOTMAC_EGRESS_PORTS or DOTMAC_EGRESS_ALLOW opens it"
    )]
    BlockedPort {
        /// The host of the URL.
        host: String,
        /// The port.
        port: u16,
    },
    /// It would be sent in the clear, which production refuses.
    #[error("`{host}` is allowed by https only; DOTMAC_EGRESS_ALLOW can open it for http")]
    InsecureUrl {
        /// The host of the URL.
        host: String,
    },
    /// A redirect that is not followed.
    #[error("a redirect of `{host}` is not followed: {problem}")]
    RedirectRefused {
        /// The host that redirects.
        host: String,
        /// Why it is not followed.
        problem: &'static str,
    },
    /// The answer is longer than the caller reads.
    #[error("the answer of `{host}` is longer than {limit} bytes")]
    AnswerTooLarge {
        /// The host of the URL.
        host: String,
        /// How much is read, in bytes.
        limit: usize,
    },
    /// The name of the host has no address now.
    #[error("`{host}` cannot be resolved")]
    NotResolved {
        /// The host of the URL.
        host: String,
    },
    /// There is no connection, or it was lost before the end of the answer.
    #[error("no answer of `{host}`: {problem}")]
    ConnectionFailed {
        /// The host of the URL.
        host: String,
        /// The failed operation.
        problem: String,
        /// Whether the host may have been given the request before.
        is_sent: bool,
    },
    /// The host does not prove its identity, or has no version of TLS in common with us.
    #[error("no TLS with `{host}`: {problem}")]
    TlsFailed {
        /// The host of the URL.
        host: String,
        /// The failed operation.
        problem: String,
    },
    /// There was no whole answer in time.
    #[error("no complete answer of `{host}` within {limit:?}")]
    Timeout {
        /// The host of the URL.
        host: String,
        /// The time that there was.
        limit: Duration,
        /// Whether the host may have been given the request before.
        is_sent: bool,
    },
    /// Too many calls are under way and wait, to this host or to all: there was no place for it in time, and it was not made.
    #[error("too many calls to `{host}` are under way and wait")]
    Busy {
        /// The host of the URL.
        host: String,
    },
    /// No certificate of this machine or of `DOTMAC_EGRESS_CA_CERT` can be trusted.
    #[error("TLS cannot be used: {problem}")]
    Unusable {
        /// The missing part.
        problem: String,
    },
}

impl EgressError {
    /// A word for programs: stable, lower case, joined by `_`.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::InvalidUrl { .. } => "invalid_url",
            Self::BlockedAddress { .. } => "blocked_address",
            Self::BlockedPort { .. } => "blocked_port",
            Self::InsecureUrl { .. } => "insecure_url",
            Self::RedirectRefused { .. } => "redirect_refused",
            Self::AnswerTooLarge { .. } => "answer_too_large",
            Self::NotResolved { .. } => "not_resolved",
            Self::ConnectionFailed { .. } => "connection_failed",
            Self::TlsFailed { .. } => "tls_failed",
            Self::Timeout { .. } => "timeout",
            Self::Busy { .. } => "egress_busy",
            Self::Unusable { .. } => "egress_unusable",
        }
    }

    /// Whether the host may have been given the request, so that it may have acted on it. A call that must not be made twice
    /// is not repeated then.
    #[must_use]
    pub const fn may_have_arrived(&self) -> bool {
        match self {
            Self::ConnectionFailed { is_sent, .. } | Self::Timeout { is_sent, .. } => *is_sent,
            Self::AnswerTooLarge { .. } | Self::RedirectRefused { .. } => true,
            Self::InvalidUrl { .. }
            | Self::BlockedAddress { .. }
            | Self::BlockedPort { .. }
            | Self::InsecureUrl { .. }
            | Self::NotResolved { .. }
            | Self::TlsFailed { .. }
            | Self::Busy { .. }
            | Self::Unusable { .. } => false,
        }
    }

    /// Whether the same call may get an answer later. What is blocked, refused or too large stays so: a retry of it
    /// is of no use.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::InvalidUrl { .. }
            | Self::BlockedAddress { .. }
            | Self::BlockedPort { .. }
            | Self::InsecureUrl { .. }
            | Self::RedirectRefused { .. }
            | Self::AnswerTooLarge { .. } => false,
            Self::NotResolved { .. }
            | Self::ConnectionFailed { .. }
            | Self::TlsFailed { .. }
            | Self::Timeout { .. }
            | Self::Busy { .. }
            | Self::Unusable { .. } => true,
        }
    }
}
