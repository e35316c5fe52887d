//! Routes of modules: plain async functions whose argument and result types say all about them.
//!
//! From the types come the guard, the OpenAPI operation, the checks of a body, and what a route needs of the
//! program. A route is mounted below `/api/v1`, with its module's name as tag:
//!
//! ```
//! use dotmac_platform::{access::Public, routing::{NoContent, Routes}};
//!
//! async fn forget(_: Public) -> NoContent {
//!     NoContent
//! }
//!
//! fn routes(routes: &mut Routes) {
//!     routes.delete("/memory", forget).summary("Forget everything");
//! }
//! ```
//!
//! A handler without a guard does not compile:
//!
//! ```compile_fail,E0277
//! # use dotmac_platform::routing::{NoContent, Routes};
//! async fn forget() -> NoContent {
//!     NoContent
//! }
//!
//! fn routes(routes: &mut Routes) {
//!     routes.delete("/memory", forget);
//! }
//! ```

/// Compiles the example of the page.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/http.md")]
struct PageOfDocs;

mod accepted;
mod admission;
mod argument;
mod asset;
mod bulkhead;
mod change;
mod conditional;
mod content;
mod context;
mod download;
mod endpoint;
mod error;
mod html;
mod idempotency;
mod incoming;
mod insert;
mod invalid;
mod keyed_limit;
mod limiter;
mod mounting;
mod operation;
mod page;
mod query;
mod rate_limit;
mod reply;
mod request_head;
mod resume;
mod routes;
mod signed;
mod sort;
mod valid;
mod with_headers;

pub use crate::http::ProblemType;
pub use accepted::{
    Accepted, OperationError, OperationProgress, OperationResource, OperationState,
};
pub use argument::{Argument, PathSegment, PathSegments, Use};
pub use asset::{Asset, AssetFile};
pub(crate) use bulkhead::{ModuleRequests, observe as observe_requests};
pub use change::{Change, not_null};
pub use conditional::{IfMatch, PreconditionFailed, Versioned, etag};
pub use content::{Content, ContentFacts, ContentPart, ContentRequest};
pub use context::{ClientAddress, Drain};
pub use download::{Download, FileKind};
pub use endpoint::Endpoint;
pub use error::ApiError;
pub use html::{Html, JsonOrHtml, escaped};
pub use idempotency::Idempotency;
pub(crate) use idempotency::{KeyStore, delete_expired};
pub use incoming::{FormField, IncomingBody, IncomingForm};
pub(crate) use insert::Insert;
pub use invalid::InvalidRequest;
pub use keyed_limit::KeyedLimit;
pub(crate) use limiter::Limiter;
pub use operation::Operation;
pub(crate) use page::CursorKey;
#[doc(hidden)]
pub use page::Reading;
pub use page::{CursorScope, Page, Paging, Rows, Total, Window};
pub use query::Query;
pub use rate_limit::RateLimit;
pub use reply::{Created, Creation, NoContent, Reply};
pub use request_head::RequestHead;
pub use resume::Resume;
pub use routes::{Route, Routes};
pub use signed::{SignedBody, SignedMessage};
pub use sort::{Sort, SortColumn};
pub use valid::Valid;
pub use with_headers::{Noted, WithHeaders};

pub(crate) use mounting::{MountedRoutes, RoutesError};
