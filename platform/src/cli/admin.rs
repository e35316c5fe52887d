//! `dotmac status`, `why`, `restart`, `drain`, `undrain` and `log-level`: what goes through the admin socket of a
//! running daemon.

use std::{
    fmt::Write as _,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use reqwest::{Client, Method};
use serde::{Serialize, de::DeserializeOwned};

use super::why::{in_brackets, why};
use crate::{
    Exit,
    admin::messages::{ComponentStatus, LogLevel, Restart, SetLogLevel, Status},
    program::Program,
    settings,
    shown::quotable,
};

/// Longest wait for an answer; the socket is served by a thread that does nothing else.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often `status --watch` looks.
const WATCH: Duration = Duration::from_secs(1);

/// Requests to a running daemon.
#[derive(Subcommand)]
pub(super) enum Ask {
    /// Show the components of a running daemon and how they are.
    Status {
        /// As JSON.
        #[arg(long)]
        json: bool,
        /// Again every second, until interrupted.
        #[arg(long)]
        watch: bool,
        #[command(flatten)]
        socket: Socket,
    },
    /// Explain why a running daemon is not ready or degraded, and what to do: exit 1 if it is not ready.
    Why {
        #[command(flatten)]
        socket: Socket,
    },
    /// Stop one component in good order and start it afresh.
    Restart {
        /// Its name, as `dotmac status` shows it.
        actor: String,
        #[command(flatten)]
        socket: Socket,
    },
    /// Turn readiness off, until `undrain`; requests are still served.
    Drain {
        #[command(flatten)]
        socket: Socket,
    },
    /// Take a drain back.
    Undrain {
        #[command(flatten)]
        socket: Socket,
    },
    /// Change what a running daemon logs.
    LogLevel {
        /// A level (off, error, warn, info, debug, trace), or directives as `info,hyper=debug`.
        level: String,
        /// Take it back by itself after this time, such as 10m.
        #[arg(long = "for", value_parser = parse_time)]
        lasting: Option<Duration>,
        /// For this target and those below it alone, such as `dotmac_db`.
        #[arg(long)]
        target: Option<String>,
        #[command(flatten)]
        socket: Socket,
    },
}

/// The message is not the parser's, which quotes its input.
fn parse_time(text: &str) -> Result<Duration, &'static str> {
    humantime::parse_duration(text).map_err(|_| "not a duration; write e.g. 10m")
}

/// Where the daemon is.
#[derive(Args)]
pub(super) struct Socket {
    /// Its admin socket, if not where DOTMAC_ADMIN_SOCKET says.
    #[arg(long = "socket", value_name = "PATH")]
    path: Option<PathBuf>,
}

/// Why there is no answer to print.
enum Failure {
    /// No process listens.
    NoAnswer(String),
    /// The daemon says no.
    Refused(String),
    /// The settings are wrong, or name no socket.
    Exit(Exit),
}

pub(super) async fn run(program: &Program, ask: &Ask) -> Exit {
    match answer(program, ask).await {
        Ok(exit) => exit,
        Err(Failure::Exit(exit)) => exit,
        Err(Failure::NoAnswer(why)) => {
            super::complain(&format!("no answer: {why}"));
            Exit::Unavailable
        }
        Err(Failure::Refused(why)) => {
            super::complain(&format!("refused: {why}"));
            Exit::Failure
        }
    }
}

async fn answer(program: &Program, ask: &Ask) -> Result<Exit, Failure> {
    match ask {
        Ask::Status {
            json,
            watch,
            socket,
        } => {
            let daemon = Daemon::at(program, socket)?;
            loop {
                let status: Status = daemon.get("status").await?;
                let text = match json {
                    true => serde_json::to_string(&status).unwrap_or_default(),
                    false => table(&status),
                };
                super::print(&text);
                if !watch {
                    return Ok(Exit::Success);
                }
                tokio::time::sleep(WATCH).await;
            }
        }
        Ask::Why { socket } => {
            let status: Status = Daemon::at(program, socket)?.get("status").await?;
            let (ready, text) = why(&status);
            super::print(&text);
            Ok(if ready { Exit::Success } else { Exit::Failure })
        }
        Ask::Restart { actor, socket } => {
            let wanted = Restart {
                component: actor.clone(),
            };
            Daemon::at(program, socket)?
                .send(Method::POST, "restart", Some(&wanted))
                .await?;
            super::print(&format!("`{actor}` is being restarted"));
            Ok(Exit::Success)
        }
        Ask::Drain { socket } => {
            Daemon::at(program, socket)?
                .send(Method::POST, "drain", None::<&()>)
                .await?;
            super::print("not ready from now on; requests are still served");
            Ok(Exit::Success)
        }
        Ask::Undrain { socket } => {
            Daemon::at(program, socket)?
                .send(Method::POST, "undrain", None::<&()>)
                .await?;
            super::print("no longer drained");
            Ok(Exit::Success)
        }
        Ask::LogLevel {
            level,
            lasting,
            target,
            socket,
        } => {
            let wanted = SetLogLevel {
                level: level.clone(),
                target: target.clone(),
                for_ms: lasting.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX)),
            };
            let daemon = Daemon::at(program, socket)?;
            let body = daemon.send(Method::PUT, "log-level", Some(&wanted)).await?;
            let now: LogLevel = read(&body)?;
            let until = lasting.map(|time| format!(" for {}", humantime::format_duration(time)));
            super::print(&format!("{}{}", now.level, until.unwrap_or_default()));
            Ok(Exit::Success)
        }
    }
}

/// A running daemon's admin socket.
struct Daemon {
    client: Client,
    path: PathBuf,
}

impl Daemon {
    fn at(program: &Program, socket: &Socket) -> Result<Self, Failure> {
        let path = match &socket.path {
            Some(path) => path.clone(),
            None => super::settings(program)
                .map_err(Failure::Exit)?
                .app
                .admin_socket
                .ok_or_else(no_socket)?,
        };
        let client = Client::builder()
            .timeout(TIMEOUT)
            .unix_socket(path.as_path())
            .build();
        match client {
            Ok(client) => Ok(Self { client, path }),
            Err(error) => Err(no_answer(&error, &path)),
        }
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(&self.send(Method::GET, path, None::<&()>).await?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&impl Serialize>,
    ) -> Result<String, Failure> {
        // The host is of no account: the socket decides who answers.
        let mut request = self.client.request(method, format!("http://dotmac/{path}"));
        if let Some(body) = body {
            request = request.json(body);
        }
        let failed = |error| no_answer(&error, &self.path);
        let response = request.send().await.map_err(failed)?;
        let is_success = response.status().is_success();
        let text = response.text().await.map_err(failed)?;
        if is_success {
            return Ok(text);
        }
        let problem: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let detail = problem
            .as_ref()
            .and_then(|problem| problem["detail"].as_str());
        Err(Failure::Refused(detail.unwrap_or(&text).to_owned()))
    }
}

fn read<T: DeserializeOwned>(text: &str) -> Result<T, Failure> {
    serde_json::from_str(text)
        .map_err(|error| Failure::NoAnswer(format!("it is not one of this version's: {error}")))
}

fn no_socket() -> Failure {
    eprintln!("no admin socket: set DOTMAC_ADMIN_SOCKET as for the daemon, or give --socket PATH");
    Failure::Exit(Exit::Usage)
}

fn no_answer(error: &reqwest::Error, path: &Path) -> Failure {
    let socket = quotable(&path.to_string_lossy());
    let refused = dotmac_causes::find(error).map(io::Error::kind);
    Failure::NoAnswer(match refused {
        Some(ErrorKind::ConnectionRefused) => format!(
            "no process listens at `{socket}`; the daemon that created it has ended without removing it"
        ),
        Some(ErrorKind::NotFound) => format!(
            "there is no socket `{socket}`; is the daemon running, with DOTMAC_ADMIN_SOCKET set to this path?"
        ),
        Some(ErrorKind::PermissionDenied) => {
            format!("only the daemon's own user may open `{socket}`")
        }
        _ if error.is_timeout() => format!("`{socket}`: no answer within {TIMEOUT:?}"),
        _ => format!("`{socket}`: {}", dotmac_causes::chain(error)),
    })
}

fn table(status: &Status) -> String {
    let mut text = format!(
        "{} {} (pid {}) is {}{}, logs `{}`\n",
        status.program,
        status.version,
        status.pid,
        status.status,
        in_brackets(status.reason.as_deref()),
        status.log_level
    );
    let names = status.components.iter().map(|component| &component.name);
    let names = names.chain(&status.modules_off).map(String::len);
    let width = names.max().unwrap_or_default();
    for component in &status.components {
        // Writing to a String cannot fail.
        writeln!(
            text,
            "  {:<width$} {:<12} {:<24} since {}  life {}, {} restarts, {}",
            component.name,
            component.state,
            component
                .reason
                .as_deref()
                .or(component.source.as_deref())
                .unwrap_or("-"),
            component.since,
            component.generation,
            component.restarts,
            activity(component)
        )
        .unwrap_or_default();
    }
    for module in &status.modules_off {
        let key = settings::enabled_key(module);
        writeln!(text, "  {module:<width$} off          {key}=false").unwrap_or_default();
    }
    text
}

/// Calls under way of an actor, or runs and progress of a worker.
fn activity(component: &ComponentStatus) -> String {
    let Some(worker) = &component.worker else {
        return format!("{} calls", component.calls_in_flight);
    };
    let mut text = format!("{} runs", worker.runs);
    if let Some(millis) = worker.running_ms {
        let running = humantime::format_duration(Duration::from_secs(millis / 1000));
        text.push_str(&format!(", one under way for {running}"));
    }
    match (worker.done, worker.total) {
        (Some(done), Some(total)) => text.push_str(&format!(", {done} of {total}")),
        (Some(done), None) => text.push_str(&format!(", {done} done")),
        (None, _) => {}
    }
    text
}
