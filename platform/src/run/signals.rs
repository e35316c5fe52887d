//! Signals, on a thread of their own: a process whose main thread is stuck can still be ended.

use std::{
    io,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc,
};

use super::deadline::Deadline;
use crate::Exit;

/// The requests of signals. Listening begins before the settings are read.
pub(crate) struct Signals {
    /// The first SIGTERM or SIGINT.
    pub(super) stop: mpsc::Receiver<StopRequest>,
    /// SIGHUP. Further ones are one until it is received: each reads the newest settings.
    pub(super) reload: mpsc::Receiver<()>,
    /// How long a stop may take; not known before the settings are.
    stop_timeout: Arc<OnceLock<Duration>>,
}

/// A stop that a signal asks for. Its time runs since the signal.
pub(super) struct StopRequest {
    /// The signal's name.
    pub(super) signal: &'static str,
    pub(super) deadline: Deadline,
}

impl Signals {
    /// Starts to listen. Until [`begin`](Self::begin) a signal to stop ends the process with 0: there is
    /// nothing to stop yet. A second one always ends it at once, with 130.
    ///
    /// # Errors
    ///
    /// The operating system refused a thread or a handler.
    pub(crate) fn listen() -> io::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let (stops, stop) = mpsc::channel(1);
        let (reloads, reload) = mpsc::channel(1);
        let stop_timeout = Arc::new(OnceLock::new());
        let relay = {
            let _inside = runtime.enter();
            Relay {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
                hangup: signal(SignalKind::hangup())?,
                stops,
                reloads,
                stop_timeout: Arc::clone(&stop_timeout),
            }
        };
        // Not joined: it waits for signals until the process ends.
        std::thread::Builder::new()
            .name("signals".into())
            .spawn(move || runtime.block_on(relay.run()))?;
        Ok(Self {
            stop,
            reload,
            stop_timeout,
        })
    }

    /// From now on a stop is an orderly one that takes `stop_timeout` at most.
    pub(super) fn begin(&self, stop_timeout: Duration) {
        // It is set only here.
        self.stop_timeout.set(stop_timeout).ok();
    }
}

/// Passes signals on and never waits for their receivers.
struct Relay {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    stops: mpsc::Sender<StopRequest>,
    reloads: mpsc::Sender<()>,
    stop_timeout: Arc<OnceLock<Duration>>,
}

impl Relay {
    async fn run(mut self) {
        let mut stopping = false;
        loop {
            let signal = tokio::select! {
                Some(()) = self.terminate.recv() => "SIGTERM",
                Some(()) = self.interrupt.recv() => "SIGINT",
                Some(()) = self.hangup.recv() => {
                    // Full where one is to come already, which will see the newest settings.
                    self.reloads.try_send(()).ok();
                    continue;
                }
            };
            if std::mem::replace(&mut stopping, true) {
                tracing::warn!(signal, "second signal: stopping at once");
                Exit::Interrupted.now();
            }
            match self.stop_timeout.get() {
                Some(&total) => {
                    let deadline = Deadline::set(total);
                    // There is room for the first, and no other is sent.
                    self.stops.try_send(StopRequest { signal, deadline }).ok();
                }
                None => {
                    eprintln!("stopping: {signal} before the start");
                    Exit::Success.now();
                }
            }
        }
    }
}
