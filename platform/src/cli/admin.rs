//! `dotmac status`, `why`, `restart`, `drain` and `log-level`: what goes through the admin socket of a
//! running daemon.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::{Args, Subcommand};
use reqwest::{Client, Method};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    Exit,
    admin::messages::{ComponentStatus, LogLevel, SetLogLevel, Status},
    program::Program,
};

/// Longest wait for an answer; the socket is served by a thread that does nothing else.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How often `status --watch` looks.
const WATCH: Duration = Duration::from_secs(1);

/// What can be asked of a running daemon.
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
    /// Say why a running daemon is not ready: exit 1 if it is not.
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
    /// Turn readiness off for good; requests are still served.
    Drain {
        #[command(flatten)]
        socket: Socket,
    },
    /// Change what a running daemon logs.
    LogLevel {
        /// A level (off, error, warn, info, debug, trace), or directives as `info,hyper=debug`.
        level: String,
        /// Take it back by itself after this time, such as 10m.
        #[arg(long = "for", value_parser = humantime::parse_duration)]
        lasting: Option<Duration>,
        /// For this target and those below it alone, such as `dotmac_db`.
        #[arg(long)]
        target: Option<String>,
        #[command(flatten)]
        socket: Socket,
    },
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
    /// Nobody is there.
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
            eprintln!("no answer: {why}");
            Exit::Unavailable
        }
        Err(Failure::Refused(why)) => {
            eprintln!("refused: {why}");
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
            let path = format!("restart/{actor}");
            Daemon::at(program, socket)?
                .send(Method::POST, &path, &())
                .await?;
            super::print(&format!("`{actor}` is being restarted"));
            Ok(Exit::Success)
        }
        Ask::Drain { socket } => {
            Daemon::at(program, socket)?
                .send(Method::POST, "drain", &())
                .await?;
            super::print("not ready from now on; requests are still served");
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
            let body = daemon.send(Method::PUT, "log-level", &wanted).await?;
            let now: LogLevel = read(&body)?;
            let until = lasting.map(|time| format!(" for {}", humantime::format_duration(time)));
            super::print(&format!("{}{}", now.level, until.unwrap_or_default()));
            Ok(Exit::Success)
        }
    }
}

/// A running daemon's admin socket.
struct Daemon(Client);

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
        client
            .map(Self)
            .map_err(|error| no_answer(&error, Some(&path)))
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        read(&self.send(Method::GET, path, &()).await?)
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<String, Failure> {
        // The host is of no account: the socket decides who answers.
        let mut request = self
            .0
            .request(method.clone(), format!("http://dotmac/{path}"));
        if method == Method::PUT {
            request = request.json(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| no_answer(&error, None))?;
        let is_success = response.status().is_success();
        let text = response
            .text()
            .await
            .map_err(|error| no_answer(&error, None))?;
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

fn no_answer(error: &reqwest::Error, path: Option<&Path>) -> Failure {
    let path = path
        .map(|path| format!("{}: ", path.display()))
        .unwrap_or_default();
    Failure::NoAnswer(format!("{path}{}", super::chain(error)))
}

fn table(status: &Status) -> String {
    let mut text = format!(
        "dotmac {} (pid {}) is {}{}, logs `{}`\n",
        status.version,
        status.pid,
        status.status,
        in_brackets(status.reason.as_deref()),
        status.log_level
    );
    for component in &status.components {
        let restarts: u64 = component.restarts.values().sum();
        // Writing to a String cannot fail.
        writeln!(
            text,
            "  {:<12} {:<10} {:<24} since {}  life {}, {restarts} restarts, {} calls",
            component.name,
            component.state,
            component
                .reason
                .as_deref()
                .or(component.source.as_deref())
                .unwrap_or("-"),
            component.since,
            component.generation,
            component.calls_in_flight
        )
        .unwrap_or_default();
    }
    text
}

/// One sentence for each component that keeps the daemon from being wholly well.
fn why(status: &Status) -> (bool, String) {
    let ready = status.status != "not_ready";
    let mut text = match (&*status.status, &status.reason) {
        _ if !status.alive => "the supervisor itself makes no progress".to_owned(),
        ("ready", _) => "it is ready".to_owned(),
        ("degraded", _) => "it is ready, with a handicap".to_owned(),
        (_, reason) => format!("it is not ready{}", in_brackets(reason.as_deref())),
    };
    let unwell = |component: &&ComponentStatus| {
        component.state != "ready" && component.reason.as_deref() != Some("finished")
    };
    for component in status.components.iter().filter(unwell) {
        let need = if component.required {
            "required"
        } else {
            "optional"
        };
        let reason = in_brackets(component.reason.as_deref());
        write!(
            text,
            "\n`{}` ({need}) is {}{reason} since {}",
            component.name, component.state, component.since
        )
        .unwrap_or_default();
    }
    if status.status != "ready" {
        text.push_str("\ndocs/operations.md says what each reason means and what to do");
    }
    (ready && status.alive, text)
}

fn in_brackets(reason: Option<&str>) -> String {
    reason
        .map(|reason| format!(" ({reason})"))
        .unwrap_or_default()
}
