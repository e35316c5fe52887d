//! The present leased credentials, from the reports of `rotation`.

use std::sync::Arc;

use tracing::error;

use super::{hold::Report, rotation::RotationEvent};
use crate::{
    DatabaseRole, LeaseHold, SecretFeed, SecretsError, VaultFailure,
    instruments::Rotated,
    loader::{Failed, Loaded},
    reason,
    vault::Issued,
};

/// The credentials that are served, or why there are none.
#[derive(Default)]
pub(crate) struct Leased {
    present: Option<(Issued, LeaseHold)>,
    failure: Option<SecretsError>,
    expired: bool,
    reported: bool,
}

impl Leased {
    /// Whether anything was heard yet.
    pub(crate) fn has_reported(&self) -> bool {
        self.reported
    }

    /// Whether nothing could be had of Vault when something was due.
    pub(crate) fn meets_an_outage(&self) -> bool {
        let failure = self.failure.as_ref().and_then(SecretsError::failure);
        failure.is_some_and(VaultFailure::is_outage)
    }

    /// Whether those that are served were refused where they are used; former ones do not count.
    pub(crate) fn is_refused(&self) -> bool {
        let present = self.present.as_ref();
        present.is_some_and(|(_, hold)| hold.is_refused())
    }

    pub(crate) fn hear(
        &mut self,
        news: RotationEvent,
        role: Option<&DatabaseRole>,
        feed: &SecretFeed,
    ) {
        let instruments = feed.instruments();
        self.reported = true;
        match news {
            RotationEvent::Issued(issued) => {
                let report = role.map(|role| Report {
                    feed: feed.clone(),
                    secret: role.name,
                    key: role.password.clone(),
                });
                if let Some(role) = role {
                    instruments.ends_at(role.name, issued.clock.horizon());
                }
                let hold = LeaseHold::new(Arc::clone(&issued.lease), report);
                self.present = Some((issued, hold));
                self.failure = None;
                self.expired = false;
            }
            RotationEvent::Kept(deadline) => {
                if let Some((role, deadline)) = role.zip(deadline) {
                    instruments.ends_at(role.name, deadline);
                }
                self.failure = None;
            }
            RotationEvent::Failed(error) => {
                if let (Some(role), SecretsError::Issue { .. }) = (role, &error) {
                    instruments.rotated(role.name, Rotated::Failed);
                }
                self.failure = Some(error);
            }
            RotationEvent::Expired => {
                let cause = self.failure.as_ref();
                error!(
                    error = cause.map(|cause| display(dotmac_causes::Chain(cause))),
                    "the lease of the database's credentials has ended and Vault issued no others"
                );
                self.present = None;
                self.expired = true;
            }
        }
    }

    /// Adds what there is to `loaded`, and what there should be to its failures.
    pub(crate) fn join(&self, loaded: &mut Loaded, role: &DatabaseRole) {
        if let Some((issued, hold)) = &self.present {
            let store = &mut loaded.store;
            store.insert_leased(&role.username, issued.username.clone(), hold);
            store.insert_leased(&role.password, issued.password.clone(), hold);
        }
        let key = Some(role.password.clone());
        if self.expired {
            for key in [&role.username, &role.password] {
                loaded.store.mark_absent(key, reason::LEASE_EXPIRED);
            }
            let first = loaded.failures.first().map(|failed| &failed.error);
            let cause = self.failure.as_ref().or(first);
            let error = SecretsError::LeaseExpired {
                role: role.role.clone(),
                source: cause.and_then(SecretsError::failure).cloned(),
            };
            loaded.failures.insert(0, Failed { key, error });
        } else if let Some(error) = self.failure.clone() {
            loaded.failures.push(Failed { key, error });
        }
    }
}
