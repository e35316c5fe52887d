//! `dotmac user …` and `dotmac accounts …`: the commands of an operator, which work with and without a running daemon.

mod admin;
mod keys;
mod passwords;
mod user;
mod why;

use std::fmt::Display;

use dotmac_platform::{
    Exit,
    db::Db,
    module::{CommandContext, ModuleCommand},
};

pub(crate) use user::UserCommand;

use crate::{
    AccountsError, AccountsSettings,
    changes::Changes,
    keys::KeyRing,
    names::Identifier,
    store::users::{self, UserId, UserRow},
};
use keys::KeysCommand;
use passwords::{BreachFilterCommand, Calibrate};

/// Users, and the keys that access tokens are signed with.
#[derive(clap::Parser)]
pub(crate) enum AccountsCommand {
    /// Users, as `user` shows and changes them.
    #[command(subcommand)]
    User(UserCommand),
    /// The keys that access tokens are signed with.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Measure password hashes on this machine, and propose settings.
    Calibrate(Calibrate),
    /// Passwords that have been found in breaches.
    #[command(subcommand)]
    BreachFilter(BreachFilterCommand),
}

/// Why a command did not do it.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Accounts(#[from] AccountsError),
    #[error("{0}")]
    Refused(String),
}

impl From<dotmac_platform::db::DbError> for Failure {
    fn from(error: dotmac_platform::db::DbError) -> Self {
        Self::Accounts(error.into())
    }
}

/// What a command works with.
struct Operator {
    db: Db,
    changes: Changes,
    settings: AccountsSettings,
    on: CommandContext,
}

impl ModuleCommand for AccountsCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        match self {
            Self::User(command) => run(on, async |operator| operator.user(command).await).await,
            Self::Keys(command) => run(on, async |operator| operator.keys(command).await).await,
            Self::Calibrate(command) => passwords::calibrate(settings(&on)?, &command),
            Self::BreachFilter(command) => passwords::breach_filter(command),
        }
    }
}

fn settings(on: &CommandContext) -> Result<&AccountsSettings, Exit> {
    on.settings::<AccountsSettings>().ok_or_else(|| {
        eprintln!("accounts are disabled: DOTMAC_ACCOUNTS_ENABLED=false");
        Exit::Settings
    })
}

async fn run(
    on: CommandContext,
    work: impl AsyncFnOnce(&Operator) -> Result<(), Failure>,
) -> Result<(), Exit> {
    let settings = settings(&on)?.clone();
    let operator = Operator {
        db: on.db().await?.system("an operator's command"),
        changes: Changes::default(),
        settings,
        on,
    };
    work(&operator).await.map_err(|failure| match failure {
        Failure::Accounts(error) => operator.on.failed(error),
        Failure::Refused(why) => {
            eprintln!("{why}");
            Exit::Failure
        }
    })
}

impl Operator {
    async fn key_ring(&self) -> Result<KeyRing, Failure> {
        let sealer = self.on.sealer().await;
        let sealer = sealer.ok().flatten();
        let sealer =
            sealer.ok_or_else(|| Failure::Refused("nothing can be sealed or opened".to_owned()))?;
        let vault = self.on.vault().await.ok().flatten();
        Ok(KeyRing::new(
            self.db.clone(),
            sealer,
            vault,
            self.settings.development_key_path.clone(),
            (self.settings.access_ttl, self.settings.token_alg),
            self.changes.clone(),
        ))
    }

    /// The user of an e-mail address, a user name or an id.
    async fn find(&self, identifier: &str) -> Result<UserRow, Failure> {
        let given = Identifier::read(identifier);
        // A user name has fewer characters.
        let id = Some(identifier).filter(|text| text.len() == 36);
        let id = id.and_then(|text| text.parse::<UserId>().ok());
        let found = self.db.read("find user", async move |c| match id {
            Some(id) => users::find(c, id).await,
            None => users::find_by(c, &given).await,
        });
        let found = found.await?.filter(|user| user.deleted_at.is_none());
        found.ok_or_else(|| Failure::Refused(format!("there is no user `{identifier}`")))
    }
}

/// To standard output; a reader that has left (`| head`) is no failure.
fn print(text: impl Display) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").ok();
}
