//! `dotmac openapi`: the document that a running daemon serves at `/openapi.json`.

use crate::{Exit, components, http, program::Program};

pub(super) fn run(program: &Program) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let assembly = match super::assembled(program, &settings) {
        Ok(assembly) => assembly,
        Err(exit) => return exit,
    };
    let document = http::openapi(
        &components::http(&settings, program.about),
        &assembly.routes,
    );
    match document.to_pretty_json() {
        Ok(json) => {
            super::print(&json);
            Exit::Success
        }
        Err(error) => {
            eprintln!("cannot render the OpenAPI document: {error}");
            Exit::Failure
        }
    }
}
