//! The end of the process: what is ours at Vault is given back.

use futures_util::future::join_all;
use secrecy::SecretString;
use serde_json::json;

use crate::{
    Vault,
    vault::{CallFailure, Failure, Revocation},
};

impl Vault {
    /// Gives back what is ours: leases that are still held first, then tokens. For the end of the process; the caller
    /// sets the time limit.
    pub async fn revoke_all(&self) {
        let leases = self.outbox().live();
        join_all(leases.iter().map(|lease| async {
            let revoked = match &lease.id {
                Some(id) => self.revoke_lease(id, &lease.session).await,
                None => Ok(()),
            };
            if revoked.is_ok() {
                lease.bury();
            }
        }))
        .await;
        let mut tokens = Vec::new();
        for lease in leases.iter().filter(|it| it.session.is_revocable()) {
            lease.session.bury();
            tokens.push(lease.session.token.clone());
        }
        drop(leases);
        // The last holder of a session puts its token into the outbox.
        drop(self.leave().await);
        for revocation in self.outbox().take() {
            match revocation {
                Revocation::Token(token) => tokens.push(token),
                Revocation::Lease { id, session } => {
                    self.revoke_lease(&id, &session).await.ok();
                }
            }
        }
        for revocation in self.outbox().take() {
            if let Revocation::Token(token) = revocation {
                tokens.push(token);
            }
        }
        join_all(tokens.iter().map(|token| self.revoke_token(token))).await;
    }

    pub(crate) async fn revoke_token(&self, token: &SecretString) -> Result<(), Failure> {
        let path = "auth/token/revoke-self";
        match self.call(path, Some(token), Some(json!({}))).await {
            // Not known any more: that is what was wanted.
            Err(Failure::Call(CallFailure::Refused { status: 403, .. })) | Ok(_) => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}
