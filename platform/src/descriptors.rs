//! How many files and sockets this process may have open, and how many of them connections may take.
//!
//! Where connections take all of them, nothing else can be opened: no database file, no connection to
//! Vault or the collector, no probe answered. So the limit is as high as the system allows, and a part
//! of it is kept back.

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Connections of the management listener, kept back for it where there is one.
pub(crate) const MANAGEMENT: usize = 64;

/// Kept back for what does not depend on the settings: runtimes, log, Vault, collector, admin socket.
const RESERVE: usize = 64;
/// Kept back for each worker: its poller, its timers, files that a handler opens.
const EACH_WORKER: usize = 4;
/// Kept back for each database connection: SQLite has the file, its log and its index open.
const EACH_DATABASE_CONNECTION: usize = 4;

/// Raises the soft limit to the hard one, which is what the administrator allows; the soft one of many
/// shells and containers is 1024, for the sake of programs that cannot count further. Returns the limit now
/// in force; `None` if there is none.
///
/// # Errors
///
/// What the system says. The limit is as it was then.
pub(crate) fn raise() -> io::Result<Option<usize>> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        let raised = Rlimit {
            current: maximum,
            maximum,
        };
        setrlimit(Resource::Nofile, raised)?;
        tracing::debug!(
            former = current,
            limit = maximum,
            "raised the limit on open files"
        );
    }
    Ok(maximum.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX)))
}

/// How many connections there may be where `wanted` are configured and `limit` files may be open, `management` of them
/// by the management listener; a `WARN` line if that is fewer.
pub(crate) fn connections(
    wanted: usize,
    limit: usize,
    management: usize,
    workers: usize,
    database_connections: usize,
) -> usize {
    let reserve = RESERVE
        + management
        + EACH_WORKER * workers
        + EACH_DATABASE_CONNECTION * database_connections;
    // However low the limit is, somebody is to be answered.
    let most = limit.saturating_sub(reserve).max(limit / 4).max(1);
    if most < wanted {
        tracing::warn!(
            limit,
            reserve = limit - most,
            connections = most,
            configured = wanted,
            "the limit on open files allows for {most} HTTP connections, not {wanted}: raise it \
             (`LimitNOFILE`, `ulimit -Hn`), or lower DOTMAC_HTTP_MAX_CONNECTIONS"
        );
    }
    most.min(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_a_reserve_for_the_rest() {
        assert_eq!(connections(25_000, 262_144, 0, 8, 10), 25_000);
        assert_eq!(connections(25_000, 1024, 0, 2, 10), 1024 - 64 - 8 - 40);
        assert_eq!(
            connections(25_000, 1024, 64, 2, 10),
            1024 - 64 - 64 - 8 - 40
        );
        assert_eq!(connections(100, 1024, 0, 2, 10), 100);
        assert_eq!(connections(25_000, 64, 0, 2, 10), 16);
        assert_eq!(connections(25_000, 1, 0, 2, 10), 1);
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() -> io::Result<()> {
        let limit = raise()?;
        let now = getrlimit(Resource::Nofile);
        assert_eq!(now.current, now.maximum);
        assert_eq!(limit, now.maximum.map(|limit| limit as usize));
        Ok(())
    }
}
