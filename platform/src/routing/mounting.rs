//! All routes of all modules: checked, written into the OpenAPI document, and given to each worker.

use std::{any::TypeId, collections::BTreeMap, sync::Arc, time::Duration};

use actix_web::{dev::ResourceDef, http::Method, web};
use utoipa::openapi::OpenApi;

use super::{
    RateLimit, argument::names_in, operation::About, rate_limit::CountedBy, routes::Route,
};
use crate::http::unrouted;

/// The routes of a program's modules. Clones are the same routes.
#[derive(Clone, Default)]
pub(crate) struct MountedRoutes(Arc<Vec<Route>>);

/// A limit that a route has of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RouteLimits {
    /// The largest body, in bytes.
    pub(crate) body: Option<usize>,
    /// The longest time to the head of the answer.
    pub(crate) time: Option<Duration>,
}

/// Routes that cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RoutesError {
    #[error(
        "module `{module}`: the path `{path}` must start with `/`, must not end with it, and names each parameter once"
    )]
    Path { module: &'static str, path: String },
    #[error(
        "module `{module}`: {method} `{path}` can never be reached, because `{taken}` of {owner} takes its requests"
    )]
    Unreachable {
        module: &'static str,
        method: Method,
        path: String,
        taken: String,
        owner: String,
    },
    #[error("module `{module}`: `{handler}` takes `Use<{needed}>`, which no module provides")]
    NotProvided {
        module: &'static str,
        handler: &'static str,
        needed: &'static str,
    },
    #[error(
        "module `{module}`: `{handler}` asks for the permission `{permission}`, which no module declares in its manifest"
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
    #[error(
        "two operations have the id `{id}`; give one of {first} and {second} another by `.id(..)`"
    )]
    SameId {
        id: String,
        first: &'static str,
        second: &'static str,
    },
}

impl MountedRoutes {
    /// Checks that every route can be reached and that all it needs is provided.
    ///
    /// `built_in` are the paths of the platform's own routes, `permissions` the names that modules declare;
    /// `is_provided` says what handlers are given.
    ///
    /// # Errors
    ///
    /// [`RoutesError`] names the route and what is wrong.
    pub(crate) fn new(
        routes: Vec<Route>,
        built_in: &[String],
        permissions: &[&str],
        is_provided: impl Fn(TypeId) -> bool,
    ) -> Result<Self, RoutesError> {
        for (place, route) in routes.iter().enumerate() {
            let module = route.module;
            if !is_path(&route.path) {
                return Err(RoutesError::Path {
                    module,
                    path: route.path.clone(),
                });
            }
            let of_platform = built_in
                .iter()
                .map(|path| (path.as_str(), "the platform".to_owned()));
            let of_modules = routes.iter().enumerate().filter_map(|(other, earlier)| {
                // Where paths are equal, the methods are routes of one resource, and the first of a method counts.
                let comes_first = if earlier.path == route.path {
                    other < place && earlier.method == route.method
                } else {
                    earlier.rank() < route.rank()
                };
                comes_first.then(|| {
                    let owner = format!("module `{}`", earlier.module);
                    (earlier.path.as_str(), owner)
                })
            });
            let shadow = of_platform
                .chain(of_modules)
                .find(|(path, _)| covers(path, &route.path));
            if let Some((taken, owner)) = shadow {
                return Err(RoutesError::Unreachable {
                    module,
                    method: route.method.http(),
                    path: route.path.clone(),
                    taken: taken.to_owned(),
                    owner,
                });
            }
            if let Some(needed) = route
                .operation
                .needs
                .iter()
                .find(|needed| !is_provided(needed.id))
            {
                return Err(RoutesError::NotProvided {
                    module,
                    handler: route.handler,
                    needed: needed.name,
                });
            }
            if let Some(permission) = route.operation.permission()
                && !permissions.contains(&permission.name)
            {
                return Err(RoutesError::Permission {
                    module,
                    handler: route.handler,
                    permission: permission.name,
                });
            }
            if route.operation.takes_claim && !route.rules.takes_key {
                return Err(RoutesError::NoKey {
                    module,
                    handler: route.handler,
                });
            }
            let by_principal = |limit: &RateLimit| limit.by == CountedBy::Principal;
            if route.operation.is_public() && route.rules.limits.iter().any(by_principal) {
                return Err(RoutesError::NoPrincipal {
                    module,
                    handler: route.handler,
                });
            }
            if let Some(other) = routes[..place]
                .iter()
                .find(|earlier| earlier.id == route.id)
            {
                return Err(RoutesError::SameId {
                    id: route.id.clone(),
                    first: other.handler,
                    second: route.handler,
                });
            }
        }
        Ok(Self(Arc::new(routes)))
    }

    pub(crate) fn are_any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Adds one operation for each route.
    pub(crate) fn describe(&self, document: &mut OpenApi) {
        for route in self.0.iter() {
            let about = About {
                id: &route.id,
                tag: route.module,
                summary: route.summary.as_deref(),
                description: route.description.as_deref(),
            };
            let path = without_patterns(&route.path);
            route
                .operation
                .write(document, route.method.documented(), &path, &about);
        }
    }

    /// Registers all routes with one worker's application: paths with fewer parameters first, so that
    /// `/notes/newest` is not taken for `/notes/{id}`.
    pub(crate) fn register(&self, app: &mut web::ServiceConfig) {
        let mut paths: BTreeMap<(usize, &str), Vec<&Route>> = BTreeMap::new();
        for route in self.0.iter() {
            paths.entry(route.rank()).or_default().push(route);
        }
        for ((_, path), routes) in paths {
            let resource = routes.iter().fold(web::resource(path), |resource, route| {
                resource.route((route.register)(Arc::clone(&route.rules)))
            });
            // actix's own limit stands in the way of a larger one; the exact one is the envelope's.
            let largest = routes.iter().filter_map(|route| route.body_limit).max();
            let resource = match largest {
                Some(bytes) => resource.app_data(web::PayloadConfig::new(bytes)),
                None => resource,
            };
            app.service(resource.default_service(web::to(unrouted)));
        }
    }

    /// The limits that routes have of their own, by pattern and method.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&str, Method, RouteLimits)> {
        self.0.iter().filter_map(|route| {
            let limits = RouteLimits {
                body: route.body_limit,
                time: route.rules.time_limit,
            };
            (limits != RouteLimits::default())
                .then(|| (route.path.as_str(), route.method.http(), limits))
        })
    }
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
    fn rank(&self) -> (usize, &str) {
        (names_in(&self.path).count(), self.path.as_str())
    }
}

/// Whether a resource at `earlier`, registered before it, takes the requests for `later`. A parameter with a pattern
/// of its own may stand for anything, so of a path with one it is not known, but for the same path.
fn covers(earlier: &str, later: &str) -> bool {
    earlier == later
        || example_of(later).is_some_and(|path| ResourceDef::new(earlier).is_match(&path))
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
            assert_eq!(covers(earlier, later), is_covered, "{earlier} {later}");
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

    #[test]
    fn patterns_are_not_in_the_document() {
        assert_eq!(
            without_patterns("/f/{id:[0-9]+}/x/{name}"),
            "/f/{id}/x/{name}"
        );
        assert_eq!(without_patterns("/f"), "/f");
    }
}
