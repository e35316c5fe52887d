//! The daemon `dotmac`. What it does from start to stop is told by `run` in `src/run/mod.rs`.

use std::process::ExitCode;

use actix_web::rt::System;
use dotmac_platform::{
    Exit, Platform,
    cli::{self, Command},
};

/// Why: docs/DEPENDENCIES.md, "Allocator".
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Ok(Command::Serve) => {
            // First of all: it listens for signals.
            let platform = Platform::from_env();
            System::new().block_on(platform.run())
        }
        Ok(command) => System::new().block_on(cli::execute(command)).into(),
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
