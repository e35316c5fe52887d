//! What is encoded reads back as what the crates would have sent.

use std::time::Duration;

use opentelemetry::trace::{Event, TraceFlags, TraceId, TraceState};
use opentelemetry_proto::{
    tonic::collector::trace::v1::ExportTraceServiceRequest,
    transform::trace::tonic::group_spans_by_resource_and_scope,
};
use prost::Message as _;

use super::*;

type Fallible = Result<(), Box<dyn std::error::Error>>;

fn context(id: u64, flags: TraceFlags, is_remote: bool) -> SpanContext {
    let state = TraceState::from_key_value([("vendor", "a=b")]).unwrap_or_default();
    let (trace, span) = (TraceId::from(u128::from(id) << 70), SpanId::from(id));
    SpanContext::new(trace, span, flags, is_remote, state)
}

fn span(id: u64, scope: &InstrumentationScope) -> SpanData {
    let began = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
    SpanData {
        span_context: context(id, TraceFlags::SAMPLED, false),
        parent_span_id: SpanId::INVALID,
        parent_span_is_remote: false,
        span_kind: SpanKind::Internal,
        name: "".into(),
        start_time: began,
        end_time: began + Duration::from_millis(3),
        attributes: Vec::new(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: Status::Unset,
        instrumentation_scope: scope.clone(),
    }
}

/// One span of each kind of content, in two scopes that alternate.
fn spans() -> Vec<SpanData> {
    let plain = InstrumentationScope::builder("dotmac").build();
    let full = InstrumentationScope::builder("service")
        .with_version("1.2")
        .with_schema_url("https://example.org/schema")
        .with_attributes([KeyValue::new("of", "scope")])
        .build();
    let nothing = span(1, &plain);
    let mut server = span(2, &full);
    server.span_kind = SpanKind::Server;
    server.parent_span_id = SpanId::from(77);
    server.parent_span_is_remote = true;
    server.name = "GET /notes/{id}".into();
    server.status = Status::error("gone");
    server.dropped_attributes_count = 3;
    server.attributes = vec![
        KeyValue::new("empty", ""),
        KeyValue::new("text", "grüße"),
        KeyValue::new("long", "x".repeat(40_000)),
        KeyValue::new("no", false),
        KeyValue::new("yes", true),
        KeyValue::new("zero", 0),
        KeyValue::new("negative", -5),
        KeyValue::new("large", i64::MAX),
        KeyValue::new("float", -0.25),
        KeyValue::new("bools", Value::Array(vec![true, false].into())),
        KeyValue::new("numbers", Value::Array(vec![0_i64, -1, 300].into())),
        KeyValue::new("floats", Value::Array(vec![0.0, 1.5].into())),
        KeyValue::new(
            "texts",
            Value::Array(vec![StringValue::from(""), "a".into()].into()),
        ),
    ];
    let mut eventful = span(3, &plain);
    eventful.span_kind = SpanKind::Client;
    eventful.status = Status::Ok;
    let attributes = vec![KeyValue::new("exception.message", "no")];
    eventful.events.events = vec![
        Event::new("exception", eventful.start_time, attributes, 2),
        Event::new("", UNIX_EPOCH, Vec::new(), 0),
    ];
    eventful.events.dropped_count = 1;
    let mut linked = span(4, &full);
    linked.span_kind = SpanKind::Producer;
    linked.end_time = UNIX_EPOCH - Duration::from_secs(1);
    let to = context(9, TraceFlags::default(), true);
    linked.links.links = vec![Link::new(to, vec![KeyValue::new("why", "because")], 4)];
    linked.links.dropped_count = 200;
    let mut consumer = span(5, &plain);
    consumer.span_kind = SpanKind::Consumer;
    vec![nothing, server, eventful, linked, consumer]
}

fn joined(request: &Pieces) -> Vec<u8> {
    request.iter().flatten().copied().collect()
}

fn batch(spans: &[SpanData]) -> Batch {
    let mut batch = Batch::default();
    for span in spans {
        encoded(span, |field| batch.add(&span.instrumentation_scope, field));
    }
    assert_eq!(batch.spans(), spans.len() as u64);
    batch
}

#[test]
fn it_reads_as_what_the_crates_would_have_sent() -> Fallible {
    let resource = Resource::builder_empty()
        .with_schema_url([KeyValue::new("service.name", "notes")], "https://schema")
        .build();
    let bare = Resource::builder_empty().build();
    for resource in [&resource, &bare] {
        let encoded = Resourced::new(resource).request(&batch(&spans()).seal());
        let read = ExportTraceServiceRequest::decode(joined(&encoded).as_slice())?;
        let theirs = group_spans_by_resource_and_scope(spans(), &resource.into());
        assert_eq!(read.resource_spans, theirs);
    }
    Ok(())
}

#[test]
fn any_length_of_a_message_is_told() -> Fallible {
    let scope = InstrumentationScope::builder("dotmac").build();
    let resource = Resource::builder_empty().build();
    for length in (0..300).chain([16_300, 16_383, 16_384, 16_400, 2_097_200]) {
        let mut span = span(1, &scope);
        span.attributes = vec![KeyValue::new("key", "x".repeat(length))];
        let batch = batch(std::slice::from_ref(&span)).seal();
        let encoded = joined(&Resourced::new(&resource).request(&batch));
        let read = ExportTraceServiceRequest::decode(encoded.as_slice())?;
        let theirs = group_spans_by_resource_and_scope(vec![span], &(&resource).into());
        assert_eq!(read.resource_spans, theirs, "{length}");
    }
    Ok(())
}

#[test]
fn a_batch_that_is_used_again_has_nothing_of_its_former_use() -> Fallible {
    let scope = |name: &'static str| InstrumentationScope::builder(name).build();
    let resource = Resource::builder_empty().build();
    let used = batch(&[span(1, &scope("former")), span(2, &scope("dotmac"))]);
    let capacity = used.capacity();
    let used = used.seal().emptied();
    assert_eq!(used.capacity(), capacity, "its memory is kept");
    let empty = used.seal();
    assert_eq!(Resourced::new(&resource).request(&empty).length(), 0);
    let mut used = empty.emptied();
    let next = span(3, &scope("dotmac"));
    encoded(&next, |field| used.add(&next.instrumentation_scope, field));
    let encoded = joined(&Resourced::new(&resource).request(&used.seal()));
    let read = ExportTraceServiceRequest::decode(encoded.as_slice())?;
    let theirs = group_spans_by_resource_and_scope(vec![next], &(&resource).into());
    assert_eq!(read.resource_spans, theirs);
    Ok(())
}

#[test]
fn nothing_is_nothing() {
    let resource = Resource::builder_empty().build();
    assert!(
        Resourced::new(&resource)
            .request(&Batch::default().seal())
            .length()
            == 0
    );
}
