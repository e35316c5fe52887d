//! The pool's handling of work that blocks its thread: it names the work, and lets others write before its end.

use std::{
    sync::{Arc, PoisonError},
    time::Duration,
};

use tracing::{error, warn};

use super::{
    Bulkhead, Connections, Pool,
    under_way::{NOTICED_AFTER, UnderWay},
};
use crate::{reason::WORK_BLOCKED, runtime::WORKER_THREADS};

/// When work has run for so long without a break, another thread is woken.
const WOKEN_AFTER: Duration = Duration::from_millis(100);

impl Pool {
    /// The work that is under way.
    pub(crate) fn under_way(&self) -> &UnderWay {
        &self.under_way
    }

    /// Whether work blocks its thread.
    pub(crate) fn has_blocked_work(&self) -> bool {
        !self.under_way.blocked(NOTICED_AFTER).is_empty()
    }

    /// Names work that blocks its thread, and ends it from outside if it is SQLite's only writer and has used up its time. How
    /// many pieces of work block theirs. To be called on a thread that is not one of the database's.
    pub(crate) fn look_for_blocked(self: &Arc<Self>) -> usize {
        if !self.under_way.blocked(WOKEN_AFTER).is_empty() {
            // The thread may have been the one that waits for timers and sockets, while all others sleep until there is work.
            drop(self.runtime.handle().spawn(async {}));
        }
        let blocked = self.under_way.blocked(NOTICED_AFTER);
        let reason = WORK_BLOCKED.as_str();
        for (ticket, since) in &blocked {
            let (name, limit) = (ticket.name(), ticket.limit());
            let keeps_others = self.has_one_writer() && ticket.writes();
            if ticket.is_news() {
                let seconds = since.as_secs();
                if keeps_others {
                    warn!(
                        reason,
                        "{name} has blocked its thread for {seconds} s, and all other writes wait; its transaction is \
                        rolled back after {limit:?}"
                    );
                } else {
                    warn!(
                        reason,
                        "{name} has blocked its thread for {seconds} s, one of {WORKER_THREADS} of the database"
                    );
                }
            }
            if !keeps_others || *since < limit {
                continue;
            }
            let Some(undo) = ticket.end() else { continue };
            error!(
                reason,
                "{name} has blocked its thread for {limit:?}: its transaction was rolled back, and other writes use \
                another connection"
            );
            let (pool, ticket) = (Arc::clone(self), Arc::clone(ticket));
            let ending = self.runtime.handle().spawn_blocking(move || {
                undo();
                ticket.replace(|| {
                    pool.replacements(|count| count.saturating_add(1));
                    ticket.module().iter().for_each(|module| module.replace());
                });
            });
            drop(ending);
        }
        blocked.len()
    }

    /// The work whose connection was replaced, of that module, has ended. To be called before that connection is closed.
    pub(crate) fn drop_replacement(&self, module: Option<&Bulkhead>) {
        self.replacements(|count| count.saturating_sub(1));
        module.iter().for_each(|module| module.drop_replacement());
    }

    /// Changes how many connections there are in place of those that work keeps which blocks.
    fn replacements(&self, change: impl FnOnce(usize) -> usize) {
        let Connections::Sqlite { writer, .. } = &self.connections else {
            return;
        };
        let mut count = self
            .replacements
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *count = change(*count);
        writer.resize(1 + *count);
    }
}
