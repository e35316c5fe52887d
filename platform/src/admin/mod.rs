//! The operator's way in: HTTP over a Unix socket that only the daemon's own user may open.
//!
//! It has a thread and its own runtime, so it answers while all workers are busy and while actors
//! hang. Nothing of it is reachable from another machine. Each action is logged with the user and the
//! process that asked for it, and recorded in the audit log if the program has one. The other end is `src/cli/admin.rs`; what they say to each other is in
//! [`messages`].

pub(crate) mod messages;
mod record;
mod routes;
mod socket;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use actix_web::{App, HttpServer, dev::ServerHandle, web::Data};
use dotmac_db::ModuleDb;
use dotmac_supervision::SupervisorHandle;
use dotmac_telemetry::Telemetry;

use crate::{
    about::About,
    http::{self, Workers},
    module::Explanation,
    routing::ModuleRequests,
};

/// The state behind the admin routes.
#[derive(Clone)]
pub(crate) struct AdminContext {
    pub(crate) telemetry: Telemetry,
    pub(crate) supervisor: SupervisorHandle,
    pub(crate) about: About,
    pub(crate) workers: Workers,
    pub(crate) requests: Vec<Arc<ModuleRequests>>,
    /// The modules that are switched off.
    pub(crate) modules_off: Vec<&'static str>,
    pub(crate) explanations: Vec<Explanation>,
    /// Where acts are recorded, if the program has an audit log.
    pub(crate) audit: Option<ModuleDb>,
}

/// An open socket. Closed, and its file removed, when dropped.
pub(crate) struct Admin {
    path: PathBuf,
    server: ServerHandle,
}

/// Why the socket cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("failed to open the admin socket `{path}`")]
pub(crate) struct OpenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// Opens the socket at `path` and answers on it from now on.
///
/// # Errors
///
/// [`OpenError`]: the directory is missing or not writable, another process answers there, or the
/// system has no thread left.
pub(crate) fn open(path: &Path, context: AdminContext) -> Result<Admin, OpenError> {
    let refused = |source| OpenError {
        path: path.to_owned(),
        source,
    };
    let listener = socket::bind(path).map_err(refused)?;
    let serve = move || {
        let app = move || {
            App::new()
                .app_data(Data::new(context.clone()))
                .configure(routes::all)
        };
        let server = HttpServer::new(app)
            .workers(1)
            .disable_signals()
            .on_connect(socket::note_peer)
            .listen_uds(listener)?;
        Ok(server.run())
    };
    let server = http::serve_on_own_thread("admin", serve).map_err(refused)?;
    Ok(Admin {
        path: path.to_owned(),
        server,
    })
}

impl Drop for Admin {
    fn drop(&mut self) {
        // Done without waiting: the process is about to end.
        drop(self.server.stop(false));
        std::fs::remove_file(&self.path).ok();
    }
}
