//! One field of a merge patch (RFC 7396): kept, cleared or set.

use serde::{Deserialize, Deserializer};
use utoipa::{
    __dev::ComposeSchema,
    PartialSchema, ToSchema,
    openapi::{ObjectBuilder, OneOfBuilder, RefOr, Type, schema::Schema},
};

/// What a `PATCH` says of one field: nothing, `null`, or a value.
///
/// ```
/// use dotmac_platform::routing::Change;
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct NotePatch {
///     #[serde(default)]
///     text: Change<String>,
///     #[serde(default)]
///     color: Change<String>,
/// }
///
/// # fn main() -> Result<(), serde_json::Error> {
/// let patch: NotePatch = serde_json::from_str(r#"{"color":null}"#)?;
/// assert_eq!(patch.text.apply_to("as it was".to_owned()), Some("as it was".to_owned()));
/// assert_eq!(patch.color.apply_to("red".to_owned()), None);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Change<T> {
    /// The field is not in the patch: it stays as it is.
    #[default]
    Keep,
    /// The field is `null`: its value goes.
    Clear,
    /// The field has a new value.
    Set(T),
}

impl<T> Change<T> {
    /// The new value, if there is one.
    pub fn set(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Whether the field is in the patch.
    pub fn is_given(&self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// What becomes of `value`; `None` if it goes.
    pub fn apply_to(self, value: impl Into<Option<T>>) -> Option<T> {
        match self {
            Self::Keep => value.into(),
            Self::Clear => None,
            Self::Set(new) => Some(new),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Change<T> {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        Ok(match Option::deserialize(input)? {
            None => Self::Clear,
            Some(value) => Self::Set(value),
        })
    }
}

/// What `#[derive(ToSchema)]` asks of a field of a generic type.
impl<T: PartialSchema> ComposeSchema for Change<T> {
    fn compose(of_arguments: Vec<RefOr<Schema>>) -> RefOr<Schema> {
        let value = of_arguments.into_iter().next();
        let null = ObjectBuilder::new().schema_type(Type::Null);
        let value = value.unwrap_or_else(T::schema);
        OneOfBuilder::new().item(value).item(null).into()
    }
}

impl<T: ToSchema> ToSchema for Change<T> {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

impl<T: garde::Validate> garde::Validate for Change<T> {
    type Context = T::Context;

    fn validate_into(
        &self,
        context: &Self::Context,
        parent: &mut dyn FnMut() -> garde::Path,
        report: &mut garde::Report,
    ) {
        if let Self::Set(value) = self {
            value.validate_into(context, parent, report);
        }
    }
}

/// `#[garde(inner(..))]` of a field checks its new value.
impl<T> garde::rules::inner::Inner<T> for Change<T> {
    type Key = garde::error::NoKey;

    fn validate_inner<F: FnMut(&T, &Self::Key)>(&self, mut check: F) {
        if let Self::Set(value) = self {
            check(value, &Self::Key::default());
        }
    }
}

/// `#[garde(custom(not_null))]` for a field that a patch can set and not clear.
///
/// # Errors
///
/// If it is cleared.
pub fn not_null<T, C>(change: &Change<T>, _: &C) -> garde::Result {
    match change {
        Change::Clear => Err(garde::Error::new("cannot be null")),
        Change::Keep | Change::Set(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize, ToSchema)]
    struct Color {
        name: String,
    }

    #[derive(Deserialize, garde::Validate)]
    struct Rules {
        #[serde(default)]
        #[garde(custom(not_null), inner(length(min = 1)))]
        text: Change<String>,
        #[serde(default)]
        #[garde(inner(length(max = 1), inner(length(max = 2))))]
        tags: Change<Vec<String>>,
    }

    #[test]
    fn rules_hold_for_values_that_are_set() -> Result<(), serde_json::Error> {
        use garde::Validate as _;
        for (patch, fields) in [
            (r#"{}"#, vec![]),
            (r#"{"text":"a","tags":null}"#, vec![]),
            (r#"{"text":null}"#, vec!["text"]),
            (r#"{"text":"","tags":["abc"]}"#, vec!["tags[0]", "text"]),
            (r#"{"tags":["a","b"]}"#, vec!["tags"]),
        ] {
            let rules: Rules = serde_json::from_str(patch)?;
            let broken = rules.validate().err().map(|report| {
                let paths = report.iter().map(|(path, _)| path.to_string());
                let mut paths: Vec<_> = paths.collect();
                paths.sort();
                paths
            });
            assert_eq!(broken.unwrap_or_default(), fields, "{patch}");
        }
        Ok(())
    }

    #[derive(Deserialize, ToSchema)]
    struct Patch {
        #[serde(default)]
        text: Change<String>,
        #[serde(default)]
        color: Change<Color>,
    }

    #[test]
    fn fields_of_a_patch_are_documented_as_optional_and_nullable() -> Result<(), serde_json::Error>
    {
        let schema = serde_json::to_value(Patch::schema())?;
        assert_eq!(schema["required"], serde_json::Value::Null);
        let mut named = Vec::new();
        Patch::schemas(&mut named);
        let null = serde_json::json!({ "type": "null" });
        for (field, name) in [("text", "Change_String"), ("color", "Change_Color")] {
            let reference = format!("#/components/schemas/{name}");
            assert_eq!(schema["properties"][field]["$ref"], reference, "{schema}");
            let change = named.iter().find(|(it, _)| it == name);
            let change = serde_json::to_value(change.map(|(_, schema)| schema))?;
            assert_eq!(change["oneOf"][1], null, "{change}");
        }

        let patch: Patch = serde_json::from_str(r#"{"color":{"name":"red"}}"#)?;
        assert!(!patch.text.is_given());
        assert_eq!(
            patch.color.set().map(|color| color.name.as_str()),
            Some("red")
        );
        Ok(())
    }
}
