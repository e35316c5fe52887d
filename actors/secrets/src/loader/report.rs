//! Log lines about reads and changes. Names only, never values.

use tracing::{debug, error, info, warn};

use super::{Failed, load_state::LogEntry};
use crate::Change;

/// One line when something is new about the readings of the actor `name`, which `serves` already or
/// does not.
pub(crate) fn reading(name: &str, news: LogEntry, failures: &[Failed], serves: bool) {
    match (news, failures.first()) {
        (LogEntry::Loaded, _) => info!(actor.name = name, "loaded the secrets from Vault"),
        (LogEntry::Recovered, _) => info!(
            actor.name = name,
            "Vault is available again; secrets are up to date"
        ),
        (LogEntry::Failed, Some(first)) => {
            let also = failures.iter().skip(1);
            let also: Vec<_> = also.filter_map(|it| it.key.as_deref()).collect();
            let reason = first.error.reason().as_str();
            if serves {
                warn!(actor.name = name, reason, secrets.also = ?also, "secrets are not up to date; keeping the known \
                    values: {first}");
            } else {
                error!(actor.name = name, reason, secrets.also = ?also, "secrets are not loaded; retrying: {first}");
            }
        }
        (LogEntry::None, Some(first)) => debug!(actor.name = name, "still failing: {first}"),
        (LogEntry::Failed | LogEntry::None, None) => {}
    }
}

/// One line for a key: its version if the server counts them, who has the new value, and who waits for a restart.
pub(crate) fn change(name: &str, change: &Change) {
    let Change {
        key,
        version,
        taken_by,
        waiting,
    } = change;
    if waiting.is_empty() {
        info!(actor.name = name, key, secrets.version = version, result = "applied", secrets.taken_by = ?taken_by, "the secret `{key}` has changed");
    } else {
        warn!(actor.name = name, key, secrets.version = version, result = "needs_restart", secrets.waiting = ?waiting, "the secret `{key}` has changed and needs a restart of {waiting:?}");
    }
}

/// One line about default paths that no policy covers.
pub(crate) fn unpermitted(name: &str, keys: &[String]) {
    warn!(
        actor.name = name,
        secrets.keys = ?keys,
        "no permission on the default paths of some secrets: they count as not set. Extend the policy, or set them"
    );
}
