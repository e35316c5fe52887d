//! `dotmac config`: what is in effect, and where it comes from.

use clap::{Args, ValueEnum};

use crate::{Exit, program::Program, settings};

/// How to show the settings.
#[derive(Args)]
pub(super) struct Arguments {
    /// The shape of the output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// As an environment file; secrets are left out.
    Env,
}

pub(super) fn run(program: &Program, arguments: &Arguments) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let rows = settings.effective();
    let shown = match arguments.format {
        Format::Table => Ok(settings::as_table(&rows)),
        Format::Json => settings::as_json(&rows),
        Format::Env => Ok(settings::as_env(&rows)),
    };
    match shown {
        Ok(text) => {
            super::print(&text);
            Exit::Success
        }
        Err(error) => {
            eprintln!("cannot render the settings: {error}");
            Exit::Failure
        }
    }
}
