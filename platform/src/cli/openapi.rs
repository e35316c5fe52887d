//! `dotmac openapi`: the document that a running daemon serves at `/openapi.json`.

use crate::{Exit, components, http, module::Assembly, program::Program};

pub(super) fn run(program: &Program) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let assembly =
        match Assembly::for_command(&settings, &program.modules, program.authenticator.clone()) {
            Ok(assembly) => assembly,
            Err(error) => {
                eprintln!("{}", dotmac_causes::chain(&error));
                return Exit::Settings;
            }
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
