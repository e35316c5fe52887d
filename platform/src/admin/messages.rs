//! The messages of the admin socket.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `PUT /log-level`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SetLogLevel {
    /// A level or directives; a level where there is a target.
    pub(crate) level: String,
    /// The target alone.
    pub(crate) target: Option<String>,
    /// After how many milliseconds it is taken back.
    pub(crate) for_ms: Option<u64>,
}

/// `POST /restart`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Restart {
    /// The component's name.
    pub(crate) component: String,
}

/// The present log level, in answer to [`SetLogLevel`].
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LogLevel {
    /// Directives.
    pub(crate) level: String,
}

/// `GET /status`.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Name of the program.
    pub(crate) program: String,
    pub(crate) version: String,
    pub(crate) pid: u32,
    /// As `/ready` says it.
    pub(crate) status: String,
    /// Why it is not ready.
    pub(crate) reason: Option<String>,
    /// Whether the supervisor makes progress.
    pub(crate) alive: bool,
    /// The log level, as directives.
    pub(crate) log_level: String,
    pub(crate) leaked_threads: usize,
    /// In the order of their start.
    pub(crate) components: Vec<ComponentStatus>,
    /// The use of shared resources by each module.
    pub(crate) modules: Vec<ModuleStatus>,
    /// The names of the modules that are switched off.
    pub(crate) modules_off: Vec<String>,
}

/// A module, its shares, and what it says of its work.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct ModuleStatus {
    pub(crate) name: String,
    /// Absent for work of the platform's own.
    pub(crate) requests: Option<RequestShare>,
    pub(crate) connections: Option<ConnectionShare>,
    /// Sentences about its work: waiting items and their cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) explanations: Vec<String>,
}

/// The requests of one module.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct RequestShare {
    pub(crate) under_way: usize,
    /// The most that there may be at a time.
    pub(crate) max: usize,
    /// Requests that were refused since the start.
    pub(crate) refused: u64,
}

/// The database connections of one module.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ConnectionShare {
    pub(crate) used: usize,
    /// The most that it may use at a time.
    pub(crate) max: usize,
    /// Pieces of its work that wait for one.
    pub(crate) waiting: usize,
}

/// One component and its actor.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ComponentStatus {
    pub(crate) name: String,
    pub(crate) state: String,
    pub(crate) required: bool,
    pub(crate) reason: Option<String>,
    pub(crate) source: Option<String>,
    /// RFC 3339 in UTC.
    pub(crate) since: String,
    pub(crate) generation: u64,
    /// Lives that it had before this one, as `/ready` says it.
    pub(crate) restarts: u64,
    /// Ends of a life by cause, those that have happened.
    pub(crate) ends: BTreeMap<String, u64>,
    pub(crate) calls_in_flight: usize,
    pub(crate) heartbeat_age_ms: Option<u64>,
    /// The last warning or error with a cause that it logged; the cause may be gone by now.
    pub(crate) last_error: Option<LastError>,
    /// Present for a worker only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) worker: Option<WorkerStatus>,
}

/// A warning or an error of a component.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct LastError {
    /// RFC 3339 in UTC.
    pub(crate) at: String,
    /// On one line.
    pub(crate) text: String,
}

/// Runs and progress of a worker.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WorkerStatus {
    /// Runs that ended without an error.
    pub(crate) runs: u64,
    /// End of the last of them, RFC 3339 in UTC.
    pub(crate) last_success: Option<String>,
    /// Duration of the current run so far, in milliseconds; absent between runs.
    pub(crate) running_ms: Option<u64>,
    /// Units of work that the current run has done, if it reports them.
    pub(crate) done: Option<u64>,
    /// Units of work of the current run in total, if it knows them.
    pub(crate) total: Option<u64>,
}
