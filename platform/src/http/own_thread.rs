//! A server on a thread of its own, so that it answers whatever the other threads do.

use std::{io, sync::mpsc, thread};

use actix_web::dev::{Server, ServerHandle};

/// Starts the server that `serve` makes on a thread with a runtime of its own, both of this `name`. Returns when
/// it answers.
///
/// # Errors
///
/// What `serve` says; or what the system says, if it has no thread left.
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
                    // Nobody listens if the one who asked has given up.
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
