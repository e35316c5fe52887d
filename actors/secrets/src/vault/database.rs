//! Credentials that Vault's database engine makes: of a dynamic role, which are leased, and of a
//! static role, whose password the server changes from time to time.

use std::{sync::Arc, time::Duration};

use secrecy::SecretString;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    backend::{Answer, CallFailure},
    diagnosis::{Asking, Failure},
    session::{Lease, Session},
};
use crate::{DatabaseRole, SecretsError, Vault, VaultFailure, lease::LeaseClock};

/// A static role's password that changes this very second is read again after this long.
const ABOUT_TO_CHANGE: Duration = Duration::from_millis(200);

/// Credentials, and how long they are good for.
#[derive(Clone)]
pub(crate) struct Issued {
    pub(crate) username: SecretString,
    pub(crate) password: SecretString,
    pub(crate) clock: LeaseClock,
    pub(crate) lease: Arc<Lease>,
}

/// The result of a lookup of a lease.
pub(crate) enum LeaseLookup {
    /// This long is left.
    Left(Duration),
    /// The server does not know it any more.
    Gone,
    /// Our policies do not allow to look.
    Unknown,
}

impl Vault {
    /// Credentials of `role`: new ones if it is dynamic, the present ones if it is static.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Login`] or [`SecretsError::Issue`]; asking again later is safe.
    pub(crate) async fn issue(&self, role: &DatabaseRole) -> Result<Issued, SecretsError> {
        let issue = async |session: Arc<Session>| self.issue_within(&session, role).await;
        self.with_session(issue, |source| SecretsError::Issue {
            role: role.role.clone(),
            source,
        })
        .await
    }

    /// The same without an actor that maintains the lease: a user name, a password, and the lease that
    /// [`revoke_all`](Self::revoke_all) revokes.
    ///
    /// # Errors
    ///
    /// As for the actor.
    pub async fn issue_once(
        &self,
        role: &DatabaseRole,
    ) -> Result<(SecretString, SecretString, crate::LeaseHold), SecretsError> {
        let issued = self.issue(role).await?;
        let hold = crate::LeaseHold::new(issued.lease, None);
        Ok((issued.username, issued.password, hold))
    }

    async fn issue_within(
        &self,
        session: &Arc<Session>,
        role: &DatabaseRole,
    ) -> Result<Issued, VaultFailure> {
        let asked = Instant::now();
        let dynamic = self.call_role(session, &role.dynamic_path()).await;
        let refused = match dynamic {
            Ok(answer) if answer.lease_id.is_empty() => {
                return Err(VaultFailure::BadAnswer {
                    detail: "the credentials have no lease".to_owned(),
                });
            }
            Ok(answer) => return self.issued(session, answer, asked),
            Err(refused) if may_be_static(&refused) => refused,
            Err(failure) => return Err(self.explain_role(failure, session, role).await),
        };
        match self.call_role(session, &role.static_path()).await {
            Ok(answer) => self.issued(session, answer, asked),
            // Of two refusals report the one that knows the role, or that lacks the permission.
            Err(failure) if is_unknown_role(&failure) => {
                Err(self.explain_role(refused, session, role).await)
            }
            Err(failure) if failure.refusal().is_some() && is_unknown_role(&refused) => {
                let asking = Asking::Role {
                    path: &role.static_path(),
                    role,
                    capability: "read",
                };
                Err(self.explain(failure, asking, Some(&session.token)).await)
            }
            Err(failure) if failure.refusal().is_some() => {
                Err(self.explain_role(refused, session, role).await)
            }
            Err(failure) => Err(self.explain_role(failure, session, role).await),
        }
    }

    async fn call_role(&self, session: &Session, path: &str) -> Result<Answer, Failure> {
        self.call(path, Some(&session.token), None).await
    }

    async fn explain_role(
        &self,
        failure: Failure,
        session: &Session,
        role: &DatabaseRole,
    ) -> VaultFailure {
        if is_unknown_role(&failure) {
            return VaultFailure::RoleMissing {
                mount: role.mount.to_string(),
                role: role.role.to_string(),
            };
        }
        let asking = Asking::Role {
            path: &role.dynamic_path(),
            role,
            capability: "read",
        };
        self.explain(failure, asking, Some(&session.token)).await
    }

    fn issued(
        &self,
        session: &Arc<Session>,
        answer: Answer,
        asked: Instant,
    ) -> Result<Issued, VaultFailure> {
        let mut data = answer.data.unwrap_or_default();
        let lacks = |field: &str| VaultFailure::BadAnswer {
            detail: format!("the credentials have no {field}"),
        };
        let mut take = |field: &str| match data.get_mut(field).map(Value::take) {
            Some(Value::String(text)) => Ok(SecretString::from(text)),
            _ => Err(lacks(field)),
        };
        let (username, password) = (take("username")?, take("password")?);
        let draw = fastrand::f64();
        let (id, clock) = if answer.lease_id.is_empty() {
            let ttl = data.get("ttl").and_then(Value::as_u64);
            let life = Duration::from_secs(ttl.ok_or_else(|| lacks("ttl"))?);
            let life = life.max(ABOUT_TO_CHANGE);
            (None, LeaseClock::rotating(asked, life, draw))
        } else {
            let life = Duration::from_secs(answer.lease_duration);
            if life.is_zero() {
                return Err(lacks("lease_duration"));
            }
            let clock = LeaseClock::leased(asked, life, answer.renewable, draw);
            (Some(answer.lease_id), clock)
        };
        Ok(Issued {
            username,
            password,
            clock,
            lease: Lease::new(id, session, self.outbox()),
        })
    }

    /// Extends a lease by as much as it was granted for; how long it lives then. `None` if the server
    /// does not extend it: it is gone, or we may not.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Renew`] if there is no such answer; asking again later is safe.
    pub(crate) async fn renew_lease(
        &self,
        lease: &Lease,
        role: &DatabaseRole,
    ) -> Result<Option<Duration>, SecretsError> {
        let Some(id) = &lease.id else { return Ok(None) };
        let body = json!({ "lease_id": id });
        match self.call_lease("sys/leases/renew", lease, body).await {
            Ok(answer) if answer.lease_id.is_empty() => {
                let failure = Failure::garbled("the renewal names no lease");
                Err(self.explain_lease(failure, lease, role).await)
            }
            Ok(answer) => {
                let life = Duration::from_secs(answer.lease_duration);
                Ok(Some(life).filter(|life| !life.is_zero()))
            }
            Err(failure) if is_final(&failure) => Ok(None),
            Err(failure) => Err(self.explain_lease(failure, lease, role).await),
        }
    }

    /// Looks whether a lease lives as long as we think.
    ///
    /// # Errors
    ///
    /// [`SecretsError::Renew`] if there is no answer; asking again later is safe.
    pub(crate) async fn look_at_lease(
        &self,
        lease: &Lease,
        role: &DatabaseRole,
    ) -> Result<LeaseLookup, SecretsError> {
        let Some(id) = &lease.id else {
            return Ok(LeaseLookup::Unknown);
        };
        let body = json!({ "lease_id": id });
        match self.call_lease("sys/leases/lookup", lease, body).await {
            Ok(answer) => {
                let data = answer.data.unwrap_or_default();
                match data.get("ttl").and_then(Value::as_u64) {
                    Some(left) => Ok(LeaseLookup::Left(Duration::from_secs(left))),
                    None => {
                        let failure = Failure::garbled("it has no data of a lease");
                        Err(self.explain_lease(failure, lease, role).await)
                    }
                }
            }
            Err(Failure::Call(denial)) if denial.is_policy_denial() => Ok(LeaseLookup::Unknown),
            Err(Failure::Call(CallFailure::Refused { status: 403, .. })) => {
                lease.session.lose();
                Ok(LeaseLookup::Gone)
            }
            Err(failure) if is_final(&failure) => Ok(LeaseLookup::Gone),
            Err(failure) => Err(self.explain_lease(failure, lease, role).await),
        }
    }

    /// Ends a lease.
    ///
    /// # Errors
    ///
    /// The cause.
    pub(crate) async fn revoke_lease(&self, id: &str, session: &Session) -> Result<(), Failure> {
        let path = "sys/leases/revoke";
        let body = || Some(json!({ "lease_id": id }));
        let present = self.present().await;
        let token = present.as_ref().map_or(&session.token, |it| &it.token);
        match self.call(path, Some(token), body()).await {
            Ok(_) => Ok(()),
            // Not known any more: that is what was wanted. Not so if the engine tried, and the database is away.
            Err(failure)
                if failure.refusal().is_some_and(|(status, words)| {
                    status == 400 && !words.contains("failed to revoke")
                }) =>
            {
                Ok(())
            }
            Err(failure) => Err(failure),
        }
    }

    async fn call_lease(&self, path: &str, lease: &Lease, body: Value) -> Result<Answer, Failure> {
        self.call(path, Some(&lease.session.token), Some(body))
            .await
    }

    async fn explain_lease(
        &self,
        failure: Failure,
        lease: &Lease,
        role: &DatabaseRole,
    ) -> SecretsError {
        let asking = Asking::Role {
            path: "sys/leases/renew",
            role,
            capability: "update",
        };
        SecretsError::Renew {
            role: role.role.clone(),
            source: self
                .explain(failure, asking, Some(&lease.session.token))
                .await,
        }
    }
}

fn is_unknown_role(failure: &Failure) -> bool {
    failure
        .refusal()
        .is_some_and(|(_, words)| words.contains("unknown role"))
}

/// A policy of least privilege names the one path that is used, so a no may mean the other.
fn may_be_static(failure: &Failure) -> bool {
    is_unknown_role(failure)
        || matches!(failure, Failure::Call(denial) if denial.is_policy_denial())
}

/// Whether the server has decided, so that asking again would bring the same.
fn is_final(failure: &Failure) -> bool {
    failure
        .refusal()
        .is_some_and(|(status, _)| matches!(status, 400 | 403 | 404))
}

#[cfg(test)]
mod tests;
