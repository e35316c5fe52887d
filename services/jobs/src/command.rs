//! `dotmac jobs …`, `dotmac queues …` and `dotmac schedules …`: what an operator can ask and do without the daemon.

use dotmac_platform::{
    Exit,
    audit::{Acts as _, Audit as _, SystemActs as _},
    db::{Connection, Db, ModuleDb, TenantDb, TenantScope, TenantTx, Tx},
    jobs::{
        JobCatalogue, JobFilter, JobId, JobState, KindSpec, KindStats, Schedule, ScheduleId,
        StoredJob, find_any, find_any_schedule, list_all, list_all_schedules, stats_of_all,
    },
    module::{CommandContext, ModuleCommand},
};

use crate::{
    JobsError, acts,
    rules::{self, Act},
    schedules::rules as schedules,
};

/// Why the command line works on the rows of tenants.
const WHY: &str = "work on jobs for an operator";

/// Jobs.
#[derive(clap::Parser)]
pub(crate) enum JobsCommand {
    /// Print the kinds of jobs of this program, with their rules.
    Kinds,
    /// Print jobs of all tenants, the newest first.
    List(List),
    /// Print one job as JSON.
    Show {
        /// Its id.
        id: JobId,
    },
    /// Count jobs by kind, queue and state.
    Stats,
    /// Cancel a job.
    Cancel {
        /// Its id.
        id: JobId,
    },
    /// Retry a failed, cancelled or parked job.
    Retry {
        /// Its id.
        id: JobId,
    },
    /// Run a scheduled or retrying job now.
    RunNow {
        /// Its id.
        id: JobId,
    },
}

/// Queues of jobs.
#[derive(clap::Parser)]
pub(crate) enum QueuesCommand {
    /// Print all queues, with the numbers of their jobs.
    List,
    /// Pause a queue: none of its jobs is started, on any instance.
    Pause {
        /// Its name.
        queue: String,
    },
    /// Resume a queue.
    Resume {
        /// Its name.
        queue: String,
    },
}

/// Schedules of jobs.
#[derive(clap::Parser)]
pub(crate) enum SchedulesCommand {
    /// Print schedules of all tenants, the newest first, at most 1000.
    List,
    /// Enqueue a job of a schedule now, even if it is paused.
    Trigger {
        /// Its id.
        id: ScheduleId,
    },
    /// Pause a schedule: it is not due until it is resumed.
    Pause {
        /// Its id.
        id: ScheduleId,
    },
    /// Resume a schedule.
    Resume {
        /// Its id.
        id: ScheduleId,
    },
}

/// Which jobs, and how many.
#[derive(clap::Args)]
pub(crate) struct List {
    /// In this state.
    #[arg(long)]
    state: Option<JobState>,
    /// Of this kind.
    #[arg(long)]
    kind: Option<String>,
    /// Of this queue.
    #[arg(long)]
    queue: Option<String>,
    /// At most so many, up to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=1000))]
    limit: i64,
}

impl ModuleCommand for JobsCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        if let Self::Kinds = self {
            on.jobs()?.kinds().iter().for_each(print_kind);
            return Ok(());
        }
        let db = on.db().await?;
        self.carry_out(&db).await.map_err(|error| on.failed(error))
    }
}

impl JobsCommand {
    async fn carry_out(self, all: &ModuleDb) -> Result<(), JobsError> {
        let db = &all.system(WHY);
        match self {
            // Needs no database.
            Self::Kinds => {}
            Self::List(which) => {
                let (filter, limit) = (which.filter(), which.limit);
                let found = db.read("list jobs", async move |c| {
                    list_all(c, &filter, None, limit).await
                });
                found.await?.iter().for_each(print_job);
            }
            Self::Show { id } => {
                let found = db.read("find job", async move |c| find_any(c, id).await);
                let job = found.await?.ok_or(JobsError::NotFound)?;
                println!("{}", serde_json::to_string_pretty(&job).unwrap_or_default());
            }
            Self::Stats => {
                let stats = db.read("count jobs", async |c| stats_of_all(c).await);
                stats.await?.kinds.iter().for_each(print_stats);
            }
            Self::Cancel { id } => act(all, id, Act::Cancel).await?,
            Self::Retry { id } => act(all, id, Act::Retry).await?,
            Self::RunNow { id } => act(all, id, Act::RunNow).await?,
        }
        Ok(())
    }
}

impl ModuleCommand for QueuesCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        let db = of_all_tenants(&on).await?;
        self.carry_out(&db).await.map_err(|error| on.failed(error))
    }
}

impl QueuesCommand {
    async fn carry_out(self, db: &Db) -> Result<(), JobsError> {
        match self {
            Self::List => {
                let found = db.read("list queues", async |c| rules::queues(c).await);
                found.await?.iter().for_each(|queue| println!("{queue}"));
                Ok(())
            }
            Self::Pause { queue } => set_paused(db, queue, true).await,
            Self::Resume { queue } => set_paused(db, queue, false).await,
        }
    }
}

impl ModuleCommand for SchedulesCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        let (db, catalogue) = (on.db().await?, on.jobs()?);
        let done = self.carry_out(&db, catalogue).await;
        done.map_err(|error| on.failed(error))
    }
}

impl SchedulesCommand {
    async fn carry_out(self, all: &ModuleDb, catalogue: JobCatalogue) -> Result<(), JobsError> {
        match self {
            Self::List => {
                let found = all.system(WHY).read("list schedules", async |c| {
                    list_all_schedules(c, None, 1000).await
                });
                found.await?.iter().for_each(print_schedule);
            }
            Self::Trigger { id } => {
                let db = of_schedule(all, id).await?;
                let work =
                    async move |tx: &mut TenantTx| schedules::trigger(tx, &catalogue, id).await;
                let triggered = db.act("trigger schedule", work).await?;
                println!("{}", serde_json::to_string(&triggered).unwrap_or_default());
            }
            Self::Pause { id } => hold(all, id, true).await?,
            Self::Resume { id } => hold(all, id, false).await?,
        }
        Ok(())
    }
}

/// The way to the rows of the tenant whose schedule it is.
async fn of_schedule(all: &ModuleDb, id: ScheduleId) -> Result<TenantDb, JobsError> {
    let find = async move |c: &mut Connection| find_any_schedule(c, id).await;
    let found = all.system(WHY).read("find schedule", find).await?;
    let schedule = found.ok_or(JobsError::NoSchedule)?;
    Ok(all.tenant(&TenantScope::system(schedule.tenant, WHY)))
}

async fn hold(all: &ModuleDb, id: ScheduleId, is_paused: bool) -> Result<(), JobsError> {
    let db = of_schedule(all, id).await?;
    let work = async move |tx: &mut TenantTx| schedules::set_paused(tx, id, is_paused).await;
    print_schedule(&db.act("pause schedule", work).await?);
    Ok(())
}

async fn of_all_tenants(on: &CommandContext) -> Result<Db, Exit> {
    Ok(on.db().await?.system(WHY))
}

impl List {
    fn filter(&self) -> JobFilter {
        JobFilter {
            state: self.state,
            kind: self.kind.clone(),
            queue: self.queue.clone(),
        }
    }
}

/// Does it; recorded in the audit log of the job's tenant.
async fn act(all: &ModuleDb, id: JobId, act: Act) -> Result<(), JobsError> {
    let db = all.system(WHY);
    let find = async || {
        db.read("find job", async move |c| find_any(c, id).await)
            .await
    };
    let job = find().await?.ok_or(JobsError::NotFound)?;
    match job.tenant {
        Some(tenant) => {
            let work = async move |tx: &mut TenantTx| rules::act(tx, id, act).await;
            let scope = TenantScope::system(tenant, WHY);
            all.tenant(&scope).act("change job", work).await?;
        }
        None => {
            let work = async move |tx: &mut Tx| rules::act(tx, id, act).await;
            db.act("change job", work).await?;
        }
    }
    print_job(&find().await?.ok_or(JobsError::NotFound)?);
    Ok(())
}

async fn set_paused(db: &Db, queue: String, is_paused: bool) -> Result<(), JobsError> {
    let set = db.act("pause queue", async move |tx: &mut Tx| {
        let recorded = tx.audit(acts::upon_queue(is_paused, &queue))?;
        rules::set_paused(tx, &queue, is_paused, recorded).await
    });
    println!("{}", set.await?);
    Ok(())
}

fn print_kind(spec: &KindSpec) {
    let rules = spec.rules;
    println!(
        "{}  queue {}, {} slots, {} attempts, hung after {:?}",
        spec.kind, rules.queue, rules.slots, rules.max_attempts, rules.hang_after
    );
}

fn print_stats(it: &KindStats) {
    println!(
        "{}  queue {}: {} scheduled, {} ready, {} running, {} retrying, {} failed, {} parked; oldest ready {} s",
        it.kind,
        it.queue,
        it.scheduled,
        it.ready,
        it.running,
        it.retrying,
        it.failed,
        it.parked,
        it.oldest_ready_seconds
    );
}

fn print_job(job: &StoredJob) {
    let error = job.last_error.as_ref();
    let error = error.map(|it| format!("  {}: {}", it.code, it.message));
    println!(
        "{}  {:9}  {}  attempt {} of {}  {}{}",
        job.id,
        job.state.as_str(),
        job.kind,
        job.attempt,
        job.max_attempts,
        job.run_at,
        error.unwrap_or_default()
    );
}

fn print_schedule(schedule: &Schedule) {
    let draft = &schedule.draft;
    let timing = match (draft.timing.line(), draft.timing.interval()) {
        (Some(line), _) => format!("{line} ({})", draft.timing.zone()),
        (None, every) => format!(
            "every {}",
            humantime::format_duration(every.unwrap_or_default())
        ),
    };
    let next = match schedule.next_at {
        Some(next_at) => format!("next {next_at}"),
        None => "paused".to_owned(),
    };
    println!(
        "{}  {}  {}  {timing}  {next}",
        schedule.id, draft.name, draft.kind
    );
}
