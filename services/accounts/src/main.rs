//! The program `accounts`: the module on its own platform.

use std::process::ExitCode;

use dotmac_accounts::Accounts;
use dotmac_platform::{Platform, build_info};

fn main() -> ExitCode {
    Platform::new("accounts", env!("CARGO_PKG_VERSION"))
        .build(build_info!())
        .module::<Accounts>()
        .main()
}
