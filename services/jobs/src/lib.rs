//! The queue of jobs as a service: jobs, queues and schedules over HTTP and on the command line.
//!
//! The queue itself is a part of the platform (`dotmac_platform::jobs`), and runs the jobs of every module without this
//! one. What this one adds is for clients and operators. docs/services/jobs.md is the page about it.

mod acts;
mod bodies;
mod command;
mod echo;
mod error;
mod routes;
mod rules;
mod schedules;
mod settings;
mod watch;

use dotmac_platform::{
    access::Permission as _,
    jobs::{JobCatalogue, Kept},
    permissions,
    prelude::*,
};

use command::{JobsCommand, QueuesCommand, SchedulesCommand};
use echo::Echo;
pub use error::JobsError;
pub use settings::JobsSettings;

permissions! {
    /// Read the tenant's jobs.
    pub Read = "jobs.jobs.read";
    /// Enqueue, cancel and retry the tenant's jobs.
    pub Write = "jobs.jobs.write";
    /// Read the tenant's schedules.
    pub ReadSchedules = "jobs.schedules.read";
    /// Make, change, trigger and delete the tenant's schedules.
    pub WriteSchedules = "jobs.schedules.write";
    /// See queues; they hold jobs of all tenants.
    pub ReadQueues = "jobs.queues.read";
    /// Pause and resume queues; they hold jobs of all tenants.
    pub WriteQueues = "jobs.queues.write";
}

/// The module.
pub struct Jobs;

/// The state of handlers.
#[derive(Clone)]
struct Service {
    db: ModuleDb,
    catalogue: JobCatalogue,
}

impl Module for Jobs {
    const NAME: &'static str = "jobs";
    type Settings = JobsSettings;

    fn manifest() -> Manifest {
        Manifest::new("Jobs, their queues and schedules.")
            .permissions(PERMISSIONS)
            .operator_permissions(&[ReadQueues::SPEC, WriteQueues::SPEC])
            .jobs::<Echo>()
            .audits(acts::ACTS)
            .command::<JobsCommand>()
            .named_command::<QueuesCommand>("queues", "Queues of jobs.")
            .named_command::<SchedulesCommand>("schedules", "Schedules of jobs.")
    }

    fn mount(settings: JobsSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let (db, catalogue) = (on.db(), on.job_catalogue());
        on.keep_jobs(Kept {
            completed: settings.completed_retention,
            failed: settings.failed_retention,
        });
        on.job(echo::echo)?;
        watch::add(on, &catalogue, settings.status_interval)?;
        on.provide(Service { db, catalogue });
        on.routes("/jobs", routes::declare_jobs);
        on.routes("/queues", routes::declare_queues);
        on.routes("/schedules", schedules::declare);
        Ok(())
    }
}
