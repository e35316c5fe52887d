//! Which methods a path has: for `405` with `Allow`, and for `OPTIONS`.
//!
//! actix's route macros guard the whole resource, so a wrong method falls through to the default
//! service as if the path did not exist. The list of all paths says which it was.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{
    HttpRequest, HttpResponse,
    dev::ResourceDef,
    http::{
        Method, StatusCode,
        header::{self, HeaderValue},
    },
};
use utoipa::openapi::{OpenApi, PathItem};

use super::{Problem, config::RouteSet};

/// All paths with their methods.
pub(super) struct Methods(Vec<Path>);

struct Path {
    pattern: ResourceDef,
    /// Of a path that several patterns match, the one with the fewest takes the request.
    parameters: usize,
    methods: PathMethods,
}

/// One flag for each of [`NAMES`].
type PathMethods = [bool; 8];

const NAMES: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE",
];

impl Methods {
    /// Those of the platform's own routes, by their OpenAPI document, and of modules.
    pub(super) fn of(built_in: &OpenApi, modules: Option<&dyn RouteSet>) -> Self {
        let paths = built_in.paths.paths.iter();
        let mut paths: BTreeMap<_, _> = paths
            .map(|(path, item)| (path.clone(), methods_of(item)))
            .collect();
        for (path, method) in modules.into_iter().flat_map(RouteSet::paths) {
            let methods = paths.entry(path).or_insert(NO_METHODS);
            NAMES
                .iter()
                .zip(methods)
                .filter(|(name, _)| method.as_str() == **name || is_implied_by(name, &method))
                .for_each(|(_, has)| *has = true);
        }
        let paths = paths.into_iter().map(|(path, methods)| Path {
            pattern: ResourceDef::new(path.as_str()),
            parameters: path.matches('{').count(),
            methods,
        });
        Self(paths.collect())
    }

    /// The value of `Allow` for a path that exists. For `*`, which stands for the server as a whole (RFC 9110, 9.3.7), over
    /// all paths.
    pub(super) fn allow(&self, path: &str) -> Option<HeaderValue> {
        let is_server = path == "*";
        let is_matching = |it: &&Path| is_server || it.pattern.is_match(path);
        let matching: Vec<_> = self.0.iter().filter(is_matching).collect();
        let fewest = matching.iter().map(|it| it.parameters).min()?;
        let taking = matching
            .iter()
            .filter(|it| is_server || it.parameters == fewest);
        let union = taking.fold(PathMethods::default(), |sum, next| {
            std::array::from_fn(|method| sum[method] || next.methods[method])
        });
        let names: Vec<&str> = NAMES
            .iter()
            .zip(union)
            .filter_map(|(name, has)| has.then_some(*name))
            .collect();
        HeaderValue::from_str(&names.join(", ")).ok()
    }

    fn unrouted(&self, request: &HttpRequest) -> Result<HttpResponse, Problem> {
        match self.allow(request.path()) {
            None => Err(Problem::not_found("there is no such path").code("not_found")),
            Some(allow) if request.method() == Method::OPTIONS => Ok(HttpResponse::NoContent()
                .insert_header((header::ALLOW, allow))
                .finish()),
            Some(allow) => Err(Problem::new(StatusCode::METHOD_NOT_ALLOWED)
                .detail("this path does not support this method; `Allow` lists the supported ones")
                .code("method_not_allowed")
                .header(header::ALLOW, allow)),
        }
    }
}

/// Answers what no route took: 404, 405, or what a path offers. Needs the application's [`Methods`].
pub(crate) async fn unrouted(request: HttpRequest) -> Result<HttpResponse, Problem> {
    match request.app_data::<Arc<Methods>>() {
        Some(methods) => methods.unrouted(&request),
        None => Err(Problem::internal(
            "an application that does not know its paths",
        )),
    }
}

/// The methods of every path: [`Methods::unrouted`] answers `OPTIONS`.
const NO_METHODS: PathMethods = [false, false, false, false, false, false, true, false];

/// The envelope answers `HEAD` wherever there is `GET`.
fn is_implied_by(name: &str, method: &Method) -> bool {
    name == "HEAD" && method == Method::GET
}

/// Those of a documented path, and those that every path has.
fn methods_of(item: &PathItem) -> PathMethods {
    let get = item.get.is_some();
    [
        get,
        get || item.head.is_some(),
        item.post.is_some(),
        item.put.is_some(),
        item.patch.is_some(),
        item.delete.is_some(),
        true,
        item.trace.is_some(),
    ]
}
