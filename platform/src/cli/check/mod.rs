//! `dotmac check`: are the settings good? And with `--connect`: is everything there that they name?
//!
//! Each line of the table says what was tried, how long it took, what came of it, and below it what to
//! do. Nothing is left behind: what was leased for a try is given back.

mod collector;
mod database;
mod table;
mod vault;

use clap::Args;

use self::{
    collector::try_collectors,
    database::try_database,
    table::{Outcome, Table},
    vault::try_vault,
};
use crate::{Exit, module::Finding, program::Program, settings::enabled_key};

/// Checks beyond the settings.
#[derive(Args)]
pub(super) struct Arguments {
    /// Also try Vault, the database, the collector and what modules depend on, and say what is missing.
    #[arg(long)]
    connect: bool,
}

pub(super) async fn run(program: &Program, arguments: &Arguments) -> Exit {
    let settings = match super::settings(program) {
        Ok(settings) => settings,
        Err(exit) => return exit,
    };
    // All modules are put together, and nothing is started: what `serve` would refuse is reported here.
    let mut assembly = match super::assembled(program, &settings) {
        Ok(assembly) => assembly,
        Err(exit) => return exit,
    };
    super::print(&format!(
        "the settings are valid ({})",
        settings.app.environment.as_str()
    ));
    for module in settings.modules_off() {
        let key = enabled_key(module);
        super::print(&format!("module `{module}` is switched off: {key}=false"));
    }
    for warning in settings.warnings() {
        super::print(&format!("warning: {warning}"));
    }
    // What is tried is said once, by the table.
    let is_tried =
        |what: &str| arguments.connect && assembly.checks.iter().any(|it| it.what() == what);
    for (what, found) in &assembly.remarks {
        match (is_tried(what), found.is_weak()) {
            (true, _) => {}
            (false, true) => super::print(&format!("warning: {what}: {}", found.words())),
            (false, false) => super::print(&format!("{what}: {}", found.words())),
        }
    }
    if !arguments.connect {
        return Exit::Success;
    }
    let mut table = Table::default();
    let own = assembly.own_secrets().clone();
    let found = try_vault(&settings, own, &mut table).await;
    try_database(program, &settings, found.credentials, &mut table).await;
    try_collectors(&settings, &mut table).await;
    assembly.feed.provide(&found.secrets);
    for check in std::mem::take(&mut assembly.checks) {
        let (what, trying) = (check.what(), check.run());
        let said = |found: Finding| (found.is_weak(), found.words().to_owned());
        let tried = async { trying.await.map(said) };
        let tried = table.attempt(what, tried, |problem: String| problem).await;
        if tried == Some(true)
            && let Some(row) = table.rows.last_mut()
        {
            row.outcome = Outcome::Weak;
        }
    }
    if let Some(vault) = found.vault {
        vault.revoke_all().await;
    }
    table.print();
    if table.rows.iter().all(|row| row.outcome != Outcome::Failed) {
        Exit::Success
    } else {
        Exit::Unavailable
    }
}
