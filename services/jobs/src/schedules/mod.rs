//! Schedules over HTTP: jobs that are enqueued at certain times.

mod bodies;
mod routes;
pub(crate) mod rules;

pub(crate) use routes::declare;
