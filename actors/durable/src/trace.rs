//! The trace in which something is caused, as a text that is kept with it.

use opentelemetry::{
    Context,
    trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState},
};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The current span in the form of W3C Trace Context, if it is part of a trace.
pub(crate) fn traceparent() -> Option<String> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    let (trace, id, flags) = (span.trace_id(), span.span_id(), span.trace_flags());
    span.is_valid()
        .then(|| format!("00-{trace}-{id}-{:02x}", flags.to_u8()))
}

/// The trace of the current span, if it is part of one.
pub(crate) fn trace_id() -> Option<String> {
    let context = Span::current().context();
    let span = context.span().span_context().clone();
    span.is_valid().then(|| span.trace_id().to_string())
}

/// The context of a text that [`traceparent`] made; `None` if it is none.
fn context(traceparent: &str) -> Option<Context> {
    let mut parts = traceparent.split('-').skip(1);
    let trace = TraceId::from_hex(parts.next()?).ok()?;
    let span = SpanId::from_hex(parts.next()?).ok()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    let remote = SpanContext::new(trace, span, TraceFlags::new(flags), true, TraceState::NONE);
    remote
        .is_valid()
        .then(|| Context::new().with_remote_span_context(remote))
}

/// Makes `span` a part of the trace in which `traceparent` was written down: what is done because of an event or a request
/// belongs to the trace of that. A text that is none changes nothing.
pub fn follow(span: &Span, traceparent: &str) {
    if let Some(cause) = context(traceparent) {
        span.set_parent(cause).ok();
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::TracerProvider as _;
    use opentelemetry_sdk::trace::SdkTracerProvider;
    use tracing_subscriber::{layer::SubscriberExt as _, registry};

    use super::*;

    #[test]
    fn an_event_carries_the_trace_of_the_current_span() {
        assert_eq!(traceparent(), None);
        let tracer = SdkTracerProvider::default().tracer("test");
        let layer = tracing_opentelemetry::layer().with_tracer(tracer);
        tracing::subscriber::with_default(registry().with(layer), || {
            let span = tracing::info_span!("outer");
            let _entered = span.enter();
            let context = span.context();
            let traceparent = traceparent().unwrap_or_default();
            let parts: Vec<_> = traceparent.split('-').collect();
            let trace = context.span().span_context().trace_id().to_string();
            assert_eq!((parts.len(), parts[0], parts[1]), (4, "00", &*trace));
            assert_eq!(trace_id(), Some(trace.clone()));
            assert_eq!((parts[2].len(), parts[3].len()), (16, 2), "{traceparent}");
            let read = super::context(&traceparent).unwrap_or_default();
            assert_eq!(read.span().span_context().trace_id().to_string(), trace);
            assert!(super::context("00-0-0").is_none());
        });
    }
}
