//! The layer that turns `tracing` events into lines on standard output.
//!
//! It can be used anywhere, a panic hook included: it waits for no lock but that of the output,
//! which is held for one bounded write and never while foreign code runs.

mod fields;
pub(crate) mod filter;
mod last_errors;
mod levels;
mod limit;
mod line;
mod stdout;

pub(crate) use filter::{Exported, LogFilter};
pub(crate) use last_errors::LastErrors;
pub use last_errors::LoggedError;
pub use levels::LevelChange;
pub(crate) use levels::Levels;
pub(crate) use limit::{Limited, Limiter};
pub(crate) use stdout::Output;

use std::{cell::Cell, sync::Arc};

use chrono::Utc;
use opentelemetry::{
    Context as OtelContext,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceId},
};
use tracing::{
    Event, Level, Subscriber, dispatcher,
    span::{Attributes, Id, Record as SpanRecord},
};
use tracing_opentelemetry::get_otel_context;
use tracing_subscriber::{Layer, layer::Context, registry::LookupSpan};

use super::config::LogFormat;
use fields::{Fields, Value};
use line::Record;

/// A line buffer larger than this is given back rather than kept for the thread's next line.
const KEPT_BUFFER: usize = 64 * 1024;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Writes events as lines; see the [module](self).
#[derive(Debug)]
pub(crate) struct LogLayer {
    format: LogFormat,
    output: Output,
    last_errors: LastErrors,
}

/// The fields of a span, kept with it for the lines of its events.
struct SpanFields(Arc<Fields>);

impl LogLayer {
    pub(crate) fn new(format: LogFormat, output: Output, last_errors: LastErrors) -> Self {
        Self {
            format,
            output,
            last_errors,
        }
    }

    fn lost_notice(&self, lost: u64) -> Vec<u8> {
        let mut fields = Fields::default();
        fields.set(
            "message",
            Value::Text("log lines were lost: standard output was not read".to_owned()),
        );
        fields.set("lines", Value::Unsigned(lost));
        let record = Record {
            at: Utc::now(),
            level: Level::WARN,
            target: module_path!(),
            trace: None,
            scopes: &[&fields],
        };
        let mut line = Vec::new();
        record.write(self.format, &mut line);
        line
    }
}

impl<S> Layer<S> for LogLayer
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attrs: &Attributes<'_>, id: &Id, cx: Context<'_, S>) {
        if attrs.fields().is_empty() {
            return;
        }
        let mut fields = Fields::default();
        attrs.record(&mut fields);
        if let Some(span) = cx.span(id) {
            span.extensions_mut().replace(SpanFields(Arc::new(fields)));
        }
    }

    fn on_record(&self, id: &Id, values: &SpanRecord<'_>, cx: Context<'_, S>) {
        let mut newer = Fields::default();
        values.record(&mut newer);
        let Some(span) = cx.span(id) else { return };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<SpanFields>() {
            Some(SpanFields(fields)) => Arc::make_mut(fields).merge(newer),
            None => drop(extensions.replace(SpanFields(Arc::new(newer)))),
        }
    }

    fn on_event(&self, event: &Event<'_>, cx: Context<'_, S>) {
        let mut own = Fields::default();
        event.record(&mut own);
        let spans: Vec<Arc<Fields>> = cx
            .event_scope(event)
            .into_iter()
            .flatten()
            .filter_map(|span| {
                span.extensions()
                    .get::<SpanFields>()
                    .map(|fields| Arc::clone(&fields.0))
            })
            .collect();
        let scopes: Vec<&Fields> = std::iter::once(&own)
            .chain(spans.iter().map(AsRef::as_ref))
            .collect();
        self.last_errors.note(event.metadata(), &scopes);
        let record = Record {
            at: Utc::now(),
            level: *event.metadata().level(),
            target: event.metadata().target(),
            trace: trace_of(event),
            scopes: &scopes,
        };
        // Taken rather than borrowed: even after a panic the next event of this thread finds a buffer.
        let mut line = BUFFER.try_with(Cell::take).unwrap_or_default();
        line.clear();
        record.write(self.format, &mut line);
        self.output.write_line(&line, |lost| self.lost_notice(lost));
        if line.capacity() <= KEPT_BUFFER {
            // Fails only while the thread ends; then the buffer is not needed.
            BUFFER.try_with(|buffer| buffer.set(line)).ok();
        }
    }
}

/// The ids of the span an event belongs to.
///
/// Entered spans are the thread's current OpenTelemetry context; reading them there takes no lock.
/// Only an event that names its parent needs a look at that span's data, which the SDK guards with
/// a lock, so this is not done for the SDK's own events (it may hold the lock) and not during a panic (the panicking
/// code may hold it).
fn trace_of(event: &Event<'_>) -> Option<(TraceId, SpanId)> {
    let ids = |span: &SpanContext| span.is_valid().then(|| (span.trace_id(), span.span_id()));
    if event.is_root() {
        return None;
    }
    match event.parent() {
        None => OtelContext::map_current(|cx| ids(cx.span().span_context())),
        Some(_)
            if std::thread::panicking()
                || event.metadata().target().starts_with("opentelemetry") =>
        {
            None
        }
        Some(parent) => dispatcher::get_default(|dispatch| get_otel_context(parent, dispatch))
            .and_then(|cx| ids(cx.span().span_context())),
    }
}
