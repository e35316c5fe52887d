//! `dotmac journal`: prints the runtime journal, which also has the events of processes that have ended.

use clap::Args;
use serde::Serialize;

use super::database::with_database;
use crate::{
    Exit,
    db::{self, JournalQuery},
    program::Program,
};

/// Which events to print, and how.
#[derive(Args)]
pub(super) struct Arguments {
    /// Number of events, counted from the newest.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: u32,
    /// Only events of this component, such as db; `runtime` for starts and stops of processes.
    #[arg(long)]
    component: Option<String>,
    /// Print one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// One event, for programs.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    instance: &'a str,
    component: &'a str,
    event: &'a str,
    reason: Option<&'a str>,
}

pub(super) async fn run(program: &Program, arguments: &Arguments) -> Exit {
    let query = JournalQuery {
        last: arguments.last,
        component: arguments.component.clone(),
    };
    with_database(program, async |config| {
        let entries = db::read_journal(&config, query).await?;
        let names = entries.iter().map(|entry| entry.component.len());
        let width = names.max().unwrap_or_default();
        for entry in &entries {
            show(entry, width, arguments.json);
        }
        Ok(Exit::Success)
    })
    .await
}

/// Oldest first, so that the newest is next to the prompt. `width` is that of the column of components.
fn show(entry: &db::JournalEntry, width: usize, json: bool) {
    let line = Line {
        at: entry
            .at
            .to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        instance: &entry.instance,
        component: &entry.component,
        event: &entry.event,
        reason: entry.reason.as_deref(),
    };
    if json {
        super::print(&serde_json::to_string(&line).unwrap_or_default());
        return;
    }
    let Line {
        at,
        instance,
        component,
        event,
        reason,
    } = line;
    let reason = reason.unwrap_or("-");
    super::print(&format!(
        "{at}  {component:<width$} {event:<12} {reason:<24} {instance}"
    ));
}
