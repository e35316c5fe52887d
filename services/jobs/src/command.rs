//! `dotmac jobs …`: what an operator can ask and do without the daemon.

use dotmac_platform::{
    Exit,
    jobs::{
        JobFilter, JobId, JobState, Schedule, StoredJob, find_any, list_all, list_all_schedules,
        stats_of_all,
    },
    module::{CommandContext, ModuleCommand},
};

use crate::{
    JobsError,
    bodies::QueueBody,
    rules::{self, Act},
};

/// What is to be done: jobs, their queues and schedules, and what becomes of them.
#[derive(clap::Parser)]
pub(crate) enum JobsCommand {
    /// The kinds of jobs that the modules of this program do, with their rules.
    Kinds,
    /// Print jobs of all tenants, the newest first.
    List(List),
    /// Print one job as JSON.
    Show {
        /// Its id.
        id: JobId,
    },
    /// How many jobs there are, by kind and queue.
    Stats,
    /// Have a job not be done, or not be tried again.
    Cancel {
        /// Its id.
        id: JobId,
    },
    /// Have a job done after all that is failed, cancelled or parked.
    Retry {
        /// Its id.
        id: JobId,
    },
    /// Have a job done at once that is scheduled or retrying.
    RunNow {
        /// Its id.
        id: JobId,
    },
    /// Schedules of all tenants, the newest first, 1000 at the most.
    Schedules,
    /// All queues, with their jobs.
    Queues,
    /// Have no more jobs of a queue begin, on any instance.
    Pause {
        /// Its name.
        queue: String,
    },
    /// Have jobs of a queue begin again.
    Resume {
        /// Its name.
        queue: String,
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
    async fn run(self, on: CommandContext) -> Exit {
        match self.carry_out(&on).await {
            Ok(()) => Exit::Success,
            Err(exit) => exit,
        }
    }
}

impl JobsCommand {
    async fn carry_out(self, on: &CommandContext) -> Result<(), Exit> {
        if let Self::Kinds = self {
            for spec in on.jobs()?.kinds() {
                let rules = spec.rules;
                println!(
                    "{}  queue {}, {} slots, {} attempts, hung after {:?}",
                    spec.kind, rules.queue, rules.slots, rules.max_attempts, rules.hang_after
                );
            }
            return Ok(());
        }
        let db = on.db().await?.system("an operator works on jobs");
        match self {
            Self::Kinds => {}
            Self::List(which) => {
                let filter = JobFilter {
                    state: which.state,
                    kind: which.kind,
                    queue: which.queue,
                };
                let limit = which.limit;
                let found = db.read("list jobs", async move |c| {
                    Ok::<_, JobsError>(list_all(c, &filter, None, limit).await?)
                });
                found.await.map_err(failed)?.iter().for_each(print_job);
            }
            Self::Show { id } => {
                let found = db.read("find job", async move |c| {
                    find_any(c, id).await?.ok_or(JobsError::NotFound)
                });
                let job = found.await.map_err(failed)?;
                println!("{}", serde_json::to_string_pretty(&job).unwrap_or_default());
            }
            Self::Stats => {
                let stats = db.read("count jobs", async |c| {
                    Ok::<_, JobsError>(stats_of_all(c).await?)
                });
                for it in stats.await.map_err(failed)?.kinds {
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
            }
            Self::Cancel { id } => act(&db, id, Act::Cancel).await?,
            Self::Retry { id } => act(&db, id, Act::Retry).await?,
            Self::RunNow { id } => act(&db, id, Act::RunNow).await?,
            Self::Schedules => {
                let found = db.read("list schedules", async |c| {
                    Ok::<_, JobsError>(list_all_schedules(c, None, 1000).await?)
                });
                found.await.map_err(failed)?.iter().for_each(print_schedule);
            }
            Self::Queues => {
                let found = db.read("list queues", async |c| rules::queues(c).await);
                found.await.map_err(failed)?.iter().for_each(print_queue);
            }
            Self::Pause { queue } => set_paused(&db, queue, true).await?,
            Self::Resume { queue } => set_paused(&db, queue, false).await?,
        }
        Ok(())
    }
}

fn failed(error: JobsError) -> Exit {
    eprintln!("{error}");
    match error {
        JobsError::Db(_) => Exit::Unavailable,
        _ => Exit::Failure,
    }
}

async fn act(db: &dotmac_platform::db::Db, id: JobId, act: Act) -> Result<(), Exit> {
    let acted = db.transaction("change job", async move |tx| {
        rules::act(tx, id, act).await?;
        find_any(tx, id).await?.ok_or(JobsError::NotFound)
    });
    print_job(&acted.await.map_err(failed)?);
    Ok(())
}

async fn set_paused(
    db: &dotmac_platform::db::Db,
    queue: String,
    is_paused: bool,
) -> Result<(), Exit> {
    let set = db.transaction("pause queue", async move |tx| {
        rules::set_paused(tx, &queue, is_paused).await
    });
    print_queue(&set.await.map_err(failed)?);
    Ok(())
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
        None => "held".to_owned(),
    };
    println!(
        "{}  {}  {}  {timing}  {next}",
        schedule.id, draft.name, draft.kind
    );
}

fn print_queue(queue: &QueueBody) {
    println!("{queue}");
}
