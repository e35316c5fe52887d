//! The rule: how long a connection may stay in each phase, and how it ends when it stays longer.

use std::time::Duration;

use super::{Config, Cut};

/// How often a worker checks its connections, and so the unit in which it counts time.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// The longest a client may let us wait while others wait to be let in, and at a stop. In ticks: 2 s.
const HURRIED: u64 = 20;

/// The phase of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// The TLS handshake.
    Handshake,
    /// The head of a request: the first one, or one of which a part has come.
    Head,
    /// A request is under way; its body and its handler have their own limits.
    Request,
    /// The next request.
    Idle,
    /// The end, which was announced to the client.
    Closing,
}

/// How a connection is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// In silence, unless a request comes at the last moment.
    Quiet,
    /// With the answer 408.
    Late,
    /// At once, even with requests under way.
    Abort,
}

/// The longest time in each phase, in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    handshake: u64,
    head: u64,
    idle: u64,
    write: u64,
}

impl Limits {
    pub(super) fn of(config: &Config) -> Self {
        Self {
            handshake: ticks(config.tls_handshake_timeout),
            head: ticks(config.header_timeout),
            idle: ticks(config.keep_alive),
            write: ticks(config.write_timeout),
        }
    }
}

fn ticks(time: Duration) -> u64 {
    let ticks = time.as_millis().div_ceil(TICK.as_millis());
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// How one connection is, times in ticks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    pub(super) phase: Phase,
    /// How long it has been in this phase.
    pub(super) waited: u64,
    /// How long the client has taken nothing of what is to be written, if anything is.
    pub(super) stalled: Option<u64>,
}

/// How the server is.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerLoad {
    /// Hardly any connection is left for others.
    pub(super) crowded: bool,
    /// The server is about to stop.
    pub(super) stopping: bool,
}

impl Limits {
    /// How the connection is to end, and which limit ended it; `None` if it may go on.
    pub(super) fn verdict(
        &self,
        seen: Seen,
        situation: ServerLoad,
    ) -> Option<(Ending, Option<Cut>)> {
        let ServerLoad { crowded, stopping } = situation;
        let Seen {
            phase,
            waited,
            stalled,
        } = seen;
        if let Some(stalled) = stalled {
            let hurried = crowded || stopping || phase == Phase::Closing;
            let limit = self.write.min(if hurried { HURRIED } else { u64::MAX });
            return (stalled > limit).then_some((Ending::Abort, Some(Cut::WriteTimeout)));
        }
        // A connection that must hurry is cut to make room for others, not for its own limit.
        let overdue = |limit, cut| match () {
            () if waited > limit => Some(cut),
            () if crowded && waited > HURRIED => Some(Some(Cut::AtLimit)),
            () => None,
        };
        match phase {
            Phase::Request => None,
            Phase::Closing => (waited > HURRIED).then_some((Ending::Abort, None)),
            Phase::Handshake if stopping => Some((Ending::Abort, None)),
            Phase::Head | Phase::Idle if stopping => Some((Ending::Quiet, None)),
            Phase::Handshake => {
                overdue(self.handshake, Some(Cut::HandshakeTimeout)).map(|cut| (Ending::Abort, cut))
            }
            Phase::Head => {
                overdue(self.head, Some(Cut::HeaderTimeout)).map(|cut| (Ending::Late, cut))
            }
            Phase::Idle => overdue(self.idle, None).map(|cut| (Ending::Quiet, cut)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        handshake: 20,
        head: 50,
        idle: 750,
        write: 300,
    };
    const CALM: ServerLoad = ServerLoad {
        crowded: false,
        stopping: false,
    };
    const CROWDED: ServerLoad = ServerLoad {
        crowded: true,
        ..CALM
    };
    const STOPPING: ServerLoad = ServerLoad {
        stopping: true,
        ..CALM
    };

    fn after(phase: Phase, waited: u64, situation: ServerLoad) -> Option<(Ending, Option<Cut>)> {
        let seen = Seen {
            phase,
            waited,
            stalled: None,
        };
        LIMITS.verdict(seen, situation)
    }

    fn stalled(ticks: u64, situation: ServerLoad) -> Option<(Ending, Option<Cut>)> {
        let seen = Seen {
            phase: Phase::Request,
            waited: ticks,
            stalled: Some(ticks),
        };
        LIMITS.verdict(seen, situation)
    }

    #[test]
    fn each_phase_has_its_limit_and_its_ending() {
        for (phase, limit, ending, cut) in [
            (
                Phase::Handshake,
                20,
                Ending::Abort,
                Some(Cut::HandshakeTimeout),
            ),
            (Phase::Head, 50, Ending::Late, Some(Cut::HeaderTimeout)),
            (Phase::Idle, 750, Ending::Quiet, None),
            (Phase::Closing, HURRIED, Ending::Abort, None),
        ] {
            assert_eq!(after(phase, limit, CALM), None, "{phase:?}");
            assert_eq!(
                after(phase, limit + 1, CALM),
                Some((ending, cut)),
                "{phase:?}"
            );
        }
        assert_eq!(after(Phase::Request, u64::MAX, CALM), None);
        assert_eq!(stalled(300, CALM), None);
        let cut = Some((Ending::Abort, Some(Cut::WriteTimeout)));
        assert_eq!(stalled(301, CALM), cut);
    }

    #[test]
    fn in_a_crowd_who_waits_for_the_client_must_hurry() {
        let late = HURRIED + 1;
        let cut = Some(Cut::AtLimit);
        assert_eq!(after(Phase::Idle, HURRIED, CROWDED), None);
        assert_eq!(
            after(Phase::Idle, late, CROWDED),
            Some((Ending::Quiet, cut))
        );
        assert_eq!(after(Phase::Head, late, CROWDED), Some((Ending::Late, cut)));
        assert_eq!(after(Phase::Request, late, CROWDED), None);
        assert!(stalled(late, CROWDED).is_some());
    }

    #[test]
    fn a_stop_waits_for_requests_alone() {
        for phase in [Phase::Head, Phase::Idle] {
            assert_eq!(after(phase, 0, STOPPING), Some((Ending::Quiet, None)));
        }
        let handshake = after(Phase::Handshake, 0, STOPPING);
        assert_eq!(handshake, Some((Ending::Abort, None)));
        assert_eq!(after(Phase::Request, 1000, STOPPING), None);
        assert_eq!(stalled(HURRIED, STOPPING), None);
        assert!(stalled(HURRIED + 1, STOPPING).is_some());
    }

    #[test]
    fn a_limit_is_never_rounded_down() {
        assert_eq!(ticks(Duration::from_millis(1)), 1);
        assert_eq!(ticks(Duration::from_millis(100)), 1);
        assert_eq!(ticks(Duration::from_millis(101)), 2);
    }
}
