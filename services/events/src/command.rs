//! `dotmac events …`: what an operator can ask and do without the daemon.

use std::{io::Write as _, time::Duration};

use dotmac_platform::{
    Exit,
    audit::{Audit as _, SystemActs as _},
    db::{ModuleDb, TenantScope, Tx, types::Id},
    events::{
        EventCatalogue, Filter, Page, Position, RewindTo, SubscriberStatus, is_event_type, read,
        read_all, subscribers,
    },
    module::{CommandContext, ModuleCommand},
};
use uuid::Uuid;

use crate::{EventsError, acts, rules};

/// Events of one reading.
const AT_ONCE: u16 = 256;

/// The event log, and its subscribers.
#[derive(clap::Parser)]
pub(crate) enum EventsCommand {
    /// The types of events that the modules of this program emit, and their subscribers.
    Types,
    /// Print events, one CloudEvent on a line, oldest first.
    List(List),
    /// The position of each subscriber, and the cause of its lag.
    Subscribers,
    /// Retry the parked events of a subscriber, once their cause is mended.
    Retry {
        /// Its name, as `subscribers` shows it.
        name: String,
    },
    /// Rewind a subscriber to another position of the log: it handles all events behind it once more.
    Rewind {
        /// Its name, as `subscribers` shows it.
        name: String,
        /// `beginning`; the `sequence` of an event, to go on behind it; or a moment as 2026-11-28T12:00:00Z.
        #[arg(value_parser = place)]
        to: RewindTo,
    },
}

/// Which events, and how many.
#[derive(clap::Args)]
pub(crate) struct List {
    /// Of this tenant alone.
    #[arg(long)]
    tenant: Option<Uuid>,
    /// Of this type; may be given more than once.
    #[arg(long = "type", value_parser = kind)]
    kinds: Vec<String>,
    /// With this subject.
    #[arg(long)]
    subject: Option<String>,
    /// Behind the event with this `sequence`.
    #[arg(long)]
    after: Option<Position>,
    /// At most so many.
    #[arg(long)]
    limit: Option<usize>,
    /// Go on with what happens, until interrupted.
    #[arg(long)]
    follow: bool,
}

fn place(text: &str) -> Result<RewindTo, &'static str> {
    rules::rewind_to(text).ok_or("it is `beginning`, a `sequence` of 32 hexadecimal digits, or a moment as 2026-11-28T12:00:00Z")
}

fn kind(text: &str) -> Result<String, &'static str> {
    let is_one = is_event_type(text);
    is_one
        .then(|| text.to_owned())
        .ok_or("a type has the form area.thing.v1")
}

impl ModuleCommand for EventsCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        match self {
            Self::Types => print_types(&on.events()?),
            Self::List(which) => {
                let listed = list(&on.db().await?, which).await;
                listed.map_err(|error| on.failed(error))?;
            }
            Self::Subscribers => {
                let db = on.db().await?.system("show subscribers to an operator");
                let found = db.read("list subscribers", async |c| subscribers(c).await);
                print_subscribers(&found.await.map_err(|error| on.failed(error))?);
            }
            Self::Rewind { name, to } => {
                let db = on.db().await?.system("rewind a subscriber for an operator");
                let rewound = db.act("rewind subscriber", async move |tx: &mut Tx| {
                    let recorded = tx.audit(acts::rewind(&name, &to))?;
                    rules::rewind_subscriber(tx, &name, to, recorded).await
                });
                let status = rewound.await.map_err(|error| on.failed(error))?;
                println!("`{}` goes on behind {}", status.name, status.position);
            }
            Self::Retry { name } => {
                let db = on
                    .db()
                    .await?
                    .system("retry a subscriber's events for an operator");
                let retried = db.act("retry parked events", async move |tx: &mut Tx| {
                    let recorded = tx.audit(acts::retry(&name))?;
                    rules::retry(tx, &name, recorded).await
                });
                let status = retried.await.map_err(|error| on.failed(error))?;
                println!("`{}` tries its parked events again", status.name);
            }
        }
        Ok(())
    }
}

fn print_types(catalogue: &EventCatalogue) {
    let subscriptions = catalogue.subscriptions();
    for it in catalogue.types() {
        let handlers = subscriptions.iter().filter(|by| by.handles(it.kind()));
        let handlers: Vec<_> = handlers.map(|by| by.name).collect();
        let handled = match handlers.as_slice() {
            [] => String::new(),
            names => format!("; handled by {}", names.join(", ")),
        };
        let description = it.description().unwrap_or_default();
        println!("{}  ({}{handled})  {description}", it.kind(), it.module());
    }
}

fn print_subscribers(found: &[SubscriberStatus]) {
    let name = found
        .iter()
        .map(|it| it.name.len())
        .max()
        .unwrap_or(0)
        .max(10);
    println!(
        "{:name$}  state      events  seconds  held  parked",
        "subscriber"
    );
    for it in found {
        let cause = it.held_by.iter().cloned();
        let failed = it.failed.iter().map(ToString::to_string);
        let causes: Vec<_> = cause.chain(failed).collect();
        println!(
            "{:name$}  {:9}  {:>6}  {:>7}  {:>4}  {:>6}  {}",
            it.name,
            it.state.as_str(),
            it.lag_events,
            it.lag_seconds,
            it.held,
            it.parked,
            causes.join("; "),
        );
    }
}

async fn list(db: &ModuleDb, which: List) -> Result<(), EventsError> {
    let mut after = which.after.unwrap_or(Position::BEGINNING);
    let mut left = which.limit.unwrap_or(usize::MAX);
    while left > 0 {
        let limit = u16::try_from(left).unwrap_or(AT_ONCE).min(AT_ONCE);
        let page = page(db, &which, after, limit).await?;
        let is_last = page.events.len() < usize::from(limit);
        left -= page.events.len();
        after = page.next;
        let mut out = std::io::stdout().lock();
        for event in page.events {
            let line = serde_json::to_string(&event.cloud_event()).unwrap_or_default();
            // A reader that has left (`| head`) wants no more.
            if writeln!(out, "{line}").is_err() {
                return Ok(());
            }
        }
        drop(out);
        if is_last && !which.follow {
            break;
        }
        if is_last {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
    Ok(())
}

async fn page(
    db: &ModuleDb,
    which: &List,
    after: Position,
    limit: u16,
) -> Result<Page, EventsError> {
    let filter = Filter {
        kinds: which.kinds.clone(),
        subject: which.subject.clone(),
    };
    match which.tenant {
        Some(tenant) => {
            let scope = TenantScope::system(Id::from_uuid(tenant), "show events to an operator");
            let read = db.tenant(&scope).read("list events", async move |tx| {
                Ok(read(tx, &filter, after, limit).await?)
            });
            read.await
        }
        None => {
            let db = db.system("show events to an operator");
            let read = db.read("list events", async move |c| {
                Ok(read_all(c, &filter, after, limit).await?)
            });
            read.await
        }
    }
}
