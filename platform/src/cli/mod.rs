//! The command line: `dotmac` alone serves; the other commands look, and leave.

mod admin;
mod backup;
mod check;
mod config;
mod migrate;
mod openapi;
mod probe;

use std::error::Error;

use clap::{Parser, Subcommand};

use crate::{
    Exit,
    settings::{Catalogue, Settings},
};

/// A supervised, actor-based runtime for services.
///
/// Settings come from the environment (DOTMAC_...); `dotmac config` shows them.
#[derive(Parser)]
#[command(
    name = "dotmac",
    version,
    after_help = "Exit codes: 0 stopped as asked, 1 a probe or a running daemon says no, 64 usage, \
    69 a dependency is missing at the start, 70 supervision gave up, 75 the stop overran, 78 settings, 130 second signal."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// What `dotmac` can be told to do.
#[derive(Subcommand)]
pub enum Command {
    /// Run the daemon; also what `dotmac` alone does.
    Serve,
    /// Check the settings and report every mistake; with `--connect` also what they name.
    Check(check::Arguments),
    /// Show the effective settings and where each comes from; secrets are redacted.
    Config(config::Arguments),
    /// Bring the database's schema up to date, show what it lacks, or take migrations back.
    Migrate(migrate::Arguments),
    /// Copy the SQLite database to a file, also while the daemon runs, and check the copy.
    Backup(backup::Arguments),
    /// Ask a running daemon how it is: exit 0 or 1, for images without curl.
    Probe(probe::Arguments),
    /// What goes through the admin socket of a running daemon.
    #[command(flatten)]
    Admin(admin::Ask),
    /// Print the OpenAPI document of the built-in routes.
    Openapi,
}

/// Reads the command line.
///
/// # Errors
///
/// What clap would print: a mistake, or the text of `--help` or `--version`.
pub fn parse() -> Result<Command, clap::Error> {
    Cli::try_parse().map(|cli| cli.command.unwrap_or(Command::Serve))
}

/// Carries out any command but [`Command::Serve`], which is [`Platform::run`](crate::Platform::run).
pub async fn execute(command: Command) -> Exit {
    match command {
        Command::Serve => Exit::Usage,
        Command::Check(arguments) => Box::pin(check::run(&arguments)).await,
        Command::Config(arguments) => config::run(&arguments),
        Command::Migrate(arguments) => migrate::run(&arguments).await,
        Command::Backup(arguments) => backup::run(&arguments),
        Command::Probe(arguments) => probe::run(&arguments).await,
        Command::Admin(ask) => admin::run(&ask).await,
        Command::Openapi => openapi::run(),
    }
}

/// The settings, or every mistake in them on standard error.
fn settings() -> Result<Settings, Exit> {
    Settings::load(&Catalogue::platform()).map_err(|mistakes| {
        eprintln!("{mistakes}");
        Exit::Settings
    })
}

/// Writes to standard output; a reader that has left (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{}", text.trim_end()).ok();
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| (*cause).source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
