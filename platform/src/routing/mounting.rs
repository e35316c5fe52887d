//! All routes of all modules: checked, written into the OpenAPI document, and given to each worker.

mod checks;
mod document;
mod references;

use std::{any::TypeId, collections::BTreeMap, sync::Arc};

use actix_web::{guard, http::Method, web};
use tracing::error;
use utoipa::openapi::OpenApi;
use utoipa_actix_web::service_config::ServiceConfig;

pub(crate) use self::checks::RoutesError;
use self::{checks::RouteChecks, document::Documents};
use super::{Insert, routes::Route};
use crate::{
    access::Authentication,
    http::{RouteLimits, RouteSet, unrouted},
};

/// The routes of a program's modules. Clones are the same routes.
#[derive(Clone, Default)]
pub(crate) struct MountedRoutes(Arc<Vec<Route>>, Authentication);

impl MountedRoutes {
    /// Checks that every route can be reached and that all it needs is provided.
    ///
    /// `built_in` are the paths of the platform's own routes, `permissions` the names that modules declare;
    /// `authentication` says what guards answer, `provided` finds a value for the handlers of a module.
    ///
    /// # Errors
    ///
    /// [`RoutesError`] names the route and what is wrong.
    pub(crate) fn new(
        mut routes: Vec<Route>,
        built_in: &[String],
        permissions: &[&str],
        authentication: Authentication,
        provided: impl Fn(&'static str, TypeId) -> Option<Insert>,
    ) -> Result<Self, RoutesError> {
        RouteChecks::new(&routes, built_in, permissions).check()?;
        routes
            .iter_mut()
            .try_for_each(|route| route.resolve(&provided))?;
        // A mistake in the code, which a start need not look for again and again.
        if cfg!(debug_assertions) {
            Documents::of(&routes, &authentication)?;
        }
        Ok(Self(Arc::new(routes), authentication))
    }

    pub(crate) fn are_any(&self) -> bool {
        !self.0.is_empty()
    }
}

impl RouteSet for MountedRoutes {
    /// Paths with fewer parameters first, so that `/notes/newest` is not taken for `/notes/{id}`.
    fn mount(&self, app: &mut ServiceConfig<'_>) {
        let mut paths: BTreeMap<_, BTreeMap<&str, Vec<&Route>>> = BTreeMap::new();
        for route in self.0.iter() {
            let of_path = paths.entry(route.rank()).or_default();
            of_path.entry(route.module).or_default().push(route);
        }
        app.map(|app| {
            for ((_, path), modules) in &paths {
                for routes in modules.values() {
                    app.service(resource(path, routes, modules.len() > 1));
                }
            }
            app
        });
    }

    fn paths(&self) -> Vec<(String, Method)> {
        let paths = self.0.iter();
        paths
            .map(|route| (route.path.clone(), route.method.http()))
            .collect()
    }

    /// One operation for each route, and the schemas that they name.
    fn describe(&self, document: &mut OpenApi) {
        match Documents::of(&self.0, &self.1) {
            Ok(documents) => documents.write(document),
            Err(error) => error!("the document lacks the routes of modules: {error}"),
        }
    }

    fn limits(&self) -> Vec<(String, Method, RouteLimits)> {
        let limits = self.0.iter().map(|route| {
            let limits = RouteLimits {
                body: route.body_limit,
                time: route.rules.time_limit,
                hides_path: route.hides_path,
                takes_bytes: route.operation.streams_body,
            };
            (route.path.clone(), route.method.http(), limits)
        });
        limits
            .filter(|(_, _, limits)| *limits != RouteLimits::default())
            .collect()
    }
}

/// The resource of one module's routes at `path`, with the values of that module. Where modules share the path, a resource
/// takes requests of its own methods only.
fn resource(path: &str, routes: &[&Route], is_shared: bool) -> actix_web::Resource {
    let mut resource = web::resource(path);
    if is_shared {
        let methods = routes.iter().map(|route| route.method.http());
        let own = methods.fold(guard::Any(guard::fn_guard(|_| false)), |any, method| {
            any.or(guard::Method(method))
        });
        resource = resource.guard(own);
    }
    for route in routes {
        resource = resource.route(route.registered());
        resource = route
            .inserts
            .iter()
            .fold(resource, |resource, insert| insert.add_to(resource));
    }
    // actix's own limit stands in the way of a larger one; the exact one is the envelope's.
    let largest = routes.iter().filter_map(|route| route.body_limit).max();
    if let Some(bytes) = largest {
        resource = resource.app_data(web::PayloadConfig::new(bytes));
    }
    resource.default_service(web::to(unrouted))
}

impl Route {
    /// Finds the values that its handler takes.
    fn resolve(
        &mut self,
        provided: &impl Fn(&'static str, TypeId) -> Option<Insert>,
    ) -> Result<(), RoutesError> {
        for needed in &self.operation.needs {
            let insert = provided(self.module, needed.id);
            self.inserts
                .push(insert.ok_or_else(|| RoutesError::NotProvided {
                    module: self.module,
                    route: self.rules.name.clone(),
                    handler: self.handler,
                    needed: needed.name,
                })?);
        }
        Ok(())
    }
}
