//! Signals, on a thread of their own: a process whose main thread is stuck can still be ended.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use crate::Exit;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// SIGTERM or SIGINT, by name.
    Stop(&'static str),
    /// SIGHUP.
    Reload,
}

/// Starts to listen. A second signal to stop ends the process at once, with 130.
///
/// # Errors
///
/// The operating system refused a thread or a handler.
pub(super) fn listen() -> io::Result<mpsc::Receiver<Asked>> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (terminate, interrupt, hangup) = {
        let _inside = runtime.enter();
        (
            signal(SignalKind::terminate())?,
            signal(SignalKind::interrupt())?,
            signal(SignalKind::hangup())?,
        )
    };
    let (asks, asked) = mpsc::channel(8);
    // Not joined: it waits for signals until the process ends.
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            runtime.block_on(pass_on(terminate, interrupt, hangup, asks));
        })?;
    Ok(asked)
}

async fn pass_on(
    mut terminate: tokio::signal::unix::Signal,
    mut interrupt: tokio::signal::unix::Signal,
    mut hangup: tokio::signal::unix::Signal,
    asks: mpsc::Sender<Asked>,
) {
    let mut stopping = false;
    loop {
        let ask = tokio::select! {
            Some(()) = terminate.recv() => Asked::Stop("SIGTERM"),
            Some(()) = interrupt.recv() => Asked::Stop("SIGINT"),
            Some(()) = hangup.recv() => Asked::Reload,
        };
        if let Asked::Stop(name) = ask {
            if stopping {
                tracing::warn!(signal = name, "second signal: stopping at once");
                Exit::Interrupted.now();
            }
            stopping = true;
        }
        // Full only if reloads pile up behind one that is under way, which will see the newest settings.
        if let (Err(_), Asked::Stop(_)) = (asks.try_send(ask), ask) {
            asks.send(ask).await.ok();
        }
    }
}
