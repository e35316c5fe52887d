//! Spans in the encoding of OTLP, written straight from the SDK's data.
//!
//! The crates' own way is by messages that are made, sized, encoded and dropped again, each attribute
//! with four allocations, on another thread than that which made the span. At full sampling that cost
//! more than making the spans did, so this one signal is encoded here, where and when a span ends and
//! all of it is at hand. The tests read it back with the crates' messages and compare.
//!
//! Source of the fields' numbers: opentelemetry-proto 1.x, `trace/v1/trace.proto`,
//! `common/v1/common.proto` and `resource/v1/resource.proto`.

use std::{
    cell::Cell,
    time::{SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use opentelemetry::{
    Array, InstrumentationScope, KeyValue, StringValue, Value,
    trace::{Link, SpanContext, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::{
    Resource,
    trace::{SpanData, SpanEvents, SpanLinks},
};

use super::pieces::Pieces;

/// Set in a span's flags: whether its parent is remote is known.
const REMOTE_IS_KNOWN: u32 = 0x100;

/// Set in a span's flags: its parent is remote.
const IS_REMOTE: u32 = 0x200;

/// Spans of one export, encoded as they ended.
#[derive(Default)]
pub(crate) struct Batch {
    /// The `ScopeSpans` to be: each scope with its spans. Mostly there is one.
    scopes: Vec<(InstrumentationScope, BytesMut)>,
    spans: u64,
    bytes: usize,
}

/// A batch that takes no more.
pub(crate) struct Sealed {
    scopes: Vec<(InstrumentationScope, Bytes)>,
    spans: u64,
}

thread_local! {
    /// Where a thread writes a span, so that nobody else waits while it does.
    static SPAN: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Bytes for the length of a span: two are right for those of 128 bytes to 16 KiB.
const SPAN_ROOM: usize = 2;

/// A larger buffer is given back rather than kept for the thread's next span.
const KEPT_BUFFER: usize = 64 * 1024;

/// Encodes `span` and has `add` take it, as one field of a `ScopeSpans`.
pub(crate) fn encoded<T>(span: &SpanData, add: impl FnOnce(&[u8]) -> T) -> T {
    let mut field = Message(SPAN.try_with(Cell::take).unwrap_or_default());
    field.0.clear();
    field.message_in(SPAN_ROOM, 2, |field| field.span(span));
    let added = add(&field.0);
    if field.0.capacity() <= KEPT_BUFFER {
        // Fails only while the thread ends; then nobody needs the buffer.
        SPAN.try_with(|buffer| buffer.set(field.0)).ok();
    }
    added
}

impl Batch {
    /// Takes a span that [`encoded`] has written.
    pub(crate) fn add(&mut self, scope: &InstrumentationScope, field: &[u8]) {
        self.spans += 1;
        self.bytes += field.len();
        match self.scopes.iter_mut().find(|(known, _)| known == scope) {
            Some((_, fields)) => fields.extend_from_slice(field),
            None => self.scopes.push((scope.clone(), field.into())),
        }
    }

    /// Takes no more.
    pub(crate) fn seal(self) -> Sealed {
        let scopes = self.scopes.into_iter();
        Sealed {
            scopes: scopes.map(|(of, spans)| (of, spans.freeze())).collect(),
            spans: self.spans,
        }
    }

    /// How many bytes of memory it keeps.
    pub(crate) fn capacity(&self) -> usize {
        self.scopes.iter().map(|(_, spans)| spans.capacity()).sum()
    }

    /// How many spans there are.
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    /// How long they are.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Sealed {
    /// How many spans there are.
    pub(crate) fn spans(&self) -> u64 {
        self.spans
    }

    /// Lets go of the spans, and keeps the memory for others of the same scopes, unless somebody still
    /// sends it.
    pub(crate) fn emptied(self) -> Batch {
        let empty = |spans: Bytes| {
            let mut spans = spans.try_into_mut().unwrap_or_default();
            spans.clear();
            spans
        };
        let scopes = self.scopes.into_iter();
        Batch {
            scopes: scopes.map(|(of, spans)| (of, empty(spans))).collect(),
            ..Batch::default()
        }
    }
}

/// What stays the same in each export: the fields of `ResourceSpans` before its spans, and after them.
#[derive(Debug)]
pub(crate) struct Resourced {
    resource: Vec<u8>,
    schema_url: Bytes,
}

impl Resourced {
    pub(crate) fn new(resource: &Resource) -> Self {
        let mut encoded = Message::default();
        encoded.message(1, |resource_field| {
            for (key, value) in resource.iter() {
                resource_field.attribute(1, key.as_str(), value);
            }
        });
        Self {
            resource: encoded.0,
            schema_url: Message::of(|it| it.text(3, resource.schema_url().unwrap_or_default())),
        }
    }

    /// An `ExportTraceServiceRequest` with all spans of `batch`, in their order within each scope.
    pub(crate) fn request(&self, batch: &Sealed) -> Pieces {
        if batch.spans == 0 {
            return Pieces::default();
        }
        let used = |(_, spans): &&(_, Bytes)| !spans.is_empty();
        let of_scope = |(scope, spans): &(InstrumentationScope, Bytes)| {
            let named = Message::of(|it| it.message(1, |field| field.scope(scope)));
            let schema_url = Message::of(|it| it.text(3, scope.schema_url().unwrap_or_default()));
            let length = named.len() + spans.len() + schema_url.len();
            let head = Message::of(|it| it.head(2, length));
            [head, named, spans.clone(), schema_url]
        };
        let scopes = batch.scopes.iter().filter(used).flat_map(of_scope);
        let scopes: Pieces = scopes.chain([self.schema_url.clone()]).collect();
        let head = Message::of(|it| {
            it.head(1, self.resource.len() + scopes.length());
            it.0.extend_from_slice(&self.resource);
        });
        scopes.led_by(head)
    }
}

/// A protobuf message as far as it is written. Fields with their type's default are left out, as
/// protobuf 3 has it.
#[derive(Default)]
struct Message(Vec<u8>);

/// How the bytes of a field are laid out.
#[derive(Clone, Copy)]
enum Layout {
    Varint = 0,
    Fixed64 = 1,
    Delimited = 2,
    Fixed32 = 5,
}

/// The key of a field whose number is below 16, as most are.
const fn short_key(field: u32, layout: Layout) -> u8 {
    (field << 3) as u8 | layout as u8
}

impl Message {
    /// What `write` writes.
    fn of(write: impl FnOnce(&mut Self)) -> Bytes {
        let mut message = Self::default();
        write(&mut message);
        message.0.into()
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn key(&mut self, field: u32, layout: Layout) {
        self.varint(u64::from(field << 3 | layout as u32));
    }

    /// What stands before the content of a delimited field.
    fn head(&mut self, field: u32, length: usize) {
        self.key(field, Layout::Delimited);
        self.varint(length as u64);
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.head(field, bytes.len());
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, text: &str) {
        if !text.is_empty() {
            self.bytes(field, text.as_bytes());
        }
    }

    fn number(&mut self, field: u32, number: u64) {
        if number != 0 {
            self.key(field, Layout::Varint);
            self.varint(number);
        }
    }

    fn fixed32(&mut self, field: u32, number: u32) {
        if number != 0 {
            self.key(field, Layout::Fixed32);
            self.0.extend_from_slice(&number.to_le_bytes());
        }
    }

    /// The id of a trace or span, whose length is known.
    fn id<const N: usize>(&mut self, field: u32, id: [u8; N]) {
        let head = [short_key(field, Layout::Delimited), N as u8];
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(&id);
    }

    fn time(&mut self, field: u32, time: SystemTime) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let nanos = since.as_nanos() as u64;
        if nanos != 0 {
            let mut whole = [short_key(field, Layout::Fixed64); 9];
            whole[1..].copy_from_slice(&nanos.to_le_bytes());
            self.0.extend_from_slice(&whole);
        }
    }

    /// A message within this one, mostly a short one.
    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        self.message_in(1, field, write);
    }

    /// A message within this one. Its length stands before it and is known only after: `room` bytes are
    /// kept free for that. A length that needs fewer is spelt in so many, which protobuf allows; a message
    /// whose length needs more moves.
    fn message_in(&mut self, room: usize, field: u32, write: impl FnOnce(&mut Self)) {
        self.key(field, Layout::Delimited);
        let place = self.0.len();
        self.0.resize(place + room, 0);
        write(self);
        let length = self.0.len() - place - room;
        let needed = (length.max(1).ilog2() / 7) as usize + 1;
        let size = needed.max(room);
        if size > room {
            self.0.resize(place + size + length, 0);
            let content = place + room..place + room + length;
            self.0.copy_within(content, place + size);
        }
        for (index, byte) in self.0[place..place + size].iter_mut().enumerate() {
            let more = if index + 1 < size { 0x80 } else { 0 };
            *byte = (length >> (7 * index)) as u8 & 0x7f | more;
        }
    }

    fn attributes(&mut self, field: u32, attributes: &[KeyValue]) {
        for attribute in attributes {
            self.attribute(field, attribute.key.as_str(), &attribute.value);
        }
    }

    fn attribute(&mut self, field: u32, key: &str, value: &Value) {
        if let Value::String(text) = value
            && !key.is_empty()
        {
            return self.text_attribute(field, key, text.as_str());
        }
        self.message(field, |pair| {
            pair.text(1, key);
            pair.message(2, |any| any.value(value));
        });
    }

    /// What most attributes are. All lengths are known beforehand, so nothing has to move.
    fn text_attribute(&mut self, field: u32, key: &str, text: &str) {
        let any = 2 + text.len();
        let pair = 2 + key.len() + 2 + any;
        if pair >= 1 << 7 {
            return self.message(field, |pair| {
                pair.text(1, key);
                pair.message(2, |any| any.bytes(1, text.as_bytes()));
            });
        }
        // Now each length is one byte, as is each field's key.
        const FIRST: u8 = short_key(1, Layout::Delimited);
        const SECOND: u8 = short_key(2, Layout::Delimited);
        let field = short_key(field, Layout::Delimited);
        self.0.reserve(2 + pair);
        let head = [field, pair as u8, FIRST, key.len() as u8];
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(key.as_bytes());
        let head = [SECOND, any as u8, FIRST, text.len() as u8];
        self.0.extend_from_slice(&head);
        self.0.extend_from_slice(text.as_bytes());
    }

    /// An `AnyValue`: one of several, so that a default is written too.
    fn value(&mut self, value: &Value) {
        match value {
            Value::Bool(value) => {
                self.key(2, Layout::Varint);
                self.varint(u64::from(*value));
            }
            Value::I64(value) => {
                self.key(3, Layout::Varint);
                self.varint(*value as u64);
            }
            Value::F64(value) => {
                self.key(4, Layout::Fixed64);
                self.0.extend_from_slice(&value.to_le_bytes());
            }
            Value::String(value) => self.bytes(1, value.as_str().as_bytes()),
            Value::Array(array) => self.message(5, |values| match array {
                Array::Bool(array) => values.values(array, |value| Value::Bool(*value)),
                Array::I64(array) => values.values(array, |value| Value::I64(*value)),
                Array::F64(array) => values.values(array, |value| Value::F64(*value)),
                Array::String(array) => {
                    values.values(array, |value: &StringValue| Value::String(value.clone()));
                }
                // None exists; the enum is open.
                _ => {}
            }),
            // None exists; the enum is open.
            _ => {}
        }
    }

    fn values<T>(&mut self, array: &[T], value: impl Fn(&T) -> Value) {
        for item in array {
            self.message(1, |any| any.value(&value(item)));
        }
    }

    fn scope(&mut self, scope: &InstrumentationScope) {
        self.text(1, scope.name());
        self.text(2, scope.version().unwrap_or_default());
        for attribute in scope.attributes() {
            self.attribute(3, attribute.key.as_str(), &attribute.value);
        }
    }

    fn span(&mut self, span: &SpanData) {
        self.ids(&span.span_context);
        if span.parent_span_id != SpanId::INVALID {
            self.id(4, span.parent_span_id.to_bytes());
        }
        self.text(5, &span.name);
        let kind = match span.span_kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        };
        self.number(6, kind);
        self.time(7, span.start_time);
        self.time(8, span.end_time);
        self.attributes(9, &span.attributes);
        self.number(10, span.dropped_attributes_count.into());
        self.events(&span.events);
        self.links(&span.links);
        self.message(15, |status| match &span.status {
            Status::Unset => {}
            Status::Ok => status.number(3, 1),
            Status::Error { description } => {
                status.text(2, description);
                status.number(3, 2);
            }
        });
        self.fixed32(16, flags(&span.span_context, span.parent_span_is_remote));
    }

    /// The first three fields of spans and of links.
    fn ids(&mut self, context: &SpanContext) {
        self.id(1, context.trace_id().to_bytes());
        self.id(2, context.span_id().to_bytes());
        self.text(3, &context.trace_state().header());
    }

    fn events(&mut self, events: &SpanEvents) {
        for event in events.iter() {
            self.message(11, |field| {
                field.time(1, event.timestamp);
                field.text(2, &event.name);
                field.attributes(3, &event.attributes);
                field.number(4, event.dropped_attributes_count.into());
            });
        }
        self.number(12, events.dropped_count.into());
    }

    fn links(&mut self, links: &SpanLinks) {
        for link in links.iter() {
            self.message(13, |field| field.link(link));
        }
        self.number(14, links.dropped_count.into());
    }

    fn link(&mut self, link: &Link) {
        let context = &link.span_context;
        self.ids(context);
        self.attributes(4, &link.attributes);
        self.number(5, link.dropped_attributes_count.into());
        self.fixed32(6, flags(context, context.is_remote()));
    }
}

fn flags(context: &SpanContext, is_remote: bool) -> u32 {
    let remote = if is_remote { IS_REMOTE } else { 0 };
    u32::from(context.trace_flags().to_u8()) | REMOTE_IS_KNOWN | remote
}

#[cfg(test)]
mod tests;
