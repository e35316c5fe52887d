//! The events of a program before it runs: types with their schemas, and subscribers.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use dotmac_durable::events::{Event, is_event_type};
use serde_json::{Map, Value};
use utoipa::{
    ToSchema,
    openapi::{RefOr, schema::Schema},
};

/// Where OpenAPI documents, and the derive of schemas, have the schemas that others refer to.
const COMPONENTS: &str = "#/components/schemas/";

/// A type of events that a module emits.
#[derive(Clone, Copy)]
pub struct EventSpec {
    kind: &'static str,
    /// The schema of its data, as [`schema_at`] has it.
    schema: fn(&str) -> Value,
}

impl EventSpec {
    pub(crate) fn of<E: Event + ToSchema>() -> Self {
        const {
            assert!(
                is_event_type(E::TYPE),
                "the TYPE of an event has the form `area.thing.v1`"
            );
        }
        Self {
            kind: E::TYPE,
            schema: schema_at::<E>,
        }
    }

    pub(crate) fn kind(&self) -> &'static str {
        self.kind
    }
}

/// Two modules emit events of one type.
#[derive(Debug, thiserror::Error)]
#[error(
    "the modules `{first}` and `{second}` both emit `{kind}`; a type of events belongs to one module"
)]
pub(crate) struct EventTwice {
    kind: &'static str,
    first: &'static str,
    second: &'static str,
}

/// A type of events, as clients see it.
#[derive(Clone)]
pub struct EventType {
    spec: EventSpec,
    module: &'static str,
}

impl EventType {
    /// Its name: `note.added.v1`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.spec.kind
    }

    /// The module that emits it.
    #[must_use]
    pub fn module(&self) -> &'static str {
        self.module
    }

    /// Its description: the documentation of the Rust type.
    #[must_use]
    pub fn description(&self) -> Option<String> {
        let schema = self.schema();
        Some(schema.get("description")?.as_str()?.to_owned())
    }

    /// The JSON Schema of its data, complete in itself.
    #[must_use]
    pub fn schema(&self) -> Value {
        self.schema_at("#")
    }

    /// The same as a part of a document, where it has the place `at`.
    pub(super) fn schema_at(&self, at: &str) -> Value {
        (self.spec.schema)(at)
    }
}

/// The JSON Schema of `T` with all that it refers to, as a part of a document where it has the place `at`.
pub(super) fn schema_at<T: ToSchema>(at: &str) -> Value {
    let written = |schema: &RefOr<Schema>| {
        let mut schema = serde_json::to_value(schema).unwrap_or_default();
        refer_to(&mut schema, &format!("{at}/$defs/"));
        list_examples(&mut schema);
        schema
    };
    let mut others = Vec::new();
    T::schemas(&mut others);
    let mut whole = written(&T::schema());
    let others: Map<String, Value> = others
        .iter()
        .map(|(name, schema)| (name.clone(), written(schema)))
        .collect();
    if let Some(whole) = whole.as_object_mut().filter(|_| !others.is_empty()) {
        whole.insert("$defs".to_owned(), others.into());
    }
    whole
}

/// Has each reference to a component lead to `place`.
fn refer_to(schema: &mut Value, place: &str) {
    match schema {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(target) if name == "$ref" => {
                        if let Some(component) = target.strip_prefix(COMPONENTS) {
                            *target = format!("{place}{component}");
                        }
                    }
                    field => refer_to(field, place),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| refer_to(item, place)),
        _ => {}
    }
}

/// Makes the `example` of each schema, a word of OpenAPI, the `examples` of JSON Schema and AsyncAPI.
fn list_examples(schema: &mut Value) {
    match schema {
        Value::Object(words) => {
            if let Some(example) = words.remove("example") {
                words.insert("examples".to_owned(), Value::Array(vec![example]));
            }
            for (word, value) in words {
                match (word.as_str(), value) {
                    // Names of properties, be one of them `example`.
                    ("properties" | "patternProperties" | "$defs", Value::Object(schemas)) => {
                        schemas.values_mut().for_each(list_examples);
                    }
                    // Values, not schemas.
                    ("examples" | "default" | "const" | "enum", _) => {}
                    (_, value) => list_examples(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(list_examples),
        _ => {}
    }
}

/// A subscriber of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscription {
    /// The subscriber's name: `notes.index`.
    pub name: &'static str,
    /// The module whose worker it is.
    pub module: &'static str,
    /// The types of the events that it handles; none for all.
    pub kinds: &'static [&'static str],
}

impl Subscription {
    /// Whether it handles events of the type `kind`.
    #[must_use]
    pub fn handles(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(&kind)
    }
}

/// The events of a program: types, and subscribers. Clones are the same. Handlers take it as
/// [`Use<EventCatalogue>`](crate::routing::Use).
#[derive(Clone, Default)]
pub struct EventCatalogue(Arc<Inner>);

#[derive(Default)]
struct Inner {
    types: Vec<EventType>,
    subscriptions: Mutex<Vec<Subscription>>,
}

impl EventCatalogue {
    /// Of modules by their names, with what each emits.
    pub(crate) fn new<'m>(
        modules: impl IntoIterator<Item = (&'static str, &'m [EventSpec])>,
    ) -> Result<Self, EventTwice> {
        let mut types: Vec<EventType> = Vec::new();
        for (module, specs) in modules {
            for spec in specs {
                if let Some(first) = types.iter().find(|it| it.kind() == spec.kind) {
                    return Err(EventTwice {
                        kind: spec.kind,
                        first: first.module,
                        second: module,
                    });
                }
                types.push(EventType {
                    spec: *spec,
                    module,
                });
            }
        }
        types.sort_by_key(EventType::kind);
        Ok(Self(Arc::new(Inner {
            types,
            subscriptions: Mutex::default(),
        })))
    }

    /// Every type that a module emits which is switched on, by name.
    #[must_use]
    pub fn types(&self) -> &[EventType] {
        &self.0.types
    }

    /// Every subscriber, in the order in which modules add them.
    #[must_use]
    pub fn subscriptions(&self) -> Vec<Subscription> {
        self.lock().clone()
    }

    /// Whether no module emits, and none subscribes.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.types.is_empty() && self.lock().is_empty()
    }

    pub(crate) fn subscribe(
        &self,
        module: &'static str,
        name: &'static str,
        kinds: &'static [&'static str],
    ) {
        self.lock().push(Subscription {
            name,
            module,
            kinds,
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Subscription>> {
        let subscriptions = self.0.subscriptions.lock();
        subscriptions.unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde_json::json;

    use super::*;

    /// A label.
    #[derive(Serialize, ToSchema)]
    struct Tag {
        text: String,
    }

    /// A note was tagged.
    #[derive(Serialize, ToSchema)]
    struct Tagged {
        /// The labels.
        tags: Vec<Tag>,
    }

    impl Event for Tagged {
        const TYPE: &'static str = "note.tagged.v1";
        fn subject(&self) -> String {
            String::new()
        }
    }

    #[test]
    fn the_schema_of_a_type_is_complete_in_itself() {
        let tagged = EventType {
            spec: EventSpec::of::<Tagged>(),
            module: "notes",
        };
        assert_eq!(tagged.description().as_deref(), Some("A note was tagged."));
        let schema = tagged.schema();
        let items = &schema["properties"]["tags"]["items"];
        assert_eq!(items, &json!({ "$ref": "#/$defs/Tag" }), "{schema:#}");
        assert_eq!(schema["$defs"]["Tag"]["description"], "A label.");
        let placed = tagged.schema_at("#/components/schemas/note.tagged.v1");
        let target = "#/components/schemas/note.tagged.v1/$defs/Tag";
        assert_eq!(placed["properties"]["tags"]["items"]["$ref"], target);
    }

    #[test]
    fn the_example_of_a_schema_is_one_of_its_examples_and_a_property_of_that_name_stays() {
        let mut schema = json!({
            "example": { "example": 1 },
            "properties": { "example": { "type": "string", "example": "a" } },
            "default": { "example": 2 },
            "items": { "oneOf": [{ "example": null }] },
        });
        list_examples(&mut schema);
        let listed = json!({
            "examples": [{ "example": 1 }],
            "properties": { "example": { "type": "string", "examples": ["a"] } },
            "default": { "example": 2 },
            "items": { "oneOf": [{ "examples": [null] }] },
        });
        assert_eq!(schema, listed);
    }
}
