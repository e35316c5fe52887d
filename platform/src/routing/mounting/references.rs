//! The references of a part of an OpenAPI document to schemas.

use std::collections::BTreeMap;

use utoipa::openapi::{
    Content, PathItem, RefOr,
    header::Header,
    path::{Operation, Parameter},
    schema::{AdditionalProperties, ArrayItems, Discriminator, Schema},
};

/// What references to schemas begin with.
const SCHEMAS: &str = "#/components/schemas/";

/// A part of a document, and what it refers to.
pub(super) trait References: Clone {
    /// Gives each reference to `change`.
    fn visit(&mut self, change: &mut dyn FnMut(&mut String));

    /// Gives each schema that it refers to another name.
    fn rename(&mut self, rename: impl Fn(&str) -> String) {
        self.visit(&mut |reference| {
            if let Some(name) = reference.strip_prefix(SCHEMAS) {
                *reference = format!("{SCHEMAS}{}", rename(name));
            }
        });
    }

    /// Whether it refers to a schema whose name `is_wanted`.
    fn refers_to(&self, is_wanted: impl Fn(&str) -> bool) -> bool {
        let mut is_found = false;
        self.clone().visit(&mut |reference| {
            is_found |= reference.strip_prefix(SCHEMAS).is_some_and(&is_wanted);
        });
        is_found
    }
}

impl References for RefOr<Schema> {
    fn visit(&mut self, change: &mut dyn FnMut(&mut String)) {
        match self {
            Self::Ref(reference) => change(&mut reference.ref_location),
            Self::T(schema) => schema.visit(change),
        }
    }
}

impl References for Schema {
    fn visit(&mut self, change: &mut dyn FnMut(&mut String)) {
        let mut each = |schemas: &mut [RefOr<Self>]| {
            schemas.iter_mut().for_each(|schema| schema.visit(change));
        };
        match self {
            Self::OneOf(of) => {
                each(&mut of.items);
                mapped(of.discriminator.as_mut(), change);
            }
            Self::AllOf(of) => {
                each(&mut of.items);
                mapped(of.discriminator.as_mut(), change);
            }
            Self::AnyOf(of) => {
                each(&mut of.items);
                mapped(of.discriminator.as_mut(), change);
            }
            Self::Array(array) => {
                if let ArrayItems::RefOrSchema(items) = &mut array.items {
                    items.visit(change);
                }
                let before = array.prefix_items.iter_mut();
                before.for_each(|schema| schema.visit(change));
            }
            Self::Object(object) => {
                for property in object.properties.values_mut() {
                    property.visit(change);
                }
                let others = object.additional_properties.as_deref_mut();
                if let Some(AdditionalProperties::RefOr(schema)) = others {
                    schema.visit(change);
                }
                let names = object.property_names.as_deref_mut();
                names.into_iter().for_each(|schema| schema.visit(change));
                let content = object.content_schema.as_deref_mut();
                content.into_iter().for_each(|schema| schema.visit(change));
            }
            // utoipa may get kinds of schemas that it does not have today.
            _ => {}
        }
    }
}

impl References for PathItem {
    fn visit(&mut self, change: &mut dyn FnMut(&mut String)) {
        let operations = [
            &mut self.get,
            &mut self.put,
            &mut self.post,
            &mut self.delete,
            &mut self.options,
            &mut self.head,
            &mut self.patch,
            &mut self.trace,
        ];
        let operations = operations.into_iter().flatten();
        operations.for_each(|operation| of_operation(operation, change));
    }
}

fn mapped(discriminator: Option<&mut Discriminator>, change: &mut dyn FnMut(&mut String)) {
    let mapping = discriminator
        .into_iter()
        .flat_map(|it| it.mapping.values_mut());
    mapping.for_each(change);
}

fn of_operation(operation: &mut Operation, change: &mut dyn FnMut(&mut String)) {
    for parameter in operation.parameters.iter_mut().flatten() {
        if let RefOr::T(Parameter {
            schema, content, ..
        }) = parameter
        {
            of_schema(schema.as_mut(), change);
            of_contents(content, change);
        }
    }
    if let Some(RefOr::T(body)) = &mut operation.request_body {
        of_contents(&mut body.content, change);
    }
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        for header in response.headers.values_mut() {
            if let RefOr::T(Header { schema, .. }) = header {
                of_schema(schema.as_mut(), change);
            }
        }
        for content in response.content.values_mut() {
            of_content(content, change);
        }
    }
}

fn of_contents(
    contents: &mut BTreeMap<String, RefOr<Content>>,
    change: &mut dyn FnMut(&mut String),
) {
    contents
        .values_mut()
        .for_each(|content| of_content(content, change));
}

fn of_content(content: &mut RefOr<Content>, change: &mut dyn FnMut(&mut String)) {
    if let RefOr::T(content) = content {
        of_schema(content.schema.as_mut(), change);
        of_schema(content.item_schema.as_mut(), change);
    }
}

fn of_schema(schema: Option<&mut RefOr<Schema>>, change: &mut dyn FnMut(&mut String)) {
    schema.into_iter().for_each(|schema| schema.visit(change));
}
