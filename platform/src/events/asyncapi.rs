//! `/asyncapi.json`: the events of a program as an AsyncAPI 3 document.
//!
//! Each type is a channel, whose address is its name; messages are CloudEvents. The module that emits a type sends to the
//! channel, a subscriber receives from it. The document says nothing of what a program holds, only what can happen.

use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{CloudEvent, EventCatalogue, EventType, catalogue::schema_at};

/// The document of a program by its name and version.
pub(crate) fn document(name: &str, version: &str, catalogue: &EventCatalogue) -> Value {
    let types = catalogue.types();
    let by_name = |entry: fn(&EventType) -> Value| -> Map<String, Value> {
        let entries = types.iter().map(|it| (it.kind().to_owned(), entry(it)));
        entries.collect()
    };
    let mut operations: Map<String, Value> = types
        .iter()
        .map(|it| {
            let operation = json!({
                "action": "send",
                "channel": { "$ref": format!("#/channels/{}", it.kind()) },
                "title": format!("`{}` emits `{}`", it.module(), it.kind()),
                "tags": [{ "name": it.module() }],
            });
            (format!("{}.emits.{}", it.module(), it.kind()), operation)
        })
        .collect();
    for subscription in catalogue.subscriptions() {
        let kinds = types.iter().map(EventType::kind);
        for kind in kinds.filter(|kind| subscription.handles(kind)) {
            let operation = json!({
                "action": "receive",
                "channel": { "$ref": format!("#/channels/{kind}") },
                "title": format!("`{}` handles `{kind}`", subscription.name),
                "tags": [{ "name": subscription.module }],
            });
            operations.insert(format!("{}.handles.{kind}", subscription.name), operation);
        }
    }
    let mut schemas: Map<String, Value> = types
        .iter()
        .map(|it| {
            let place = format!("#/components/schemas/{}", it.kind());
            (it.kind().to_owned(), it.schema_at(&place))
        })
        .collect();
    let place = format!("#/components/schemas/{}", CloudEvent::name());
    let envelope = schema_at::<CloudEvent>(&place);
    schemas.insert(CloudEvent::name().into_owned(), envelope);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": name,
            "version": version,
            "description": "The events of every mounted module, as `GET /api/v1/events` returns them: CloudEvents 1.0 in JSON.",
        },
        "defaultContentType": "application/cloudevents+json",
        "channels": by_name(channel),
        "operations": operations,
        "components": { "messages": by_name(message), "schemas": schemas },
    })
}

fn channel(it: &EventType) -> Value {
    let kind = it.kind();
    let mut channel = json!({
        "address": kind,
        "messages": { kind: { "$ref": format!("#/components/messages/{kind}") } },
        "tags": [{ "name": it.module() }],
    });
    if let Some(description) = it.description() {
        channel["description"] = description.into();
    }
    channel
}

fn message(it: &EventType) -> Value {
    let kind = it.kind();
    let mut message = json!({
        "name": kind,
        "contentType": "application/cloudevents+json",
        "payload": {
            "allOf": [
                { "$ref": format!("#/components/schemas/{}", CloudEvent::name()) },
                {
                    "type": "object",
                    "properties": {
                        "type": { "const": kind },
                        "data": { "$ref": format!("#/components/schemas/{kind}") },
                    },
                },
            ],
        },
    });
    if let Some(description) = it.description() {
        message["summary"] = description.into();
    }
    message
}
