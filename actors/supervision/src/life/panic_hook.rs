//! Charges a panic to the actor on whose thread it happened, before the unwinding starts.
//!
//! The hook is the only place that sees a panic in a task that actix spawned for the actor
//! (`ResponseFuture`, `actix_rt::spawn`): such a panic unwinds into tokio and leaves no other trace.

use std::{
    any::Any,
    backtrace::{Backtrace, BacktraceStatus},
    cell::RefCell,
    panic::PanicHookInfo,
    sync::Once,
};

use super::{Lifeline, wire::Notice};

thread_local! {
    /// The life that owns this thread.
    static OWNER: RefCell<Option<Lifeline>> = const { RefCell::new(None) };
}

/// Makes `life` answer for every panic on this thread, or none.
pub(crate) fn own_this_thread(life: Option<Lifeline>) {
    OWNER.set(life);
}

/// The name of the child whose code runs on this thread now; `None` if it is none's.
#[must_use]
pub fn current_child() -> Option<&'static str> {
    owner().as_ref().map(Lifeline::name)
}

/// Answers also while this thread ends, and inside the borrow: a panic then must not become a second one.
fn owner() -> Option<Lifeline> {
    OWNER
        .try_with(|owner| owner.try_borrow().ok().and_then(|owner| owner.clone()))
        .ok()
        .flatten()
}

/// Installs the hook that logs every panic of the process as one line, and charges it to the actor it
/// belongs to. Called by [`SupervisionTree::start`](crate::SupervisionTree::start); call it earlier to
/// have panics before that logged too. Further calls do nothing.
pub fn install_panic_hook() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            on_panic(info);
            // A program that logs nothing must not lose its panics to us.
            if !tracing::enabled!(tracing::Level::ERROR) {
                former(info);
            }
        }));
    });
}

fn on_panic(info: &PanicHookInfo<'_>) {
    let message = panic_message(info.payload());
    let place = info
        .location()
        .map_or_else(|| "unknown place".into(), ToString::to_string);
    let owner = owner();
    if let Some(life) = &owner {
        life.end(Notice::Panicked(format!("{message} at {place}")));
    }
    // Formatting a backtrace takes milliseconds, so only where RUST_BACKTRACE asks for it.
    let backtrace = Backtrace::capture();
    let backtrace =
        (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(
        actor.name = owner.as_ref().map(Lifeline::name),
        panic.message = message,
        panic.place = place,
        thread = std::thread::current().name(),
        backtrace,
        "panicked: {message}"
    );
}

/// The text that a panic was raised with, from its payload.
#[must_use]
pub fn panic_message(payload: &(dyn Any + Send)) -> &str {
    payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("a panic without a text")
}
