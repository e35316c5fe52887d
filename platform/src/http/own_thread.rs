//! A server on its own thread, so that it answers independently of the other threads.

use std::{io, sync::mpsc, thread};

use actix_web::dev::{Server, ServerHandle};

/// Starts the server that `serve` makes on a thread with its own runtime, both of this `name`. Returns when
/// it answers.
///
/// # Errors
///
/// The error of `serve`; or that of the system, if it has no thread left.
pub(crate) fn serve_on_own_thread<E>(
    name: &'static str,
    serve: impl FnOnce() -> Result<Server, E> + Send + 'static,
) -> Result<ServerHandle, E>
where
    E: From<io::Error> + Send + 'static,
{
    let (started, starts) = mpsc::sync_channel(1);
    let run = move || {
        let run = async move {
            match serve() {
                Ok(server) => {
                    // There is no receiver if the caller has given up.
                    started.send(Ok(server.handle())).ok();
                    if let Err(error) = server.await {
                        tracing::error!(%error, "the server `{name}` has ended");
                    }
                }
                Err(error) => drop(started.send(Err(error))),
            }
        };
        actix_web::rt::System::new().block_on(run);
    };
    // Not joined: it ends with its server, or with the process.
    thread::Builder::new().name(name.to_owned()).spawn(run)?;
    starts
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("its thread has ended").into()))
}
