//! `dotmac openapi` and `dotmac asyncapi`: the documents that a running daemon serves at `/openapi.json` and
//! `/asyncapi.json`.

use crate::{Exit, components, events, http, module::Assembly, program::Program};

pub(super) fn run(program: &Program) -> Exit {
    print("OpenAPI", program, |config, assembly| {
        http::openapi(&config, &assembly.routes).to_pretty_json()
    })
}

pub(super) fn run_for_events(program: &Program) -> Exit {
    print("AsyncAPI", program, |config, assembly| {
        let document = events::document(&config.app_name, &config.version, &assembly.events);
        serde_json::to_string_pretty(&document)
    })
}

fn print(
    what: &str,
    program: &Program,
    document: impl FnOnce(http::Config, Assembly) -> serde_json::Result<String>,
) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let assembly = match super::assembled(program, &settings) {
        Ok(assembly) => assembly,
        Err(exit) => return exit,
    };
    match document(components::http(&settings, program.about), assembly) {
        Ok(json) => {
            super::print(&json);
            Exit::Success
        }
        Err(error) => {
            eprintln!("cannot render the {what} document: {error}");
            Exit::Failure
        }
    }
}
