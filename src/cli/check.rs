//! `dotmac check`: are the settings good?

use crate::Exit;

pub(super) fn run() -> Exit {
    match super::settings() {
        Ok(settings) => {
            super::print(&format!(
                "the settings are good ({})",
                settings.app.environment.as_str()
            ));
            Exit::Success
        }
        Err(exit) => exit,
    }
}
