//! The daemon `dotmac`. What it does from start to stop is told by `run` in `src/run/mod.rs`.

use std::process::ExitCode;

use dotmac_platform::{
    Exit, Platform,
    cli::{self, Command},
};

/// Why: docs/DEPENDENCIES.md, "Allocator".
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[actix_web::main]
async fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve) => Platform::from_env().run().await,
        Ok(command) => cli::execute(command).await.into(),
        Err(refusal) => {
            let exit = if refusal.use_stderr() {
                Exit::Usage
            } else {
                Exit::Success
            };
            // A closed terminal is no reason to fail.
            refusal.print().ok();
            exit.into()
        }
    }
}
