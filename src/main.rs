//! The daemon `dotmac`: the list of modules that it mounts, and its allocator.

use std::process::ExitCode;

use dotmac_accounts::Accounts;
use dotmac_audit::Audit;
use dotmac_events::Events;
use dotmac_files::Files;
use dotmac_jobs::Jobs;
use dotmac_notifications::{Notifications, Smtp};
use dotmac_platform::{Platform, build_info};
use dotmac_webhooks::Webhooks;

/// Why: docs/DEPENDENCIES.md, "Allocator".
#[cfg(feature = "jemalloc")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let platform = Platform::new("dotmac", env!("CARGO_PKG_VERSION"))
        .app_name("dotmac-platform")
        .build(build_info!())
        .module::<Accounts>()
        .module::<Events>()
        .module::<Jobs>()
        .module::<Audit>()
        .module::<Webhooks>()
        .module::<Smtp>()
        .module::<Notifications>()
        .module::<Files>();
    #[cfg(feature = "nats")]
    let platform = platform.module::<dotmac_nats::Nats>();
    platform.main()
}
