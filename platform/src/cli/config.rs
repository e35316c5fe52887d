//! `dotmac config`: what is in effect, where it comes from, and which keys there are.

use clap::{Args, ValueEnum};

use crate::{
    Exit,
    program::Program,
    settings::{self, Catalogue, docs},
    shown::in_line,
};

/// How to show the settings.
#[derive(Args)]
pub(super) struct Arguments {
    /// The shape of the output.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Only the settings of this module.
    #[arg(long, value_name = "NAME")]
    module: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// As an environment file; secrets are left out.
    Env,
    /// The documentation of every key, independent of the environment.
    Markdown,
    /// An environment file with every key as a comment, independent of the environment.
    Example,
}

pub(super) fn run(program: &Program, arguments: &Arguments) -> Exit {
    let (name, catalogue) = (program.about.name, &program.catalogue);
    let module = arguments.module.as_deref();
    if let Some(module) = module
        && !catalogue.modules().any(|it| it == module)
    {
        super::complain(&no_module(module, catalogue));
        return Exit::Usage;
    }
    let rows = || {
        let mut rows = super::settings(program)?.effective();
        rows.retain(|row| module.is_none() || row.module == module);
        Ok(rows)
    };
    let shown = match arguments.format {
        Format::Table => rows().map(|rows| settings::as_table(&rows)),
        Format::Json => rows().and_then(|rows| {
            settings::as_json(&rows).map_err(|error| {
                eprintln!("cannot render the settings: {error}");
                Exit::Failure
            })
        }),
        Format::Env => rows().map(|rows| settings::as_env(&rows)),
        Format::Markdown => Ok(docs::markdown(name, catalogue, module)),
        Format::Example => Ok(docs::env_example(name, catalogue, module)),
    };
    match shown {
        Ok(text) => {
            super::print(&text);
            Exit::Success
        }
        Err(exit) => exit,
    }
}

fn no_module(name: &str, catalogue: &Catalogue) -> String {
    let names: Vec<_> = catalogue.modules().collect();
    let all = if names.is_empty() {
        "this program has none".to_owned()
    } else {
        format!("there are {}", names.join(", "))
    };
    format!("there is no module `{}`; {all}", in_line(name))
}
