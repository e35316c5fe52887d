//! The routes of one module, as it declares them.

use std::{sync::Arc, time::Duration};

use actix_web::{
    HttpRequest,
    http::Method,
    web::{self, Payload},
};
use utoipa::openapi::path::HttpMethod;

use super::{
    Endpoint, ModuleRequests, Operation, RateLimit, admission::RouteRules, argument, bulkhead,
    idempotency, rate_limit,
};

/// Collects the routes of a module below one prefix: see [`Mount::routes`](crate::module::Mount::routes).
pub struct Routes {
    module: &'static str,
    prefix: String,
    requests: Arc<ModuleRequests>,
    routes: Vec<Route>,
}

/// One route: a method, a path, a handler. What its types do not say can be added.
pub struct Route {
    pub(super) module: &'static str,
    pub(super) method: RouteMethod,
    pub(super) path: String,
    pub(super) handler: &'static str,
    pub(super) id: String,
    pub(super) summary: Option<String>,
    pub(super) description: Option<String>,
    pub(super) operation: Operation,
    pub(super) body_limit: Option<usize>,
    pub(super) rules: Arc<RouteRules>,
    pub(super) register: Arc<dyn Fn(Arc<RouteRules>) -> actix_web::Route + Send + Sync>,
}

/// A method that routes can have. HEAD follows GET, and OPTIONS is answered for every path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
}

impl RouteMethod {
    pub(super) fn http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }

    pub(super) fn documented(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Post => HttpMethod::Post,
            Self::Put => HttpMethod::Put,
            Self::Patch => HttpMethod::Patch,
            Self::Delete => HttpMethod::Delete,
        }
    }
}

impl Routes {
    pub(crate) fn new(module: &'static str, prefix: String, requests: Arc<ModuleRequests>) -> Self {
        Self {
            module,
            prefix,
            requests,
            routes: Vec::new(),
        }
    }

    /// Answers `GET` and `HEAD` for `path` below the prefix: `""`, `"/{id}"`.
    pub fn get<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Get, path, handler)
    }

    /// Answers `POST`.
    pub fn post<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Post, path, handler)
    }

    /// Answers `PUT`.
    pub fn put<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Put, path, handler)
    }

    /// Answers `PATCH`.
    pub fn patch<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Patch, path, handler)
    }

    /// Answers `DELETE`.
    pub fn delete<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Delete, path, handler)
    }

    pub(crate) fn into_routes(self) -> Vec<Route> {
        self.routes
    }

    fn add<H: Endpoint<A>, A: 'static>(
        &mut self,
        method: RouteMethod,
        path: &str,
        handler: H,
    ) -> &mut Route {
        let path = format!("{}{path}", self.prefix);
        let mut operation = Operation::default();
        H::describe(&mut operation);
        let parameters = argument::path_parameters(&path, &operation.segments);
        operation.parameters.splice(0..0, parameters);
        let function = std::any::type_name::<H>();
        let name = function
            .rsplit("::")
            .find(|part| !part.starts_with('{'))
            .unwrap_or(function);
        let takes_key = method == RouteMethod::Post && operation.can_take_key();
        if takes_key {
            idempotency::describe(&mut operation);
        }
        operation.problem(bulkhead::OVERLOADED);
        let rules = RouteRules {
            name: format!("{} {path}", method.http()),
            module: Arc::clone(&self.requests),
            limits: Vec::new(),
            time_limit: None,
            takes_key,
            keeps_answer: true,
        };
        let register = move |rules: Arc<RouteRules>| {
            let handler = handler.clone();
            web::method(method.http()).to(move |request: HttpRequest, payload: Payload| {
                handler.call(request, payload.into_inner(), Arc::clone(&rules))
            })
        };
        self.routes.push(Route {
            module: self.module,
            method,
            path,
            handler: function,
            id: format!("{}_{name}", self.module),
            summary: None,
            description: None,
            operation,
            body_limit: None,
            rules: Arc::new(rules),
            register: Arc::new(register),
        });
        let last = self.routes.len() - 1;
        &mut self.routes[last]
    }
}

impl Route {
    /// Whether its handler takes a `T` of the program.
    pub(crate) fn needs<T: 'static>(&self) -> bool {
        let id = std::any::TypeId::of::<T>();
        self.operation.needs.iter().any(|needed| needed.id == id)
    }

    /// One line about it in the documentation.
    pub fn summary(&mut self, summary: impl Into<String>) -> &mut Self {
        self.summary = Some(summary.into());
        self
    }

    /// More about it in the documentation, as Markdown.
    pub fn description(&mut self, description: impl Into<String>) -> &mut Self {
        self.description = Some(description.into());
        self
    }

    /// Its id in the documentation, in place of the module's and the handler's names.
    pub fn id(&mut self, id: impl Into<String>) -> &mut Self {
        self.id = id.into();
        self
    }

    /// The largest body in bytes, in place of `DOTMAC_HTTP_BODY_LIMIT`.
    pub fn body_limit(&mut self, bytes: usize) -> &mut Self {
        self.body_limit = Some(bytes);
        self
    }

    /// The longest time from the end of the request's head to the head of the answer, in place of
    /// `DOTMAC_HTTP_REQUEST_TIMEOUT`.
    pub fn time_limit(&mut self, limit: Duration) -> &mut Self {
        self.rules().time_limit = Some(limit);
        self
    }

    /// How often one caller may call it; see [`RateLimit`]. May be given for principals and for networks.
    pub fn rate_limit(&mut self, limit: RateLimit) -> &mut Self {
        rate_limit::describe(&mut self.operation);
        self.rules().limits.push(limit);
        self
    }

    /// The body of its answer holds a secret that is shown once: of a request with an `Idempotency-Key` it is not kept.
    /// A repeat gets 409 `idempotency_answer_not_kept`, with `Location`.
    pub fn secret_answer(&mut self) -> &mut Self {
        self.rules().keeps_answer = false;
        self
    }

    /// While routes are declared nobody shares them.
    fn rules(&mut self) -> &mut RouteRules {
        Arc::make_mut(&mut self.rules)
    }
}
