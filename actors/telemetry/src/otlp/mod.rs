//! Builds the senders and plugs them into the outlets.
//!
//! Building must happen inside the runtime that will drive the connections: the gRPC channel takes
//! the reactor it finds.

mod outlet;
mod pieces;
mod queue;
mod runtime;
mod sender;
mod span_queue;
mod transport;

pub(crate) use outlet::SenderSlot;
pub(crate) use queue::LogQueue;
pub(crate) use span_queue::SpanQueue;
pub(crate) use transport::Transport;

use std::sync::Arc;

use super::{
    config::Destinations,
    error::TelemetryError,
    tally::{Signal, SignalCounters},
};
use runtime::ExportRuntime;
use sender::Sender;

/// The outlets of the signals that are exported.
#[derive(Clone, Debug)]
pub(crate) struct SenderSlots(Vec<SenderSlot>);

/// Senders that are plugged in. Unplugged when dropped, unless [left](Attachment::leave).
#[derive(Debug)]
pub(crate) struct Attachment {
    outlets: SenderSlots,
    runtime: Arc<ExportRuntime>,
    stays: bool,
}

impl SenderSlots {
    /// One for each signal that has a destination.
    pub(crate) fn new(otlp: &Destinations, tallies: &[(Signal, Arc<SignalCounters>)]) -> Self {
        let outlet = |(signal, tally): &(Signal, Arc<SignalCounters>)| {
            let limit = otlp.of(*signal)?.export_timeout;
            Some(SenderSlot::new(*signal, Arc::clone(tally), limit))
        };
        Self(tallies.iter().filter_map(outlet).collect())
    }

    pub(crate) fn of(&self, signal: Signal) -> Option<&SenderSlot> {
        self.each().find(|outlet| outlet.signal() == signal)
    }

    pub(crate) fn each(&self) -> impl Iterator<Item = &SenderSlot> {
        self.0.iter()
    }

    /// Builds a sender for each outlet and plugs it in. Connects to nothing yet.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::Runtime`], [`TelemetryError::Exporter`], and what
    /// [`Config::check`](super::Config::check) would find by now; nothing is attached then.
    pub(crate) fn attach(&self, otlp: &Destinations) -> Result<Attachment, TelemetryError> {
        let runtime = ExportRuntime::start()?;
        let inside = runtime.handle().enter();
        let built = self.each().map(|outlet| sender(outlet, otlp));
        let senders: Vec<Option<Sender>> = built.collect::<Result<_, _>>()?;
        drop(inside);
        for (outlet, sender) in self.each().zip(senders) {
            if let Some(sender) = sender {
                outlet.attach(sender, Arc::clone(&runtime));
            }
        }
        Ok(Attachment {
            outlets: self.clone(),
            runtime,
            stays: false,
        })
    }

    /// Tries the collector once for every signal, without waiting for the results.
    pub(crate) fn probe(&self) {
        self.each().for_each(SenderSlot::probe);
    }
}

/// A sender for an outlet, if its signal has a destination.
fn sender(outlet: &SenderSlot, otlp: &Destinations) -> Result<Option<Sender>, TelemetryError> {
    let signal = outlet.signal();
    let Some(otlp) = otlp.of(signal) else {
        return Ok(None);
    };
    let sender = Transport::new(otlp)?.sender(signal, outlet.tally());
    sender.map(Some).map_err(|error| match error {
        BuildError::Transport(error) => error,
        error => TelemetryError::Exporter {
            signal: signal.as_str(),
            // It quotes the endpoint as it was given, password included.
            problem: error
                .to_string()
                .replace(&otlp.endpoint, &otlp.public_endpoint()),
        },
    })
}

impl Attachment {
    /// Keeps the senders in place beyond the owner's life, so that what is logged later can still be
    /// flushed.
    pub(crate) fn leave(&mut self) {
        self.stays = true;
    }

    pub(crate) fn runtime(&self) -> &Arc<ExportRuntime> {
        &self.runtime
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if !self.stays {
            let outlets = self.outlets.each();
            outlets.for_each(|outlet| outlet.detach(&self.runtime));
        }
    }
}

/// Why a sender cannot be built, before it is known whose.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    #[error(transparent)]
    Endpoint(#[from] tonic::transport::Error),
    #[error("{0}")]
    Url(String),
    #[error(transparent)]
    Transport(#[from] TelemetryError),
}
