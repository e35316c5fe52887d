//! What is refused of the routes of a program before it starts.

use actix_web::{dev::ResourceDef, http::Method};

use super::super::{RateLimit, argument::names_in, rate_limit::CountedBy, routes::Route};

/// Routes that cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoutesError {
    #[error(
        "module `{module}`: the path `{path}` must start with `/`, must not end with it, and names each parameter once"
    )]
    Path { module: &'static str, path: String },
    #[error(
        "module `{module}`: the prefix `{prefix}` of its routes must start with `/`, must not end with it, and have a name between"
    )]
    Prefix {
        module: &'static str,
        prefix: String,
    },
    #[error(
        "module `{module}`: {method} `{path}` is unreachable, because `{taken}` of {owner} takes its requests"
    )]
    Unreachable {
        module: &'static str,
        method: Method,
        path: String,
        taken: String,
        owner: String,
    },
    #[error(
        "module `{module}`: {route} takes `Use<{needed}>`, which the module does not provide and no other shares (`{handler}`)"
    )]
    NotProvided {
        module: &'static str,
        route: String,
        handler: &'static str,
        needed: &'static str,
    },
    #[error(
        "module `{module}`: two types of its routes are named `{name}` in the OpenAPI document; rename one of them by \
        `#[schema(as = ..)]`"
    )]
    SameSchema { module: &'static str, name: String },
    #[error(
        "module `{module}`: `{handler}` needs the permission `{permission}`, which no manifest declares"
    )]
    Permission {
        module: &'static str,
        handler: &'static str,
        permission: &'static str,
    },
    #[error(
        "module `{module}`: `{handler}` takes `Idempotency`, but its route takes no key; only a POST that creates for an \
         authenticated caller does, and reads its body as a whole"
    )]
    NoKey {
        module: &'static str,
        handler: &'static str,
    },
    #[error(
        "module `{module}`: `{handler}` has a limit by principal, but its route is public; limit it by network"
    )]
    NoPrincipal {
        module: &'static str,
        handler: &'static str,
    },
    #[error("two operations have the id `{id}`; change that of {first} or {second} by `.id(..)`")]
    SameId {
        id: String,
        first: &'static str,
        second: &'static str,
    },
}

/// What routes are checked against.
pub(super) struct RouteChecks<'a> {
    /// All routes, in the order of their declaration.
    routes: &'a [Route],
    /// What each of them takes.
    patterns: Vec<Pattern<'a>>,
    /// What the platform's own routes take.
    built_in: Vec<Pattern<'a>>,
    /// The names that modules declare.
    permissions: &'a [&'a str],
}

impl<'a> RouteChecks<'a> {
    /// `built_in` are the paths of the platform's own routes, `permissions` the names that modules declare.
    pub(super) fn new(
        routes: &'a [Route],
        built_in: &'a [String],
        permissions: &'a [&'a str],
    ) -> Self {
        Self {
            routes,
            patterns: routes.iter().map(|it| Pattern::new(&it.path)).collect(),
            built_in: built_in.iter().map(|it| Pattern::new(it)).collect(),
            permissions,
        }
    }

    /// Checks all of them.
    ///
    /// # Errors
    ///
    /// [`RoutesError`] names the first route with a mistake and what is wrong.
    pub(super) fn check(&self) -> Result<(), RoutesError> {
        (0..self.routes.len()).try_for_each(|place| self.check_at(place))
    }

    fn check_at(&self, place: usize) -> Result<(), RoutesError> {
        let route = &self.routes[place];
        check_path(route)?;
        self.check_reach(route, place)?;
        self.check_permission(route)?;
        check_rules(route)?;
        let mut earlier = self.routes[..place].iter();
        match earlier.find(|earlier| earlier.id == route.id) {
            None => Ok(()),
            Some(first) => Err(RoutesError::SameId {
                id: route.id.clone(),
                first: first.handler,
                second: route.handler,
            }),
        }
    }

    /// Whether requests get to it, and no other route takes them.
    fn check_reach(&self, route: &Route, place: usize) -> Result<(), RoutesError> {
        let example = example_of(&route.path);
        let of_platform = self.built_in.iter().map(|pattern| (pattern, None));
        let of_modules = self.routes.iter().zip(&self.patterns).enumerate();
        let of_modules = of_modules.filter_map(|(other, (earlier, pattern))| {
            // Where paths are equal, the methods are routes of one resource, and the first of a method counts.
            let comes_first = if earlier.path == route.path {
                other < place && earlier.method == route.method
            } else {
                earlier.rank() < route.rank()
            };
            comes_first.then_some((pattern, Some(earlier.module)))
        });
        let mut others = of_platform.chain(of_modules);
        match others.find(|(pattern, _)| pattern.covers(&route.path, example.as_deref())) {
            None => Ok(()),
            Some((taken, owner)) => Err(RoutesError::Unreachable {
                module: route.module,
                method: route.method.http(),
                path: route.path.clone(),
                taken: taken.path.to_owned(),
                owner: owner.map_or("the platform".to_owned(), |it| format!("module `{it}`")),
            }),
        }
    }

    fn check_permission(&self, route: &Route) -> Result<(), RoutesError> {
        match route.operation.permission() {
            Some(permission) if !self.permissions.contains(&permission.name) => {
                Err(RoutesError::Permission {
                    module: route.module,
                    handler: route.handler,
                    permission: permission.name,
                })
            }
            _ => Ok(()),
        }
    }
}

fn check_path(route: &Route) -> Result<(), RoutesError> {
    if is_path(&route.path) {
        return Ok(());
    }
    Err(RoutesError::Path {
        module: route.module,
        path: route.path.clone(),
    })
}

/// Whether what its handler takes and its limits count fits its guard and method.
fn check_rules(route: &Route) -> Result<(), RoutesError> {
    let (module, handler) = (route.module, route.handler);
    if route.operation.takes_claim && !route.rules.takes_key {
        return Err(RoutesError::NoKey { module, handler });
    }
    let by_principal = |limit: &RateLimit| limit.by == CountedBy::Principal;
    if route.operation.is_public() && route.rules.limits.iter().any(by_principal) {
        return Err(RoutesError::NoPrincipal { module, handler });
    }
    Ok(())
}

fn is_path(path: &str) -> bool {
    let mut names: Vec<_> = names_in(path).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    path.starts_with('/')
        && (path == "/" || !path.ends_with('/'))
        && names.len() == count
        && !names.contains(&"")
}

impl Route {
    /// Resources are registered in this order, and the first that matches takes a request.
    pub(super) fn rank(&self) -> (usize, &str) {
        (names_in(&self.path).count(), self.path.as_str())
    }
}

/// What a resource takes.
struct Pattern<'a> {
    path: &'a str,
    resource: ResourceDef,
}

impl<'a> Pattern<'a> {
    fn new(path: &'a str) -> Self {
        Self {
            path,
            resource: ResourceDef::new(path),
        }
    }

    /// Whether it takes the requests for the path `later`, of which there is an example, if it is registered before. A
    /// parameter with its own pattern may stand for anything, so of a path with one it is not known, but for the
    /// same path.
    fn covers(&self, later: &str, example: Option<&str>) -> bool {
        self.path == later || example.is_some_and(|path| self.resource.is_match(path))
    }
}

/// A path that a route answers, with text in the place of its parameters; `None` if one has a pattern.
fn example_of(path: &str) -> Option<String> {
    let mut example = String::new();
    for (place, piece) in path.split('{').enumerate() {
        match piece.split_once('}') {
            Some((name, _)) if name.contains(':') => return None,
            Some((_, rest)) if place > 0 => {
                example.push_str("example");
                example.push_str(rest);
            }
            _ => example.push_str(piece),
        }
    }
    Some(example)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resource_that_matches_first_covers_what_it_matches() {
        for (earlier, later, is_covered) in [
            ("/notes", "/notes", true),
            ("/notes/{id}", "/notes/{name}", true),
            ("/notes/newest", "/notes/{id}", false),
            ("/notes/{id}", "/notes/{id}/tags", false),
            ("/f/{tail:.*}", "/f/{a}/{b}", true),
            ("/f/{tail:.*}", "/f/{id:[0-9]+}/x", false),
            ("/docs/{file}", "/docs/{page}", true),
            ("/ready", "/ready", true),
            ("/ready", "/readyz", false),
        ] {
            let example = example_of(later);
            let covers = Pattern::new(earlier).covers(later, example.as_deref());
            assert_eq!(covers, is_covered, "{earlier} {later}");
        }
    }

    #[test]
    fn a_path_is_whole_and_names_each_parameter_once() {
        for (path, is_right) in [
            ("/notes", true),
            ("/notes/{id}", true),
            ("/notes/", false),
            ("notes", false),
            ("/notes/{id}/{id}", false),
            ("/notes/{}", false),
        ] {
            assert_eq!(is_path(path), is_right, "{path}");
        }
    }
}
