//! The operations of all modules in one OpenAPI document, where each type has its own name.
//!
//! A type is named as in its code. Where two modules mean different things by one name, each of them has it with its own
//! name in front (`notes.Item`, `files.Item`), in its schemas and wherever its operations refer to it. The platform's
//! own types keep their names. No type can be named so by itself, since names of types have no dots.

use std::collections::{BTreeMap, BTreeSet};

use utoipa::{
    PartialSchema as _, ToSchema as _,
    openapi::{ComponentsBuilder, OpenApi, PathItem, RefOr, schema::Schema},
};

use super::{
    super::{
        operation::{About, Documented},
        routes::Route,
    },
    RoutesError,
    references::References as _,
};
use crate::{
    access::{Authentication, CredentialScheme},
    http::ProblemBody,
};

/// All operations, and the schemas of each module.
pub(super) struct Documents<'a> {
    operations: Vec<(&'a Route, Documented)>,
    modules: BTreeMap<&'static str, Schemas>,
    /// The ways in which callers bring credentials.
    schemes: Vec<CredentialScheme>,
}

/// Schemas by name.
type Schemas = BTreeMap<String, RefOr<Schema>>;

impl<'a> Documents<'a> {
    /// Collects them.
    ///
    /// # Errors
    ///
    /// [`RoutesError::SameSchema`]: one module has two schemas of one name.
    pub(super) fn of(
        routes: &'a [Route],
        authentication: &Authentication,
    ) -> Result<Self, RoutesError> {
        // Every operation refers to these.
        let of_problems = schemas_of_problems();
        let mut modules: BTreeMap<_, Schemas> = BTreeMap::new();
        let operations = routes
            .iter()
            .map(|route| (route, route.documented(authentication)));
        let operations: Vec<_> = operations.collect();
        for (route, operation) in &operations {
            let module = route.module;
            let of_module = modules.entry(module).or_default();
            for (name, schema) in operation.schemas() {
                let known = of_problems.get(name).or_else(|| of_module.get(name));
                match known {
                    Some(first) if first != schema => {
                        let name = name.clone();
                        return Err(RoutesError::SameSchema { module, name });
                    }
                    Some(_) => {}
                    None => drop(of_module.insert(name.clone(), schema.clone())),
                }
            }
        }
        Ok(Self {
            operations,
            modules,
            schemes: authentication.schemes(),
        })
    }

    /// Adds them to `document`.
    pub(super) fn write(&self, document: &mut OpenApi) {
        let of_platform = schemas_of(document);
        let ambiguous = self.ambiguous(&of_platform);
        for (route, operation) in &self.operations {
            let about = About {
                id: &route.id,
                tag: route.module,
                summary: route.summary.as_deref(),
                description: route.description.as_deref(),
            };
            let mut item = operation.item(route.method.documented(), &about, &self.schemes);
            item.rename(|name| qualified_name(name, route.module, &ambiguous));
            add(document, &without_patterns(&route.path), item);
        }
        let components = document
            .components
            .get_or_insert_with(|| ComponentsBuilder::new().build());
        for (module, schemas) in &self.modules {
            for (name, schema) in schemas {
                let mut schema = schema.clone();
                schema.rename(|name| qualified_name(name, module, &ambiguous));
                let name = qualified_name(name, module, &ambiguous);
                components.schemas.insert(name, schema);
            }
        }
        for scheme in &self.schemes {
            let (name, scheme) = (scheme.name().to_owned(), scheme.documented());
            components.security_schemes.insert(name, RefOr::T(scheme));
        }
    }

    /// The names that do not mean the same to all who have them: those of different schemas, and of schemas that refer to
    /// such a name.
    fn ambiguous(&self, of_platform: &Schemas) -> BTreeSet<String> {
        let owners: Vec<&Schemas> = self.modules.values().chain([of_platform]).collect();
        let mut owned: BTreeMap<&str, Vec<&RefOr<Schema>>> = BTreeMap::new();
        for (name, schema) in owners.into_iter().flatten() {
            owned.entry(name).or_default().push(schema);
        }
        owned.retain(|_, schemas| schemas.len() > 1);
        let mut ambiguous = BTreeSet::new();
        loop {
            let more = owned.iter().filter(|(_, schemas)| {
                let differ = schemas.windows(2).any(|pair| pair[0] != pair[1]);
                let is_ambiguous = |name: &str| ambiguous.contains(name);
                differ || schemas.iter().any(|schema| schema.refers_to(is_ambiguous))
            });
            let more: BTreeSet<_> = more.map(|(name, _)| (*name).to_owned()).collect();
            if more.len() == ambiguous.len() {
                return ambiguous;
            }
            ambiguous = more;
        }
    }
}

/// The platform's own schemas: what is in `document` before modules are.
fn schemas_of(document: &OpenApi) -> Schemas {
    let components = document.components.as_ref();
    components.map_or_else(Schemas::new, |it| it.schemas.clone())
}

/// Those of the body of a problem.
fn schemas_of_problems() -> Schemas {
    let mut schemas = vec![(ProblemBody::name().into_owned(), ProblemBody::schema())];
    ProblemBody::schemas(&mut schemas);
    schemas.into_iter().collect()
}

fn add(document: &mut OpenApi, path: &str, item: PathItem) {
    match document.paths.paths.get_mut(path) {
        Some(existing) => existing.merge_operations(item),
        None => drop(document.paths.paths.insert(path.to_owned(), item)),
    }
}

/// The name of a schema in the document.
fn qualified_name(name: &str, module: &str, ambiguous: &BTreeSet<String>) -> String {
    if ambiguous.contains(name) {
        format!("{module}.{name}")
    } else {
        name.to_owned()
    }
}

/// `/files/{id:[0-9]+}` as OpenAPI writes it: `/files/{id}`.
fn without_patterns(path: &str) -> String {
    let mut text = String::new();
    for (place, piece) in path.split('{').enumerate() {
        match piece.split_once('}') {
            Some((name, rest)) if place > 0 => {
                let name = name.split(':').next().unwrap_or(name);
                text.push_str(&format!("{{{name}}}{rest}"));
            }
            _ => text.push_str(piece),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_not_in_the_document() {
        assert_eq!(
            without_patterns("/f/{id:[0-9]+}/x/{name}"),
            "/f/{id}/x/{name}"
        );
        assert_eq!(without_patterns("/f"), "/f");
    }
}
