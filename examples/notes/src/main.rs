//! The program `notes`: the module on its own platform.

use std::process::ExitCode;

use dotmac_audit::Audit;
use dotmac_events::Events;
use dotmac_jobs::Jobs;
use dotmac_platform::{Platform, build_info};
use notes::Notes;

fn main() -> ExitCode {
    Platform::new("notes", env!("CARGO_PKG_VERSION"))
        .build(build_info!())
        .module::<Notes>()
        .module::<Events>()
        .module::<Jobs>()
        .module::<Audit>()
        .main()
}
