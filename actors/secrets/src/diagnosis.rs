//! What a failure of Vault's means. A sealed, an uninitialised and a standby server refuse requests
//! in the same words, so where the server itself seems unfit its health is asked for.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{Vault, VaultFailure, backend::CallFailure, vault::MOUNTS};

/// Longest piece of a server's own words that is repeated in an error.
const DETAIL_LIMIT: usize = 300;

/// What we wanted when it failed.
#[derive(Clone, Copy)]
pub(super) enum Asking<'a> {
    Login,
    Unwrap,
    /// A path below a mount of which we know the name, with what a policy must allow.
    Path {
        path: &'a str,
        mount: &'a str,
        capability: &'static str,
    },
}

pub(super) enum Failure {
    Call(CallFailure),
    Timeout(Duration),
}

impl Failure {
    /// The server's refusal: its status and its words.
    pub(super) fn refusal(&self) -> Option<(u16, String)> {
        match self {
            Self::Call(CallFailure::Refused { status, errors }) => {
                Some((*status, errors.join("; ")))
            }
            _ => None,
        }
    }
}

impl Vault {
    /// Says what a failure means. `sent` must not be repeated, should the server echo it.
    pub(super) async fn explain(
        &self,
        failure: Failure,
        asking: Asking<'_>,
        sent: Option<&SecretString>,
    ) -> VaultFailure {
        let address = self.config().address.clone();
        let (status, errors) = match failure {
            Failure::Timeout(after) => return VaultFailure::Timeout { address, after },
            Failure::Call(CallFailure::Refused { status, errors }) => (status, errors.join("; ")),
            // A standby answers, and sends whoever writes on to an active node that may be gone.
            Failure::Call(CallFailure::Connection(_)) if self.is_standby().await => {
                return VaultFailure::Standby;
            }
            Failure::Call(call) => return self.of_transport(call, address, sent),
        };
        let detail = if errors.is_empty() {
            format!("status {status}")
        } else {
            presentable(&errors, sent)
        };
        let senseless = || VaultFailure::BadAnswer {
            detail: format!("status {status}: {detail}"),
        };
        match status {
            429 => return VaultFailure::RateLimited,
            472 | 473 => return VaultFailure::Standby,
            502 | 504 => {
                return VaultFailure::Unreachable {
                    address,
                    detail: format!("a gateway answered {status}"),
                };
            }
            500 | 501 | 503 => {
                return match self.bounded(self.backend().health()).await {
                    Ok(501) => VaultFailure::NotInitialized,
                    Ok(503) => VaultFailure::Sealed,
                    Ok(429 | 472 | 473) => VaultFailure::Standby,
                    _ => senseless(),
                };
            }
            404 if errors.contains("namespace not found") => {
                return VaultFailure::NamespaceMissing {
                    namespace: self.config().namespace.clone().unwrap_or_default(),
                };
            }
            400 if errors.contains("HTTP request to an HTTPS server") => {
                return VaultFailure::Tls { address, detail };
            }
            _ => {}
        }
        match (status, asking) {
            (400 | 401 | 403 | 404, Asking::Login) => VaultFailure::AuthenticationFailed {
                method: self.config().auth.name(),
                detail,
            },
            (400 | 401 | 403 | 404, Asking::Unwrap) => VaultFailure::NotUnwrapped { detail },
            (404, Asking::Path { mount, .. }) if errors.contains("no handler for route") => {
                VaultFailure::MountMissing {
                    mount: mount.to_owned(),
                }
            }
            (
                403,
                Asking::Path {
                    path, capability, ..
                },
            ) => match path.strip_prefix(MOUNTS) {
                Some(mount) => VaultFailure::MountHidden {
                    mount: mount.to_owned(),
                },
                None => VaultFailure::PermissionDenied {
                    path: path.to_owned(),
                    capability,
                },
            },
            (404, Asking::Path { path, .. }) => VaultFailure::PathMissing {
                path: path.to_owned(),
            },
            _ => senseless(),
        }
    }

    async fn is_standby(&self) -> bool {
        let health = self.bounded(self.backend().health()).await;
        matches!(health, Ok(429 | 472 | 473))
    }

    fn of_transport(
        &self,
        call: CallFailure,
        address: String,
        sent: Option<&SecretString>,
    ) -> VaultFailure {
        match call {
            CallFailure::Connection(detail) => VaultFailure::Unreachable {
                address,
                detail: presentable(&detail, sent),
            },
            CallFailure::Tls(detail) => VaultFailure::Tls {
                address,
                detail: presentable(&detail, sent),
            },
            CallFailure::CaCertificate(detail) => VaultFailure::CaCertificate {
                path: self.config().ca_cert.clone().unwrap_or_default(),
                detail,
            },
            CallFailure::ClientCertificate(detail) => VaultFailure::ClientCertificate { detail },
            CallFailure::Garbled(detail) => VaultFailure::BadAnswer {
                detail: presentable(&detail, sent),
            },
            // Its status was looked at by the caller.
            CallFailure::Refused { status, .. } => VaultFailure::BadAnswer {
                detail: format!("status {status}"),
            },
        }
    }
}

/// A server's own words as one bounded line, in which no credential of ours can be.
pub(super) fn presentable(words: &str, sent: Option<&SecretString>) -> String {
    let mut line = words.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some(sent) = sent
        .map(ExposeSecret::expose_secret)
        .filter(|it| !it.is_empty())
    {
        line = line.replace(sent, "[redacted]");
    }
    line.chars()
        .filter(|c| !c.is_control())
        .take(DETAIL_LIMIT)
        .collect()
}
