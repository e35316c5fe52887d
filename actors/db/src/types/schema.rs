//! What the types are in an API's description.

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
        text(KnownFormat::DateTime, "A moment in UTC, RFC 3339.")
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
