//! `dotmac openapi`: the document that a running daemon serves at `/openapi.json`.

use crate::{
    Exit, components,
    http::{self, Routes},
};

pub(super) fn run() -> Exit {
    let settings = match super::settings() {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    let document = http::openapi(&components::http(&settings), &Routes::default());
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
