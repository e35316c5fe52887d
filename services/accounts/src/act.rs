//! What was done, at one place for each rule that changes something, as a line of the program's log. The audit log does not
//! have it yet.

use dotmac_platform::db::Tx;
use uuid::Uuid;

/// One act: an action on a resource, and what came of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Act {
    /// As in the OWASP logging vocabulary: `authn_login_success`.
    pub(crate) action: &'static str,
    /// What kind of thing it was done to: `user`.
    pub(crate) kind: &'static str,
    /// Which one.
    pub(crate) id: Uuid,
    /// What came of it.
    pub(crate) outcome: Outcome,
}

/// What came of an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Success,
    Failure,
}

impl Act {
    pub(crate) const fn success(action: &'static str, kind: &'static str, id: Uuid) -> Self {
        Self {
            action,
            kind,
            id,
            outcome: Outcome::Success,
        }
    }

    pub(crate) const fn failure(action: &'static str, kind: &'static str, id: Uuid) -> Self {
        Self {
            outcome: Outcome::Failure,
            ..Self::success(action, kind, id)
        }
    }

    /// Writes the act down, once what it stands for is committed.
    pub(crate) fn record(self, tx: &mut Tx) {
        let actor = tx.actor().map(|actor| actor.to_string());
        tx.after_commit(move || {
            tracing::info!(
                act.action = self.action,
                act.resource = self.kind,
                act.resource_id = %self.id,
                act.outcome = match self.outcome {
                    Outcome::Success => "success",
                    Outcome::Failure => "failure",
                },
                act.actor = actor,
                "{}",
                self.action
            );
        });
    }
}
