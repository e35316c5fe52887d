//! The command line of a program: alone it serves; the other commands look, and leave.

mod admin;
mod backup;
mod check;
mod completions;
mod config;
mod database;
mod journal;
mod migrate;
mod openapi;
mod probe;
mod refusal;
mod remedies;
mod why;

pub use remedies::REMEDIES;

use std::panic::AssertUnwindSafe;

use actix_web::rt::System;
use clap::{ArgMatches, CommandFactory, FromArgMatches, Parser, Subcommand};
use dotmac_supervision::panic_message;
use futures_util::FutureExt as _;

use crate::{
    Exit,
    module::{Assembly, Command as OfModule, CommandContext},
    program::Program,
    run::{self, Signals},
    settings::Settings,
    shown::in_lines,
};

/// The commands of every program of the platform. The name, the version and the commands of modules are the
/// program's own.
#[derive(Parser)]
#[command(
    about = "Serves until it gets a stop signal; the other commands run and exit.",
    long_about = "Serves until it gets a stop signal; the other commands run and exit.\n\n\
    Settings come from the environment (DOTMAC_...); `config` shows them.",
    after_help = "Exit codes: 0 stopped as requested, 1 negative answer of a probe or a running daemon, 64 usage, \
    69 a dependency is missing at the start, 70 supervision gave up, 75 the stop overran, 78 settings, 130 second signal."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

/// The commands of a program.
#[derive(Subcommand)]
enum Command {
    /// Run the daemon; also what the program alone does.
    Serve,
    /// Check the settings and the modules, and report every mistake; with `--connect` also what they name.
    Check(check::Arguments),
    /// Show the effective settings and where each comes from; secrets are redacted.
    Config(config::Arguments),
    /// Bring the database's schema up to date, show what it lacks, or take migrations back.
    Migrate(migrate::Arguments),
    /// Copy the SQLite database to a file, also while the daemon runs, and check the copy.
    Backup(backup::Arguments),
    /// Show the journal in the database: starts, stops and states of components, of every process that used it.
    Journal(journal::Arguments),
    /// Ask a running daemon how it is: exit 0 or 1, for images without curl.
    Probe(probe::Arguments),
    /// Commands through the admin socket of a running daemon.
    #[command(flatten)]
    Admin(admin::Ask),
    /// Print the OpenAPI document of every mounted route.
    Openapi,
    /// Print the AsyncAPI document of the events of every module.
    Asyncapi,
    /// Print the completions of a shell.
    Completions(completions::Arguments),
}

/// Carries out the command line of this process.
pub(crate) fn main(program: &Program) -> Exit {
    let matches = match parser(program).try_get_matches() {
        Ok(matches) => matches,
        Err(refusal) => return refusal::print(refusal),
    };
    let of_module = matches.subcommand().and_then(|(name, of_command)| {
        let mut commands = commands(program);
        let (name, _, command) = commands.find(|(known, ..)| *known == name)?;
        Some((name, command, of_command))
    });
    match of_module {
        Some((name, command, matches)) => {
            let running = run_of_module(program, (name, command), matches);
            System::new().block_on(running)
        }
        None => match Cli::from_arg_matches(&matches) {
            Ok(Cli {
                command: None | Some(Command::Serve),
            }) => serve(program),
            Ok(Cli {
                command: Some(command),
            }) => System::new().block_on(execute(program, command)),
            Err(refusal) => refusal::print(refusal),
        },
    }
}

/// Serves until it gets a stop signal.
fn serve(program: &Program) -> Exit {
    // First of all, before the settings, which may lie on a file system that is slow to answer.
    let signals = Signals::listen();
    match settings(program) {
        Ok(settings) => System::new().block_on(Box::pin(run::run(settings, program, signals))),
        Err(exit) => exit,
    }
}

/// The program's modules put together and not started, as `serve` would; otherwise why not, on standard error.
fn assembled(program: &Program, settings: &Settings) -> Result<Assembly, Exit> {
    let authenticator = program.authenticator.clone();
    Assembly::for_command(settings, &program.modules, authenticator).map_err(|error| {
        complain(&dotmac_causes::chain(&error));
        Exit::Settings
    })
}

/// Whether every program has a command of that name.
pub(crate) fn is_command(name: &str) -> bool {
    let parser = Cli::command();
    parser.get_subcommands().any(|it| it.get_name() == name)
}

/// The whole command line: the platform's commands, and those of modules.
fn parser(program: &Program) -> clap::Command {
    let about = program.about;
    let parser = Cli::command()
        .name(about.name)
        .version(about.version)
        .long_version(about.long_version());
    commands(program).fold(parser, |parser, (name, about, command)| {
        parser.subcommand(command.parser().name(name).about(about))
    })
}

/// Every command of a module: its name, what it is for, and the command.
fn commands(program: &Program) -> impl Iterator<Item = (&'static str, &'static str, &OfModule)> {
    let modules = program.modules.iter();
    modules.flat_map(|module| module.manifest.commands(module.name))
}

async fn execute(program: &Program, command: Command) -> Exit {
    match command {
        Command::Serve => Exit::Usage, // `main` has carried it out, on its own system
        Command::Check(arguments) => Box::pin(check::run(program, &arguments)).await,
        Command::Config(arguments) => config::run(program, &arguments),
        Command::Migrate(arguments) => migrate::run(program, &arguments).await,
        Command::Backup(arguments) => backup::run(program, &arguments),
        Command::Journal(arguments) => journal::run(program, &arguments).await,
        Command::Probe(arguments) => probe::run(program, &arguments).await,
        Command::Admin(ask) => admin::run(program, &ask).await,
        Command::Openapi => openapi::run(program),
        Command::Asyncapi => openapi::run_for_events(program),
        Command::Completions(arguments) => completions::run(parser(program), &arguments),
    }
}

/// `dotmac <module> …`
async fn run_of_module(
    program: &Program,
    (name, command): (&str, &OfModule),
    matches: &ArgMatches,
) -> Exit {
    let settings = match settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let on = CommandContext::new(settings, program.modules.clone());
    match command.run(matches, on.clone()) {
        Ok(running) => {
            let ended = AssertUnwindSafe(running).catch_unwind().await;
            on.close().await;
            ended.unwrap_or_else(|panic| {
                let message = panic_message(&*panic);
                complain(&format!("the command `{name}` panicked: {message}"));
                Exit::Escalation
            })
        }
        Err(refusal) => refusal::print(refusal),
    }
}

/// The settings, or every mistake in them on standard error.
fn settings(program: &Program) -> Result<Settings, Exit> {
    Settings::load(&program.catalogue).map_err(|mistakes| {
        eprintln!("{mistakes}");
        Exit::Settings
    })
}

/// Writes to standard error what keeps a command from its work. Quoted text stays in its line.
fn complain(text: &str) {
    eprintln!("{}", in_lines(text));
}

/// Writes to standard output; a reader that has left (`| head`) is no failure.
fn print(text: &str) {
    use std::io::Write;
    writeln!(std::io::stdout(), "{}", text.trim_end()).ok();
}
