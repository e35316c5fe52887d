//! The HTTP server: probes, metrics, documentation, errors, limits, and the mounted routes.
//!
//! [`bind`] takes the sockets before anything else runs; [`serve`] answers on them. Handlers return
//! [`Problem`] for errors and may take [`RequestId`]; everything else that a request needs (ids, spans,
//! CORS, compression, security headers, limits, panics) is done by the envelope around all routes.
//!
//! Two layers are below it. What is no HTTP at all is answered (400, 431) by actix's protocol layer,
//! without a body. And each connection has limits on how long its client may keep it waiting, however
//! little of HTTP it speaks (`connection`).

mod bind;
mod body;
mod builtin;
mod compression;
mod config;
mod connection;
mod cors;
mod docs;
mod envelope;
mod expectation;
mod extractor_errors;
mod finish;
mod guard;
mod head;
mod in_flight;
mod layers;
mod methods;
mod nul;
mod own_thread;
mod pieces;
mod probes;
mod problem;
mod request_id;
mod server;
mod trace;
mod trusted;
mod workers;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use bind::{BindError, Listeners, bind};
pub(crate) use config::is_draining;
pub use config::{Config, Parts, ProcessState, Routes, Scrape, Surface};
pub(crate) use config::{RouteLimits, RouteSet};
pub use connection::ConnectionLimit;
pub use cors::CorsPolicyError;
pub(crate) use docs::EventsDocument;
pub(crate) use envelope::is_head;
pub(crate) use extractor_errors::{
    body as incomplete_body, field_at_fault, malformed_json, unsupported,
};
pub(crate) use methods::unrouted;
pub(crate) use own_thread::serve_on_own_thread;
pub(crate) use probes::vitals;
pub(crate) use problem::ProblemBody;
pub use problem::{FieldError, ItemProblem, Problem, ProblemType};
pub use request_id::RequestId;
pub(crate) use server::built_in_paths;
pub use server::{Running, ServeError, openapi, serve};
pub use trace::User;
pub(crate) use trace::origin;
pub(crate) use workers::WORKERS_BLOCKED;
pub use workers::{BlockedWorker, Workers};

pub use crate::tls::{TlsCertificates, TlsError, TlsFiles};
