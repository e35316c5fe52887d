//! The last warning or error of each component that names a cause, kept for `dotmac why`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use dotmac_supervision::current_child;
use tracing::{Level, Metadata};

use super::{
    fields::{Fields, Value},
    line,
};

/// Largest number of components with an error kept: a field of an event may name anything.
const COMPONENTS: usize = 256;

/// Longest text kept, in bytes.
const TEXT_LIMIT: usize = 1024;

/// An event names a cause if it has one of these fields.
const CAUSES: [&str; 4] = ["error", "reason", "cause", "panic.message"];

/// Lines about changes of states, which repeat what `/ready` shows and have no error.
const STATE_CHANGES: &str = "dotmac_supervision::supervisor::report";

/// A warning or an error that a component logged, with its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedError {
    /// When it was logged.
    pub at: SystemTime,
    /// The message with the error and its causes, on one line of at most 1 KiB.
    pub text: String,
}

/// The last error of each component. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastErrors(Arc<Mutex<BTreeMap<String, LoggedError>>>);

impl LastErrors {
    /// Keeps the event if it is a warning or an error of a component and names a cause. The first of `scopes` are its own fields,
    /// the others those of the spans around it.
    pub(crate) fn note(&self, metadata: &Metadata<'_>, scopes: &[&Fields]) {
        let Some((fields, spans)) = scopes.split_first() else {
            return;
        };
        // From the most severe to the least.
        if *metadata.level() > Level::WARN || metadata.target() == STATE_CHANGES {
            return;
        }
        if !CAUSES.iter().any(|name| fields.get(name).is_some()) {
            return;
        }
        let Some(component) = component(metadata.target(), fields, spans) else {
            return;
        };
        let error = LoggedError {
            at: SystemTime::now(),
            text: text(fields),
        };
        let mut last_errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if last_errors.len() < COMPONENTS || last_errors.contains_key(component) {
            last_errors.insert(component.to_owned(), error);
        }
    }

    /// The last error of `component`.
    pub(crate) fn of(&self, component: &str) -> Option<LoggedError> {
        let last_errors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last_errors.get(component).cloned()
    }
}

/// The component that the event names, on whose thread or in whose run it was logged, or whose crate logged it.
fn component<'f>(target: &'f str, fields: &'f Fields, spans: &[&'f Fields]) -> Option<&'f str> {
    let of_thread: Option<&str> = current_child();
    let of_run = || spans.iter().find_map(|fields| named(fields));
    let of_crate = || target.strip_prefix("dotmac_")?.split("::").next();
    named(fields)
        .or(of_thread)
        .or_else(of_run)
        .or_else(of_crate)
}

fn named(fields: &Fields) -> Option<&str> {
    match fields.get("actor.name") {
        Some(Value::Text(name)) => Some(name),
        _ => None,
    }
}

fn text(fields: &Fields) -> String {
    let of = |name: &str| match fields.get(name) {
        Some(Value::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    let mut text = of("message").unwrap_or_default().to_owned();
    if let Some(error) = of("error").filter(|error| !text.contains(error)) {
        text.push_str(": ");
        text.push_str(error);
    }
    let mut escaped = Vec::with_capacity(text.len());
    line::escape(&text, &mut escaped);
    let mut escaped = String::from_utf8(escaped).unwrap_or_default();
    if escaped.len() > TEXT_LIMIT {
        escaped.truncate(escaped.floor_char_boundary(TEXT_LIMIT - '…'.len_utf8()));
        escaped.push('…');
    }
    escaped
}

#[cfg(test)]
mod tests {
    use tracing::{error, info, warn};
    use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

    use super::*;

    impl<S: tracing::Subscriber> Layer<S> for LastErrors {
        fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
            let mut fields = Fields::default();
            event.record(&mut fields);
            self.note(event.metadata(), &[&fields]);
        }
    }

    #[test]
    fn the_last_error_of_a_component_is_kept_with_its_cause_on_one_short_line() {
        let last_errors = LastErrors::default();
        let subscriber = tracing_subscriber::registry().with(last_errors.clone());
        tracing::subscriber::with_default(subscriber, || {
            warn!(target: "dotmac_db::actor", error = "refused", "the database is away");
            warn!(target: "dotmac_db::handle", duration_ms = 700, "slow database work");
            info!(target: "dotmac_db::actor", error = "none", "the database is back");
            error!(
                actor.name = "chaos",
                cause = "panic",
                "restarting: {}\n{}",
                "x".repeat(2000),
                "y"
            );
            warn!(target: STATE_CHANGES, { actor.name = "chaos", reason = "panicked" }, "chaos is restarting");
            warn!(target: "elsewhere", error = "of nobody", "lost");
            for number in 0..2 * COMPONENTS {
                let name = format!("n{number}");
                warn!(actor.name = name, reason = "many", "too many");
            }
        });
        let text = |name: &str| last_errors.of(name).map(|error| error.text);
        assert_eq!(text("db").as_deref(), Some("the database is away: refused"));
        let chaos = text("chaos").unwrap_or_default();
        assert!(
            chaos.starts_with("restarting: xxx") && chaos.len() <= TEXT_LIMIT,
            "{chaos}"
        );
        assert_eq!(text("elsewhere"), None);
        assert_eq!(text(&format!("n{}", 2 * COMPONENTS - 1)), None);
    }
}
