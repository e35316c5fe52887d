//! The routes of one module, as it declares them.

use std::{sync::Arc, time::Duration};

use actix_web::{
    Error, HttpRequest, HttpResponse, dev,
    http::Method,
    web::{self, Payload},
};
use futures_util::future::LocalBoxFuture;
use utoipa::openapi::path::HttpMethod;

use super::{
    Endpoint, Insert, ModuleRequests, Operation, ProblemType, RateLimit, RoutesError,
    admission::RouteRules, bulkhead, idempotency, operation::Documented, rate_limit,
};
use crate::access::Authentication;

/// Collects the routes of a module below one prefix: see [`Mount::routes`](crate::module::Mount::routes).
pub struct Routes {
    module: &'static str,
    prefix: String,
    requests: Arc<ModuleRequests>,
    /// Whether no cache may keep the answers of what is declared from now on.
    no_store: bool,
    /// Which problems of their error the routes answer with that are declared from now on.
    problems: Option<&'static [ProblemType]>,
    routes: Vec<Route>,
    /// The first mistake.
    mistake: Option<RoutesError>,
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
    /// What its types say, without what is documentation alone.
    pub(super) operation: Operation,
    describe: Describe,
    problems: Option<&'static [ProblemType]>,
    pub(super) body_limit: Option<usize>,
    pub(super) hides_path: bool,
    pub(super) rules: Arc<RouteRules>,
    call: Arc<Call>,
    /// The values that its handler takes, once all are known.
    pub(super) inserts: Vec<Insert>,
}

/// [`Endpoint::describe`] of its handler.
type Describe = fn(&mut Operation);

/// [`Endpoint::call`] of its handler.
type Call = dyn Fn(
        HttpRequest,
        dev::Payload,
        Arc<RouteRules>,
    ) -> LocalBoxFuture<'static, Result<HttpResponse, Error>>
    + Send
    + Sync;

/// A method that routes can have. HEAD follows GET, and OPTIONS is answered for every path that has none of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RouteMethod {
    Get,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl RouteMethod {
    pub(super) fn http(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
            Self::Options => Method::OPTIONS,
        }
    }

    pub(super) fn documented(self) -> HttpMethod {
        match self {
            Self::Get => HttpMethod::Get,
            Self::Post => HttpMethod::Post,
            Self::Put => HttpMethod::Put,
            Self::Patch => HttpMethod::Patch,
            Self::Delete => HttpMethod::Delete,
            Self::Options => HttpMethod::Options,
        }
    }
}

impl Routes {
    /// Collects those below `root` and `prefix`.
    pub(crate) fn new(
        module: &'static str,
        (root, prefix): (&str, &str),
        requests: Arc<ModuleRequests>,
    ) -> Self {
        let is_prefix = prefix.len() > 1 && prefix.starts_with('/') && !prefix.ends_with('/');
        let mistake = (!is_prefix).then(|| RoutesError::Prefix {
            module,
            prefix: prefix.to_owned(),
        });
        Self {
            module,
            prefix: format!("{root}{prefix}"),
            requests,
            no_store: false,
            problems: None,
            routes: Vec::new(),
            mistake,
        }
    }

    /// Lets no cache keep the answers of the routes that are declared from now on, errors among them:
    /// `Cache-Control: no-store`, unless an answer has that header itself.
    pub fn no_store(&mut self) {
        self.no_store = true;
    }

    /// Which problems of their [error](super::ApiError) the routes that are declared from now on answer with, for the
    /// documentation; without it, all.
    pub fn problems(&mut self, problems: &'static [ProblemType]) {
        self.problems = Some(problems);
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

    /// Answers `OPTIONS`, for protocols that say by it what they offer; of other paths it is answered anyway.
    pub fn options<H: Endpoint<A>, A: 'static>(&mut self, path: &str, handler: H) -> &mut Route {
        self.add(RouteMethod::Options, path, handler)
    }

    /// All of them.
    ///
    /// # Errors
    ///
    /// The first mistake in their prefix or paths.
    pub(crate) fn into_routes(self) -> Result<Vec<Route>, RoutesError> {
        match self.mistake {
            Some(mistake) => Err(mistake),
            None => Ok(self.routes),
        }
    }

    fn add<H: Endpoint<A>, A: 'static>(
        &mut self,
        method: RouteMethod,
        declared: &str,
        handler: H,
    ) -> &mut Route {
        let call = move |request, payload, rules| handler.call(request, payload, rules);
        let function = std::any::type_name::<H>();
        self.add_described(method, declared, H::describe, function, Arc::new(call))
    }

    /// The part of [`add`](Self::add) that knows no types of the handler.
    fn add_described(
        &mut self,
        method: RouteMethod,
        declared: &str,
        describe: Describe,
        function: &'static str,
        call: Arc<Call>,
    ) -> &mut Route {
        let path = format!("{}{declared}", self.prefix);
        if !declared.is_empty() && !declared.starts_with('/') {
            let (module, path) = (self.module, declared.to_owned());
            self.mistake
                .get_or_insert(RoutesError::Path { module, path });
        }
        let mut operation = Operation::default();
        describe(&mut operation);
        let takes_key = method == RouteMethod::Post && operation.can_take_key();
        if takes_key {
            idempotency::describe(&mut operation);
        }
        let rules = RouteRules {
            name: format!("{} {path}", method.http()),
            module: Arc::clone(&self.requests),
            limits: Vec::new(),
            time_limit: None,
            takes_key,
            keeps_answer: true,
            no_store: self.no_store,
            query: operation.query_parameters(),
        };
        self.routes.push(Route {
            module: self.module,
            method,
            path,
            handler: function,
            id: operation_id(self.module, function, method, declared),
            summary: None,
            description: None,
            operation,
            describe,
            problems: self.problems,
            body_limit: None,
            hides_path: false,
            rules: Arc::new(rules),
            call,
            inserts: Vec::new(),
        });
        let last = self.routes.len() - 1;
        &mut self.routes[last]
    }
}

/// The id of an operation: its module and the name of its handler; of a closure, which has none, its method and the parts
/// of its path.
fn operation_id(module: &str, function: &str, method: RouteMethod, path: &str) -> String {
    let name = function.rsplit("::").next().unwrap_or(function);
    if !name.starts_with('{') {
        return format!("{module}_{name}");
    }
    let method = method.http().as_str().to_ascii_lowercase();
    let parts = path.split(|letter: char| !letter.is_ascii_alphanumeric());
    let parts = parts.filter(|part| !part.is_empty());
    parts.fold(format!("{module}_{method}"), |id, part| id + "_" + part)
}

impl Route {
    /// It for a worker's application.
    pub(super) fn registered(&self) -> actix_web::Route {
        let (call, rules) = (Arc::clone(&self.call), Arc::clone(&self.rules));
        web::method(self.method.http()).to(move |request: HttpRequest, payload: Payload| {
            call(request, payload.into_inner(), Arc::clone(&rules))
        })
    }

    /// Its operation with all that the document says of it.
    pub(super) fn documented(&self, authentication: &Authentication) -> Documented {
        let mut operation = Operation::documented();
        (self.describe)(&mut operation);
        if !operation.is_public() {
            let permission = operation.permission();
            let method = self.method.http();
            let of_guard = authentication.problems(&method, &self.path, permission);
            of_guard
                .into_iter()
                .for_each(|problem| operation.problem(problem));
        }
        operation.take_problems_of_error(self.problems);
        if self.rules.takes_key {
            idempotency::describe(&mut operation);
        }
        operation.problem(bulkhead::OVERLOADED);
        if !self.rules.limits.is_empty() {
            rate_limit::describe(&mut operation);
        } else if !operation.is_public() {
            // A principal may have a limit of its own.
            operation.problem(rate_limit::LIMITED);
        }
        operation.into_documented(&self.path)
    }

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

    /// Which problems of its handler's [error](super::ApiError) it answers with, for the documentation; without it, all.
    pub fn problems(&mut self, problems: &'static [ProblemType]) -> &mut Self {
        self.problems = Some(problems);
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

    /// A part of its path is a secret, such as a token: spans and lines of the log have its pattern in place of the path.
    pub fn secret_path(&mut self) -> &mut Self {
        self.hides_path = true;
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

    /// Several [rate limits](Self::rate_limit): those of a network and of a wide one.
    pub fn rate_limits(&mut self, limits: impl IntoIterator<Item = RateLimit>) -> &mut Self {
        for limit in limits {
            self.rate_limit(limit);
        }
        self
    }

    /// The body of its answer holds a secret that is shown once: of a request with an `Idempotency-Key` it is not kept.
    /// A repeat gets 409 `idempotency_answer_not_kept`, with `Location`.
    pub fn secret_answer(&mut self) -> &mut Self {
        self.rules().keeps_answer = false;
        self
    }

    /// While routes are declared they are not shared.
    fn rules(&mut self) -> &mut RouteRules {
        Arc::make_mut(&mut self.rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_has_the_name_of_its_function_or_of_its_place() {
        for (function, path, id) in [
            ("notes::routes::add", "", "notes_add"),
            ("notes::routes::declare::{{closure}}", "", "notes_get"),
            (
                "notes::routes::declare::{{closure}}",
                "/{id}/tags",
                "notes_get_id_tags",
            ),
        ] {
            assert_eq!(operation_id("notes", function, RouteMethod::Get, path), id);
        }
    }
}
