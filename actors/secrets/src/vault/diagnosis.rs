//! The meaning of Vault's failures. A sealed, an uninitialised and a standby server refuse requests
//! in the same words, so where the server itself seems unfit its health is asked for.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::{MOUNTS, backend::CallFailure};
use crate::{DatabaseRole, Vault, VaultFailure};

/// Longest piece of a server's own words that is repeated in an error.
const DETAIL_LIMIT: usize = 300;

/// The purpose of the failed request.
#[derive(Clone, Copy)]
pub(crate) enum Asking<'a> {
    Login,
    Unwrap,
    /// A path below a mount of which we know the name, with what a policy must allow.
    Path {
        path: &'a str,
        mount: &'a str,
        capability: &'static str,
    },
    /// The same of a path behind which the database engine does something for a role, in the database.
    Role {
        path: &'a str,
        role: &'a DatabaseRole,
        capability: &'static str,
    },
}

pub(crate) enum Failure {
    Call(CallFailure),
    Timeout(Duration),
}

impl Failure {
    /// An answer that is not Vault's; `detail` says what is wrong with it.
    pub(crate) fn garbled(detail: &str) -> Self {
        Self::Call(CallFailure::Garbled(detail.to_owned()))
    }

    /// The server's refusal: its status and its words.
    pub(crate) fn refusal(&self) -> Option<(u16, String)> {
        match self {
            Self::Call(CallFailure::Refused { status, errors, .. }) => {
                Some((*status, errors.join("; ")))
            }
            _ => None,
        }
    }

    /// For how long the server wants to be left alone, if that is why it refused.
    pub(crate) fn pause(&self) -> Option<Duration> {
        match self {
            Self::Call(CallFailure::Refused {
                status: 429 | 503,
                retry_after,
                ..
            }) => VaultFailure::RateLimited {
                retry_after: *retry_after,
            }
            .pause(),
            _ => None,
        }
    }
}

/// The refusal of a server.
struct Refusal {
    status: u16,
    errors: String,
    /// The errors as they may be shown.
    detail: String,
    retry_after: Option<Duration>,
}

impl Refusal {
    fn senseless(&self) -> VaultFailure {
        let Self { status, detail, .. } = self;
        VaultFailure::BadAnswer {
            detail: format!("status {status}: {detail}"),
        }
    }
}

/// Whether a status of the server's health is that of a standby.
fn is_standby(state: u16) -> bool {
    matches!(state, 429 | 472 | 473)
}

/// Whether it is that of a server that serves, by itself or as a standby.
fn serves(state: u16) -> bool {
    state == 200 || is_standby(state)
}

impl Vault {
    /// Says what a failure means. `sent` must not be repeated, should the server echo it.
    pub(crate) async fn explain(
        &self,
        failure: Failure,
        asking: Asking<'_>,
        sent: Option<&SecretString>,
    ) -> VaultFailure {
        let address = self.config().address.clone();
        match failure {
            Failure::Timeout(after) => match asking {
                Asking::Role { role, .. } if self.state().await.is_some_and(serves) => {
                    engine_failed(role, format!("it did not answer within {after:?}"))
                }
                _ => VaultFailure::Timeout { address, after },
            },
            Failure::Call(CallFailure::Refused {
                status,
                errors,
                retry_after,
            }) => {
                let refusal = Refusal {
                    status,
                    detail: match errors.is_empty() {
                        true => format!("status {status}"),
                        false => presentable(&errors.join("; "), sent),
                    },
                    errors: errors.join("; "),
                    retry_after,
                };
                self.of_refusal(refusal, asking).await
            }
            // A standby answers, and redirects writes to an active node that may be down.
            Failure::Call(CallFailure::Connection(_)) if self.is_standby().await => {
                VaultFailure::Standby
            }
            Failure::Call(CallFailure::Redirected(to)) => VaultFailure::Redirected {
                to: presentable(&to, sent),
                is_standby: self.is_standby().await,
            },
            Failure::Call(call) => self.of_transport(call, address, sent),
        }
    }

    async fn of_refusal(&self, refusal: Refusal, asking: Asking<'_>) -> VaultFailure {
        let address = self.config().address.clone();
        let Refusal {
            status,
            errors,
            detail,
            retry_after,
        } = &refusal;
        match status {
            429 => {
                return VaultFailure::RateLimited {
                    retry_after: *retry_after,
                };
            }
            472 | 473 => return VaultFailure::Standby,
            502 | 504 => {
                return VaultFailure::Unreachable {
                    address,
                    detail: format!("a gateway answered {status}"),
                };
            }
            500 | 501 | 503 => return self.of_unfit_server(refusal, asking).await,
            404 if errors.contains("namespace not found") => {
                return VaultFailure::NamespaceMissing {
                    namespace: self.config().namespace.clone().unwrap_or_default(),
                };
            }
            400 if errors.contains("HTTP request to an HTTPS server") => {
                return VaultFailure::Tls {
                    address,
                    detail: detail.clone(),
                };
            }
            _ => {}
        }
        let is_of_credentials = matches!(status, 400 | 401 | 403 | 404);
        let (path, mount, capability) = match asking {
            Asking::Login if is_of_credentials => {
                return VaultFailure::AuthenticationFailed {
                    method: self.config().auth.name(),
                    detail: detail.clone(),
                };
            }
            Asking::Unwrap if is_of_credentials => {
                return VaultFailure::NotUnwrapped {
                    detail: detail.clone(),
                };
            }
            Asking::Login | Asking::Unwrap => return refusal.senseless(),
            Asking::Path {
                path,
                mount,
                capability,
            } => (path, mount, capability),
            Asking::Role {
                path,
                role,
                capability,
            } => (path, role.mount.as_str(), capability),
        };
        match status {
            404 if errors.contains("no handler for route") => VaultFailure::MountMissing {
                mount: mount.to_owned(),
            },
            404 => VaultFailure::PathMissing {
                path: path.to_owned(),
            },
            403 => match path.strip_prefix(MOUNTS) {
                Some(mount) => VaultFailure::MountHidden {
                    mount: mount.to_owned(),
                },
                None => VaultFailure::PermissionDenied {
                    path: path.to_owned(),
                    capability,
                },
            },
            _ => refusal.senseless(),
        }
    }

    /// A refusal that a server gives which is sealed, not initialised or a standby, one whose database engine
    /// fails, and a gateway.
    async fn of_unfit_server(&self, refusal: Refusal, asking: Asking<'_>) -> VaultFailure {
        let is_standby_alone = refusal.errors.contains("active cluster node not found");
        match (self.state().await, asking) {
            (Some(501), _) => VaultFailure::NotInitialized,
            (Some(503), _) => VaultFailure::Sealed,
            (Some(state), Asking::Role { role, .. })
                if serves(state) && refusal.status == 500 && !is_standby_alone =>
            {
                engine_failed(role, refusal.detail)
            }
            (Some(state), _) if is_standby(state) => VaultFailure::Standby,
            _ if refusal.status == 503 && refusal.retry_after.is_some() => {
                VaultFailure::RateLimited {
                    retry_after: refusal.retry_after,
                }
            }
            _ => refusal.senseless(),
        }
    }

    /// The status of the server's health, if it says how it is.
    async fn state(&self) -> Option<u16> {
        self.bounded(self.backend().health()).await.ok()
    }

    async fn is_standby(&self) -> bool {
        self.state().await.is_some_and(is_standby)
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
            // Checked by the caller.
            CallFailure::Refused { .. } | CallFailure::Redirected(_) => VaultFailure::BadAnswer {
                detail: call.kind().to_owned(),
            },
        }
    }
}

fn engine_failed(role: &DatabaseRole, detail: String) -> VaultFailure {
    VaultFailure::DatabaseEngine {
        mount: role.mount.to_string(),
        role: role.role.to_string(),
        detail,
    }
}

/// A server's own words as one bounded line, in which no credential of ours can be.
pub(crate) fn presentable(words: &str, sent: Option<&SecretString>) -> String {
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
