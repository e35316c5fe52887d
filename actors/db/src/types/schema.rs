//! The types in an API's description.

use std::borrow::Cow;

use utoipa::{
    __dev::ComposeSchema,
    PartialSchema, ToSchema,
    openapi::{
        RefOr,
        schema::{KnownFormat, ObjectBuilder, Schema, SchemaFormat, Type},
    },
};

use super::{Id, Json, Moment};

fn text(format: KnownFormat, description: &str) -> RefOr<Schema> {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(format)))
        .description(Some(description))
        .into()
}

// As the derive macro does for a type with parameters: a field of such a type asks for it.
impl<T> ComposeSchema for Id<T> {
    fn compose(_: Vec<RefOr<Schema>>) -> RefOr<Schema> {
        text(KnownFormat::Uuid, "A UUID of version 7.")
    }
}

impl<T> ToSchema for Id<T> {
    fn name() -> Cow<'static, str> {
        "Id".into()
    }
}

impl PartialSchema for Moment {
    fn schema() -> RefOr<Schema> {
        text(KnownFormat::DateTime, "A time in UTC, RFC 3339.")
    }
}

impl ToSchema for Moment {}

/// In an API it is what it holds.
impl<T: PartialSchema> ComposeSchema for Json<T> {
    fn compose(_: Vec<RefOr<Schema>>) -> RefOr<Schema> {
        T::schema()
    }
}

impl<T: ToSchema> ToSchema for Json<T> {
    fn name() -> Cow<'static, str> {
        T::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[derive(utoipa::ToSchema)]
    #[expect(dead_code, reason = "only described")]
    struct Note {
        id: Id<Self>,
        at: Moment,
        tags: Json<Vec<String>>,
    }

    #[test]
    fn a_struct_with_ids_moments_and_json_describes_them_as_clients_see_them() {
        let mut schemas = vec![("Note".to_owned(), Note::schema())];
        Note::schemas(&mut schemas);
        let schemas = schemas.iter().map(|(name, schema)| {
            let schema = serde_json::to_value(schema);
            (name.as_str(), schema.unwrap_or_default())
        });
        let schemas: std::collections::BTreeMap<&str, Value> = schemas.collect();
        let described = |field: &str| -> Value {
            let field = &schemas["Note"]["properties"][field];
            match field["$ref"].as_str() {
                Some(path) => schemas[path.rsplit('/').next().unwrap_or_default()].clone(),
                None => field.clone(),
            }
        };
        let id = described("id");
        assert_eq!(
            (&id["type"], &id["format"]),
            (&"string".into(), &"uuid".into())
        );
        let at = described("at");
        assert_eq!(
            (&at["type"], &at["format"]),
            (&"string".into(), &"date-time".into())
        );
        let tags = described("tags");
        assert_eq!(
            (&tags["type"], &tags["items"]["type"]),
            (&"array".into(), &"string".into())
        );
    }
}
