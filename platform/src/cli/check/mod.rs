//! `dotmac check`: are the settings good? And with `--connect`: is everything there that they name?
//!
//! Each line of the table says what was tried, how long it took, what came of it, and below it what to
//! do. Nothing is left behind: what was leased for a try is given back.

use std::{
    future::Future,
    net::ToSocketAddrs,
    path::PathBuf,
    time::{Duration, Instant},
};

use clap::Args;
use url::Url;

use crate::{
    Exit, components,
    credentials::{self},
    db::{self, Credentials, Soundness, Target},
    module::Assembly,
    program::Program,
    secrets::{self, SecretsError, Vault, Wanted, WantedSource},
    settings::Settings,
};

/// What to check beyond the settings.
#[derive(Args)]
pub(super) struct Arguments {
    /// Also try Vault, the database and the collector, and say what is missing.
    #[arg(long)]
    connect: bool,
}

pub(super) async fn run(program: &Program, arguments: &Arguments) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    // All modules are put together, and nothing is started: what `serve` would refuse is reported here.
    if let Err(error) =
        Assembly::for_command(&settings, &program.modules, program.authenticator.clone())
    {
        eprintln!("{}", dotmac_causes::chain(&error));
        return Exit::Settings;
    }
    super::print(&format!(
        "the settings are good ({})",
        settings.app.environment.as_str()
    ));
    for warning in settings.warnings() {
        super::print(&format!("warning: {warning}"));
    }
    if !arguments.connect {
        return Exit::Success;
    }
    let mut table = Table::default();
    let credentials = try_vault(&settings, &mut table).await;
    try_database(&settings, credentials.credentials, &mut table).await;
    try_collectors(&settings, &mut table).await;
    if let Some(vault) = credentials.vault {
        vault.revoke_all().await;
    }
    table.print();
    if table.rows.iter().all(|row| row.outcome != Outcome::Failed) {
        Exit::Success
    } else {
        Exit::Unavailable
    }
}

/// What was tried.
#[derive(Default)]
struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    took: Duration,
    outcome: Outcome,
    words: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Good,
    /// Not there, and need not be.
    Absent,
    Failed,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Absent => "absent",
            Self::Failed => "FAILED",
        }
    }
}

impl Table {
    /// Tries something and notes what came of it; what it brought, if it went well.
    async fn attempt<T, E>(
        &mut self,
        what: impl Into<String>,
        attempt: impl Future<Output = Result<(T, String), E>>,
        explain: impl FnOnce(E) -> String,
    ) -> Option<T> {
        let begun = Instant::now();
        let (brought, outcome, words) = match attempt.await {
            Ok((value, words)) => (Some(value), Outcome::Good, words),
            Err(error) => (None, Outcome::Failed, explain(error)),
        };
        self.rows.push(Row {
            what: what.into(),
            took: begun.elapsed(),
            outcome,
            words,
        });
        brought
    }

    fn note(&mut self, what: &str, outcome: Outcome, words: impl Into<String>) {
        self.rows.push(Row {
            what: what.to_owned(),
            took: Duration::ZERO,
            outcome,
            words: words.into(),
        });
    }

    fn print(&self) {
        let width = self.rows.iter().map(|row| row.what.chars().count()).max();
        let width = width.unwrap_or_default();
        for Row {
            what,
            took,
            outcome,
            words,
        } in &self.rows
        {
            let (outcome, took) = (outcome.as_str(), took.as_millis());
            super::print(&format!(
                "{outcome:6}  {what:width$}  {took:>5} ms  {words}"
            ));
        }
    }
}

/// What the database is tried with, and whom to give it back to.
struct Found {
    credentials: Option<Credentials>,
    vault: Option<Vault>,
}

/// Vault step by step: there, able to serve, who we are, what we may read.
async fn try_vault(settings: &Settings, table: &mut Table) -> Found {
    let config = components::secrets(settings);
    let literals = secrets::literals(&config.wanted);
    let nothing = |credentials| Found {
        credentials,
        vault: None,
    };
    let Some(vault_config) = config.vault.clone() else {
        table.note(
            "vault",
            Outcome::Absent,
            "not enabled: secrets are those of the settings",
        );
        return nothing(Some(credentials::fixed(&literals)));
    };
    let address = vault_config.address.clone();
    let opened = config.validate().and_then(|()| Vault::new(vault_config));
    let vault = match opened {
        Ok(vault) => vault,
        Err(error) => {
            table.note("vault settings", Outcome::Failed, error.to_string());
            return nothing(None);
        }
    };
    let health = async {
        let status = vault.health().await?;
        Ok((status, format!("{address} answers")))
    };
    let Some(status) = table.attempt("vault reachable", health, text).await else {
        return nothing(None);
    };
    let (outcome, words) = serves(status);
    table.note("vault serves", outcome, words);
    if outcome == Outcome::Failed {
        return nothing(None);
    }
    let login = async {
        let identity = vault.log_in().await?;
        let name = if identity.name.is_empty() {
            "somebody who may not look at itself".to_owned()
        } else {
            format!("`{}`", identity.name)
        };
        let policies = identity.policies.join(", ");
        Ok(((), format!("we are {name}, with the policies {policies}")))
    };
    if table.attempt("vault login", login, text).await.is_none() {
        return nothing(None);
    }
    let mount = settings.vault.mount.as_str();
    for wanted in &config.wanted {
        try_secret(&vault, mount, wanted, table).await;
    }
    let credentials = match &config.database_role {
        Some(role) => try_role(&vault, role, table).await,
        None => {
            let loaded = secrets::load(&vault, &config.wanted, None).await;
            let complete = loaded.failures.is_empty();
            complete.then(|| credentials::fixed(&loaded.store))
        }
    };
    Found {
        credentials,
        vault: Some(vault),
    }
}

/// What a status of Vault's health says.
fn serves(status: u16) -> (Outcome, String) {
    match status {
        200 => (Outcome::Good, "initialised, unsealed, active".to_owned()),
        429 | 472 | 473 => (
            Outcome::Good,
            "a standby: it answers reads, and sends writes on to the active node".to_owned(),
        ),
        501 => (
            Outcome::Failed,
            "not initialised; initialise and unseal it (`bao operator init`)".to_owned(),
        ),
        503 => (
            Outcome::Failed,
            "sealed; unseal it (`bao operator unseal`)".to_owned(),
        ),
        other => (
            Outcome::Failed,
            format!(
                "health answers {other}; check that the address is that of a Vault or OpenBao server"
            ),
        ),
    }
}

async fn try_secret(vault: &Vault, mount: &str, wanted: &Wanted, table: &mut Table) {
    let key = &wanted.key;
    let (path, field, optional) = match &wanted.source {
        WantedSource::Literal(_) => return,
        WantedSource::Reference(reference) => (&reference.path, Some(reference), false),
        WantedSource::DefaultPath(path) => (path, None, true),
    };
    let read = async {
        let document = vault.read(path).await?;
        if let Some(reference) = field {
            document.field(reference)?;
        }
        let version = document.version();
        let version = version.map_or_else(String::new, |it| format!(", version {it}"));
        Ok::<_, SecretsError>(((), format!("readable, for {key}{version}")))
    };
    let mut reason = None;
    let explain = |error: SecretsError| {
        reason = Some(error.reason());
        let words = text(error);
        // Whoever may read nothing below a mount is not told what is mounted there either.
        if reason == Some(secrets::reason::PERMISSION_DENIED) && !words.contains("capabilities") {
            return format!(
                "{words}: grant it with `path \"{mount}/data/{path}\" {{ capabilities = [\"read\"] }}` \
                 (without `data/` if the engine is KV version 1)"
            );
        }
        words
    };
    table.attempt(format!("secret {path}"), read, explain).await;
    let need_not_be = [
        secrets::reason::PATH_MISSING,
        secrets::reason::PERMISSION_DENIED,
    ];
    if optional
        && reason.is_some_and(|it| need_not_be.contains(&it))
        && let Some(row) = table.rows.last_mut()
    {
        row.outcome = Outcome::Absent;
        row.words = format!("{key} counts as not set: {}", row.words);
    }
}

/// A user of the database, really made, since only that shows whether the role works.
async fn try_role(
    vault: &Vault,
    role: &secrets::DatabaseRole,
    table: &mut Table,
) -> Option<Credentials> {
    let issue = async {
        let issued = vault.issue_once(role).await?;
        let words = format!("issues database credentials (mount `{}`)", role.mount);
        Ok((credentials::issued(issued), words))
    };
    let credentials = table
        .attempt(format!("database role {}", role.role), issue, text)
        .await?;
    // Revoking early is what every daemon wants and what a policy most easily lacks.
    let path = "sys/leases/revoke".to_owned();
    let may = async {
        let allowed = vault.capabilities(std::slice::from_ref(&path)).await?;
        let allowed = allowed.concat();
        if allowed.iter().any(|it| it == "update" || it == "root") {
            Ok(((), "may give leases back".to_owned()))
        } else {
            Err(MayNot::Denied)
        }
    };
    table
        .attempt("database leases", may, |error| match error {
            MayNot::Denied => format!(
                "leases cannot be given back before they end; grant it with `path \"{path}\" {{ capabilities = [\"update\"] }}` in a policy of this login"
            ),
            MayNot::Unknown(error) => dotmac_causes::chain(&error),
        })
        .await;
    Some(credentials)
}

enum MayNot {
    Denied,
    Unknown(SecretsError),
}

impl From<SecretsError> for MayNot {
    fn from(error: SecretsError) -> Self {
        Self::Unknown(error)
    }
}

/// Without credentials a server is tried as far as that goes: whether it is there at all.
async fn try_database(settings: &Settings, credentials: Option<Credentials>, table: &mut Table) {
    let credentials = credentials.unwrap_or_else(Credentials::to_come);
    let config = components::database(settings, credentials);
    let target = config.target.to_string();
    if let Target::Sqlite(file) = &config.target
        && !file.path().exists()
    {
        let words = format!("{target} is not there yet; the daemon makes it");
        table.note("database", Outcome::Absent, words);
        return;
    }
    let file = match &config.target {
        Target::Sqlite(file) => Some(file.path().to_owned()),
        Target::Postgres(_) => None,
    };
    let look = async {
        db::look(config).await?;
        Ok::<_, db::OpenError>(((), format!("{target} takes writes")))
    };
    let looked = table.attempt("database", look, |error| match error {
        db::OpenError::NoAccount(_) => {
            format!("{target} answers, and there is no user to log in as: see above")
        }
        error => dotmac_causes::chain(&error),
    });
    if let (Some(()), Some(file)) = (looked.await, file) {
        try_file(file, table).await;
    }
}

/// Whether a SQLite file is sound: to take writes, one good page is enough.
async fn try_file(file: PathBuf, table: &mut Table) {
    let read = async {
        let words = match db::read_through(file).await? {
            Soundness::Sound => "read through, and sound".to_owned(),
            Soundness::TooLarge(bytes) => {
                format!("not read through, as it has {bytes} bytes: `backup` checks it")
            }
        };
        Ok::<_, db::OpenError>(((), words))
    };
    table
        .attempt("database file", read, |error| dotmac_causes::chain(&error))
        .await;
}

/// Whether somebody listens wherever a signal goes; what they would say to an export, the daemon's
/// `/ready` tells.
async fn try_collectors(settings: &Settings, table: &mut Table) {
    let mut tried = Vec::new();
    for export in settings.exports.each() {
        let given = &export.settings;
        if let Some(endpoint) = given
            .otlp_endpoint
            .as_ref()
            .filter(|it| !tried.contains(it))
        {
            try_collector(endpoint, given.export_timeout, table).await;
            tried.push(endpoint);
        }
    }
    if tried.is_empty() {
        let none = "none is set: nothing is exported";
        table.note("collector", Outcome::Absent, none);
    }
}

async fn try_collector(endpoint: &Url, limit: Duration, table: &mut Table) {
    let host = endpoint.host_str().unwrap_or_default().to_owned();
    let host = host.trim_matches(['[', ']']).to_owned();
    let port = endpoint.port_or_known_default().unwrap_or(4317);
    let connect = async {
        let resolved = tokio::task::spawn_blocking(move || {
            (host.as_str(), port).to_socket_addrs().map(Vec::from_iter)
        });
        let addresses = resolved.await.map_err(std::io::Error::other)??;
        let connecting = tokio::net::TcpStream::connect(addresses.as_slice());
        let connected = tokio::time::timeout(limit, connecting).await;
        connected.map_err(|_| std::io::Error::other(format!("no answer within {limit:?}")))??;
        Ok::<_, std::io::Error>(((), format!("{endpoint} accepts connections")))
    };
    table
        .attempt("collector", connect, |error| {
            format!(
                "no connection to {endpoint} ({error}); check DOTMAC_TELEMETRY_OTLP_ENDPOINT and that the collector runs"
            )
        })
        .await;
}

fn text(error: SecretsError) -> String {
    dotmac_causes::chain(&error)
}
