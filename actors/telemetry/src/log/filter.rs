//! Decides what reaches which output.
//!
//! Logs follow the operator's directives, which change at run time; traces do not, so that turning
//! the log level up or down never changes a trace. What carries the export itself (`hyper`, `h2`,
//! `tonic`, ...) is kept out of everything that is exported, or the exporter would feed itself.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use dotmac_supervision::{EVIDENCE, EXIT};
use tracing::{Event, Level, Metadata, Subscriber, span, subscriber::Interest};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterFn, LevelFilter, filter_fn},
    layer::{Context, Filter},
    reload,
};

use super::limit::ACCESS;
use crate::error::TelemetryError;

/// Crates whose spans and events never enter a trace or an exported log.
const INTERNAL: [&str; 7] = [
    "opentelemetry",
    "hyper",
    "h2",
    "tonic",
    "tower",
    "reqwest",
    "rustls",
];

/// Quiet unless named by the operator. Export trouble has its own line, one per change (see
/// `actor`), where the SDK would write one for each batch; input of a client that is not HTTP must not cause errors
/// here; and our own lines replace actix's about start and stop, and those about the connections of a NATS client.
const QUIET: &str = "opentelemetry=off,actix_http=off,actix_server=warn,async_nats=off";

/// Filter of the log: the operator's directives for events, and every span that gives them
/// context.
#[derive(Debug)]
pub(crate) struct LogFilter {
    directives: EnvFilter,
    /// Whether the directives ask for spans, as `[request]=debug` does.
    names_spans: bool,
}

impl LogFilter {
    /// Parses `EnvFilter` directives; an empty text means `info`.
    ///
    /// # Errors
    ///
    /// [`TelemetryError::LogFilter`], and [`TelemetryError::LogLevel`] for a lone word that is no
    /// level.
    pub(crate) fn parse(directives: &str) -> Result<Self, TelemetryError> {
        let given = match directives.trim() {
            "" => "info",
            other => other,
        };
        // `EnvFilter` takes a misspelt level for the name of a crate and then logs nothing else.
        let lone_word = !given.contains(['=', ',', ':', '[']);
        if lone_word && given.parse::<LevelFilter>().is_err() {
            return Err(TelemetryError::LogLevel(given.to_owned()));
        }
        let directives = EnvFilter::builder()
            .with_regex(false)
            .parse(format!("{QUIET},{given}"))
            .map_err(|source| TelemetryError::LogFilter {
                directives: given.to_owned(),
                source,
            })?;
        Ok(Self {
            directives,
            names_spans: given.contains('['),
        })
    }
}

/// Whether a span gives log lines their `request_id` and fields: independent of the log level,
/// since a warning must name its request even where `info` is off.
fn is_context(meta: &Metadata<'_>) -> bool {
    meta.is_span() && *meta.level() <= Level::INFO && !is_internal(meta.target())
}

/// An operator who turns the log off still needs the reason of an exit, and evidence that lies outside of the database.
fn is_always_in(meta: &Metadata<'_>) -> bool {
    is_context(meta) || matches!(meta.target(), EXIT | EVIDENCE)
}

fn is_internal(target: &str) -> bool {
    // Asked for each span of each request, so the crate's name is not cut out first.
    INTERNAL.iter().any(|name| {
        target
            .strip_prefix(name)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['_', '-', ':']))
    })
}

/// Filter of the trace layer: spans, and where `events` is set also the events in them, from `INFO`
/// up; but not the access line, which says nothing that its span does not.
pub(crate) fn traces(events: bool) -> FilterFn<impl Fn(&Metadata<'_>) -> bool> {
    filter_fn(move |meta| {
        *meta.level() <= Level::INFO
            && (meta.is_span() || events && meta.target() != ACCESS)
            && !is_internal(meta.target())
    })
    .with_max_level_hint(LevelFilter::INFO)
}

impl<S> Filter<S> for LogFilter {
    fn enabled(&self, meta: &Metadata<'_>, cx: &Context<'_, S>) -> bool {
        is_always_in(meta) || Filter::enabled(&self.directives, meta, cx)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        // Asked even for spans that are always in: the directives note which of them they match.
        let interest = Filter::<S>::callsite_enabled(&self.directives, meta);
        if is_always_in(meta) {
            Interest::always()
        } else {
            interest
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        // `None` means no limit; the spans above need at least `INFO`.
        Filter::<S>::max_level_hint(&self.directives).map(|level| level.max(LevelFilter::INFO))
    }

    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, cx: Context<'_, S>) {
        Filter::on_new_span(&self.directives, attrs, id, cx);
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, cx: Context<'_, S>) {
        Filter::on_record(&self.directives, id, values, cx);
    }

    fn on_enter(&self, id: &span::Id, cx: Context<'_, S>) {
        Filter::on_enter(&self.directives, id, cx);
    }

    fn on_exit(&self, id: &span::Id, cx: Context<'_, S>) {
        Filter::on_exit(&self.directives, id, cx);
    }

    fn on_close(&self, id: span::Id, cx: Context<'_, S>) {
        Filter::on_close(&self.directives, id, cx);
    }
}

/// A [`LogFilter`] in use, for which another can be exchanged.
///
/// It is behind a lock, and every request's span would take that a dozen times only to be let through:
/// spans that give context are always recorded, so the filter is consulted only if the directives name spans.
pub(crate) struct Exchangeable<S> {
    filter: reload::Layer<LogFilter, S>,
    names_spans: Arc<AtomicBool>,
}

/// The exported part of the log: all except lines of the export itself.
pub(crate) struct Exported<L>(pub(crate) L);

impl<S: Subscriber, L: Layer<S>> Layer<S> for Exported<L> {
    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        if !is_internal(event.metadata().target()) {
            self.0.on_event(event, cx);
        }
    }
}

/// A handle that replaces a filter.
pub(crate) type Exchange = Box<dyn Fn(LogFilter) -> Result<(), TelemetryError> + Send + Sync>;

/// Puts `filter` to use.
pub(crate) fn exchangeable<S: Subscriber>(filter: LogFilter) -> (Exchangeable<S>, Exchange) {
    let names_spans = Arc::new(AtomicBool::new(filter.names_spans));
    let (filter, handle) = reload::Layer::new(filter);
    let used = Exchangeable {
        filter,
        names_spans: Arc::clone(&names_spans),
    };
    let exchange = move |filter: LogFilter| {
        names_spans.store(filter.names_spans, Relaxed);
        handle.reload(filter).map_err(TelemetryError::Reload)
    };
    (used, Box::new(exchange))
}

impl<S> Exchangeable<S> {
    /// The filter, if spans are its business.
    fn of_spans(&self) -> Option<&reload::Layer<LogFilter, S>> {
        self.names_spans.load(Relaxed).then_some(&self.filter)
    }
}

impl<S: Subscriber> Filter<S> for Exchangeable<S> {
    fn enabled(&self, meta: &Metadata<'_>, cx: &Context<'_, S>) -> bool {
        is_context(meta) || self.filter.enabled(meta, cx)
    }

    fn callsite_enabled(&self, meta: &'static Metadata<'static>) -> Interest {
        self.filter.callsite_enabled(meta)
    }

    fn event_enabled(&self, event: &Event<'_>, cx: &Context<'_, S>) -> bool {
        self.filter.event_enabled(event, cx)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Filter::<S>::max_level_hint(&self.filter)
    }

    fn on_new_span(&self, attrs: &span::Attributes<'_>, id: &span::Id, cx: Context<'_, S>) {
        if let Some(filter) = self.of_spans() {
            Filter::on_new_span(filter, attrs, id, cx);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, cx: Context<'_, S>) {
        if let Some(filter) = self.of_spans() {
            Filter::on_record(filter, id, values, cx);
        }
    }

    fn on_enter(&self, id: &span::Id, cx: Context<'_, S>) {
        if let Some(filter) = self.of_spans() {
            Filter::on_enter(filter, id, cx);
        }
    }

    fn on_exit(&self, id: &span::Id, cx: Context<'_, S>) {
        if let Some(filter) = self.of_spans() {
            Filter::on_exit(filter, id, cx);
        }
    }

    fn on_close(&self, id: span::Id, cx: Context<'_, S>) {
        if let Some(filter) = self.of_spans() {
            Filter::on_close(filter, id, cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_carries_the_export_is_internal_and_nothing_else_is() {
        for target in [
            "hyper",
            "hyper_util::client::legacy",
            "opentelemetry-otlp",
            "h2::codec",
            "opentelemetry_sdk",
        ] {
            assert!(is_internal(target), "{target}");
        }
        for target in [
            "hyperspace::drive",
            "h2o",
            "dotmac_platform::http",
            "towers",
        ] {
            assert!(!is_internal(target), "{target}");
        }
    }

    #[test]
    fn a_misspelt_level_is_refused_rather_than_silencing_everything() {
        assert!(
            matches!(LogFilter::parse("inof"), Err(TelemetryError::LogLevel(word)) if word == "inof")
        );
        assert!(matches!(
            LogFilter::parse("a=b=c"),
            Err(TelemetryError::LogFilter { .. })
        ));
        for fine in [
            "",
            "info",
            "WARN",
            "off",
            "info,dotmac=debug",
            "dotmac_platform::http=trace",
        ] {
            assert!(LogFilter::parse(fine).is_ok(), "{fine}");
        }
    }
}
