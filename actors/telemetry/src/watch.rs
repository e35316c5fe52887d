//! Judges from the tallies whether the collector takes what it is sent. Pure: no clock, no logging.

use std::sync::Arc;

use super::{
    otlp::SenderSlots,
    tally::{Failure, Signal, SignalCounters},
};

/// Failures in a row after which a signal that has worked before counts as in trouble: one lost
/// batch is not yet news.
const TOLERATED: u32 = 2;

/// The fault of the export of one signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ExportFault {
    pub(super) signal: Signal,
    pub(super) failure: Failure,
}

/// The tallies of the exported signals, and their successes when the watch began.
#[derive(Debug, Default)]
pub(super) struct Watch(Vec<(Signal, Arc<SignalCounters>, u64)>);

impl Watch {
    pub(super) fn begin(outlets: &SenderSlots) -> Self {
        let watched = outlets.each().map(|outlet| {
            let tally = Arc::clone(outlet.tally());
            let successes = tally.successes();
            (outlet.signal(), tally, successes)
        });
        Self(watched.collect())
    }

    /// The first signal in trouble: it failed several times in a row, has not worked once since the
    /// watch began, or was asked for a pause.
    pub(super) fn trouble(&self) -> Option<ExportFault> {
        self.0.iter().find_map(|(signal, tally, before)| {
            let failures = tally.failures_in_row();
            let paused = !tally.pause().is_zero();
            let tolerated = if tally.successes() == *before || paused {
                0
            } else {
                TOLERATED
            };
            let failure = (failures > tolerated)
                .then(|| tally.last_error())
                .flatten()?;
            Some(ExportFault {
                signal: *signal,
                failure,
            })
        })
    }

    /// Whether the last export of a signal failed for want of an answer: whether there is trouble shows at
    /// a further try. Not so with one that was refused, as an empty one might not be.
    pub(super) fn has_missed_an_answer(&self) -> bool {
        self.0.iter().any(|(_, tally, _)| {
            let failure = tally.last_error().filter(|_| tally.failures_in_row() > 0);
            failure.is_some_and(|failure| match failure {
                Failure::Timeout => true,
                Failure::Throttled(_) => false,
                Failure::Export(_) => !failure.is_refusal(),
            })
        })
    }

    /// Items lost so far over all signals.
    pub(super) fn lost(&self) -> u64 {
        self.0.iter().map(|(_, tally, _)| tally.lost_total()).sum()
    }
}

/// Words by which the exporters' errors tell that an answer came too late.
const TOO_LATE: [&str; 3] = ["Timeout expired", "DeadlineExceeded", "operation timed out"];

/// Words by which they tell that the collector wants a pause.
const TOO_MUCH: [&str; 2] = ["with status code: 429", "ResourceExhausted"];

/// Words of rustls for a peer that is not to be trusted, does not trust us, or does not speak TLS.
const NOT_TRUSTED: [&str; 5] = [
    "certificate",
    "fatal alert",
    "TLS",
    "InvalidContentType",
    "corrupt message",
];

/// Words by which they tell that the peer hung up on a connection that there was.
const HUNG_UP: [&str; 5] = [
    "broken pipe",
    "Broken pipe",
    "reset by peer",
    "connection closed",
    "unexpected EOF",
];

impl Failure {
    /// The classification of a sender's error; `held` is whether an answer requested a pause.
    pub(super) fn of(text: String, held: bool) -> Self {
        let says = |words: &[&str]| words.iter().any(|word| text.contains(word));
        if held || says(&TOO_MUCH) {
            Self::Throttled(text)
        } else if says(&TOO_LATE) {
            Self::Timeout
        } else {
            Self::Export(text)
        }
    }

    /// Whether no trust could be established between us and the collector.
    pub(super) fn is_tls(&self) -> bool {
        let Self::Export(text) = self else {
            return false;
        };
        NOT_TRUSTED.iter().any(|word| text.contains(word))
    }

    /// Whether the collector hung up without a word. Behind TLS 1.3 that is how a client learns that its
    /// certificate is missing or refused, unless it reads the alert before it writes on.
    pub(super) fn is_hang_up(&self) -> bool {
        let Self::Export(text) = self else {
            return false;
        };
        HUNG_UP.iter().any(|word| text.contains(word))
    }

    /// Whether a server answered and refused, as opposed to no server.
    ///
    /// An HTTP status means an answer; so does a gRPC status, except the ones that the client itself
    /// makes of a broken connection.
    pub(super) fn is_refusal(&self) -> bool {
        let Self::Export(text) = self else {
            return false;
        };
        let by_http = text.contains("with status code");
        let by_grpc = text.contains("gRPC code: ")
            && !["Unavailable", "Unknown", "DeadlineExceeded", "Cancelled"]
                .iter()
                .any(|code| text.contains(code));
        by_http || by_grpc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched() -> (Arc<SignalCounters>, Watch) {
        let tally = Arc::new(SignalCounters::default());
        (Arc::clone(&tally), Watch(vec![(Signal::Logs, tally, 0)]))
    }

    #[test]
    fn a_collector_that_never_answered_is_noticed_at_once_and_one_that_did_after_several_failures()
    {
        let (tally, watch) = watched();
        assert_eq!(watch.trouble(), None);
        tally.failed(1, Failure::Timeout);
        assert_eq!(
            watch.trouble(),
            Some(ExportFault {
                signal: Signal::Logs,
                failure: Failure::Timeout
            })
        );
        tally.succeeded(1);
        assert_eq!(watch.trouble(), None);
        tally.failed(5, Failure::Timeout);
        tally.failed(5, Failure::Timeout);
        assert_eq!(watch.trouble(), None);
        tally.failed(5, Failure::Timeout);
        assert!(watch.trouble().is_some());
        assert_eq!(watch.lost(), 16);
    }

    #[test]
    fn a_missing_answer_asks_for_a_further_try_and_a_refusal_does_not() {
        let (tally, watch) = watched();
        assert!(!watch.has_missed_an_answer());
        tally.failed(1, Failure::Timeout);
        assert!(watch.has_missed_an_answer());
        tally.failed(1, Failure::Export("with status code: 400".to_owned()));
        assert!(!watch.has_missed_an_answer());
        tally.failed(1, Failure::Export("Connection refused".to_owned()));
        assert!(watch.has_missed_an_answer());
        tally.succeeded(1);
        assert!(!watch.has_missed_an_answer());
    }

    #[test]
    fn a_refusal_is_distinguished_from_an_absence() {
        let failed = |text: &str| Failure::Export(text.to_owned());
        assert!(failed("export failed with status code: 401").is_refusal());
        assert!(failed("export failed with gRPC code: Unauthenticated").is_refusal());
        assert!(!failed("error sending request: connection refused").is_refusal());
        assert!(!failed("export failed with gRPC code: Unavailable: connect error").is_refusal());
        assert!(!Failure::Timeout.is_refusal());
    }

    #[test]
    fn a_peer_that_hangs_up_is_distinguished_from_one_that_is_away() {
        let failed = |text: &str| Failure::Export(text.to_owned());
        let broken = "gRPC code: Unknown: transport error: connection error: stream closed because of a broken pipe";
        assert!(failed(broken).is_hang_up());
        assert!(!failed("Connection refused (os error 111)").is_hang_up());
        assert!(!Failure::Timeout.is_hang_up());
    }

    #[test]
    fn what_an_error_stands_for_is_read_off_its_words_and_the_pause() {
        let of = |text: &str, held| Failure::of(text.to_owned(), held);
        let distrust = "error sending request: invalid peer certificate: UnknownIssuer";
        assert!(of(distrust, false).is_tls());
        assert!(!of("error sending request: Connection refused", false).is_tls());
        let late = "error sending request: operation timed out";
        assert_eq!(of(late, false), Failure::Timeout);
        let asked = "export failed with status code: 503";
        assert!(matches!(of(asked, true), Failure::Throttled(_)));
        assert!(of(asked, false).is_refusal());
        let slow = "export failed with gRPC code: Cancelled: Timeout expired";
        assert_eq!(of(slow, false), Failure::Timeout);
    }
}
