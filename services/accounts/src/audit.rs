//! What the audit log has of accounts: who did what to whom, and how it came out. Names follow the OWASP logging vocabulary.
//!
//! An entry is in the log of the tenant that it concerns: of a session, a key or a role its tenant's; of an account that of the
//! tenant that manages it; of what belongs to no tenant, such as an unknown identifier, that of the operators.
//! Where a client was seen is under the key of the user whom the entry is about, so that it can be erased.

mod acts;
mod sampling;

use dotmac_platform::{
    audit::{Entry, Outcome, Recorded, SubjectId, audit_for},
    db::{Actor, TenantId, Tx, types::Id},
    sealing::Sealer,
};
use uuid::Uuid;

pub(crate) use acts::*;
pub(crate) use sampling::Sampler;

use crate::{
    AccountsError,
    store::{
        sessions::Client,
        tenants::DEFAULT,
        users::{self, UserId},
    },
};

/// One act: an action upon a resource, and how it came out.
#[must_use = "an act is recorded in the transaction that does it"]
pub(crate) struct Act {
    entry: Entry,
}

impl Act {
    /// An act that was done.
    pub(crate) fn done(action: Action, resource: Resource, id: Uuid) -> Self {
        // An unknown identifier has no id.
        let id = Some(id).filter(|id| !id.is_nil());
        let id = id.map(|id| id.to_string()).unwrap_or_default();
        Self {
            entry: Entry::new(action.name(), resource.name(), id),
        }
    }

    /// An act upon the account of a user that was done.
    pub(crate) fn on_user(action: Action, user: UserId) -> Self {
        Self::done(action, Resource::User, user.uuid())
    }

    /// It was tried and not done; why, for people.
    pub(crate) fn failed(self, reason: &'static str) -> Self {
        Self {
            entry: self.entry.outcome(Outcome::Failure, reason),
        }
    }

    /// Something particular to it. Never a secret, and nothing about a person.
    pub(crate) fn detail(self, name: &'static str, value: impl Into<String>) -> Self {
        Self {
            entry: self.entry.detail(name, value),
        }
    }

    /// Where the client was that did it, encrypted with the key of the user whom it is about. What concerns no account is
    /// under the key of the nil id.
    pub(crate) fn seen(self, sealer: &Sealer, user: UserId, client: &Client) -> Self {
        let fields = [
            ("network", client.network.clone()),
            ("user_agent", client.user_agent.clone()),
        ];
        let fields = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        let subject: SubjectId = Id::from_uuid(user.uuid());
        Self {
            entry: self.entry.personal(sealer, subject, fields),
        }
    }

    /// Records it in the log of the transaction's tenant; on a transaction of the system in that of the operators.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`]; the transaction is then rolled back.
    pub(crate) fn record(self, tx: &mut Tx) -> Result<Recorded, AccountsError> {
        let tenant = tx.tenant().unwrap_or(DEFAULT);
        self.record_in(tx, tenant)
    }

    /// Records it in the log of `tenant`; the transaction is the tenant's or the system's.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    pub(crate) fn record_in(
        self,
        tx: &mut Tx,
        tenant: TenantId,
    ) -> Result<Recorded, AccountsError> {
        Ok(audit_for(tx, tenant, self.entry)?)
    }

    /// Records it in the log of the transaction's tenant; on a transaction of the system in that of the tenant that manages the
    /// account of `user`.
    ///
    /// # Errors
    ///
    /// As [`record`](Self::record).
    pub(crate) async fn record_of(
        self,
        tx: &mut Tx,
        user: UserId,
    ) -> Result<Recorded, AccountsError> {
        let tenant = match tx.tenant() {
            Some(tenant) => tenant,
            None => users::managing_tenant(tx, user).await?.unwrap_or(DEFAULT),
        };
        self.record_in(tx, tenant)
    }
}

/// From now on the transaction of the system acts for the user, who has proved within it who they are.
#[expect(
    clippy::disallowed_methods,
    reason = "this module is the one that checks credentials"
)]
pub(crate) fn act_as(tx: &mut Tx, user: UserId) {
    tx.authenticated(Actor::Principal {
        kind: "user",
        id: user.uuid(),
    });
}
