//! How many files and sockets this process may have open, and how many of them connections may take.
//!
//! Where connections take all of them, nothing else can be opened: no database file, no connection to
//! Vault or the collector, no probe answered. So the limit is as high as the system allows, and a part
//! of it is kept back.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the management listener, kept back for it where there is one.
pub(crate) const MANAGEMENT: usize = 64;

/// Kept back for what does not depend on the settings: runtimes, log, Vault, collector, admin socket.
const RESERVE: usize = 64;
/// Kept back for each worker: its poller, its timers, files that a handler opens.
const EACH_WORKER: usize = 4;
/// Kept back for each database connection: SQLite has the file, its log and its index open.
const EACH_DATABASE_CONNECTION: usize = 4;

/// The reserve of descriptors for all but the connections of clients and of the database.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Consumers {
    /// Connections of the management listener.
    pub(crate) management: usize,
    /// HTTP workers.
    pub(crate) workers: usize,
    /// Files and sockets of calls to the outside.
    pub(crate) egress: usize,
}

/// The HTTP connections that the limit on open files allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConnectionBudget {
    /// The limit; `None` if there is none.
    limit: Option<usize>,
    /// The connections that are configured.
    wanted: usize,
    /// Reserved regardless of the database's needs.
    reserve: usize,
}

/// Raises the soft limit to the hard one, which is what the administrator allows; the soft one of many
/// shells and containers is 1024, for the sake of programs that cannot count further. Returns the limit now
/// in force; `None` if there is none. If the system does not raise it, the program logs a `WARN` line.
pub(crate) fn raise() -> Option<usize> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    let limit = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, limit = current, "the limit on open files cannot be raised");
            current
        }
    };
    limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX))
}

impl ConnectionBudget {
    /// Where `wanted` connections are configured and `limit` files may be open, if there is a limit.
    pub(crate) fn new(wanted: usize, limit: Option<usize>, consumers: Consumers) -> Self {
        let Consumers {
            management,
            workers,
            egress,
        } = consumers;
        let workers = workers.saturating_mul(EACH_WORKER);
        let others = management.saturating_add(workers).saturating_add(egress);
        Self {
            limit,
            wanted,
            reserve: RESERVE.saturating_add(others),
        }
    }

    /// The limit of HTTP connections for that number of database connections. However low the limit is, a quarter of it
    /// is theirs, so that clients are answered.
    pub(crate) fn connections(&self, database_connections: usize) -> usize {
        let Some(limit) = self.limit else {
            return self.wanted;
        };
        let database = database_connections.saturating_mul(EACH_DATABASE_CONNECTION);
        let reserve = self.reserve.saturating_add(database);
        let most = limit.saturating_sub(reserve).max(limit / 4).max(1);
        most.min(self.wanted)
    }

    /// Logs a `WARN` line if `connections` is fewer than are configured.
    pub(crate) fn report(&self, connections: usize) {
        let Self { limit, wanted, .. } = *self;
        if connections < wanted {
            tracing::warn!(
                limit,
                connections,
                configured = wanted,
                "the limit on open files allows for {connections} HTTP connections, not {wanted}: raise it \
                 (`LimitNOFILE`, `ulimit -Hn`), or lower DOTMAC_HTTP_MAX_CONNECTIONS"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_for_the_rest() {
        let workers = |workers| Consumers {
            workers,
            ..Consumers::default()
        };
        let all = Consumers {
            management: 64,
            workers: 2,
            egress: 288,
        };
        for (wanted, limit, consumers, database_connections, expected) in [
            (25_000, Some(262_144), workers(8), 10, 25_000),
            (25_000, Some(1024), workers(2), 10, 1024 - 64 - 8 - 40),
            (25_000, Some(1024), workers(2), 100, 1024 - 64 - 8 - 400),
            (25_000, Some(1024), all, 10, 1024 - 64 - 8 - 40 - 64 - 288),
            (100, Some(1024), workers(2), 10, 100),
            (25_000, Some(64), workers(2), 10, 16),
            (25_000, Some(1024), workers(2), usize::MAX, 256),
            (25_000, Some(1), workers(2), 10, 1),
            (25_000, None, all, 1000, 25_000),
        ] {
            let budget = ConnectionBudget::new(wanted, limit, consumers);
            let connections = budget.connections(database_connections);
            assert_eq!(connections, expected, "{budget:?} {database_connections}");
        }
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise();
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(limit, now.maximum.map(|limit| limit as usize));
    }
}
