//! `dotmac user …` and `dotmac accounts …`: what an operator does beside a running daemon, or without one.

use std::fmt::Display;

use dotmac_platform::{
    Exit,
    db::{AcrossTx, Db, TenantScope, TenantTx, types::Moment},
    events::Emit as _,
    module::{CommandContext, ModuleCommand},
};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::{
    AccountsError, AccountsSettings,
    changes::Changes,
    events::{self, UserCreated, UserDisabled, UserEnabled},
    keys::{self, KeyRing},
    names::Identifier,
    rules::{api_keys, factors, mfa, passwords, roles, sessions, users as rules, users::NewUser},
    secret_text::MintedPair,
    store::{
        self,
        bindings::{self, Holder},
        tenants,
        users::{self, Hold, UserId, UserRow},
    },
};

/// Users that one list shows.
const MOST_LISTED: i64 = 10_000;

/// Users of all tenants, for operators.
#[derive(clap::Parser)]
pub(crate) enum UserCommand {
    /// Make the first administrator, and print a link by which the password is set. No password exists before.
    CreateAdmin {
        /// The e-mail address to sign in by.
        #[arg(long)]
        email: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// All users of all tenants.
    List {
        /// Print JSON, a line for each user.
        #[arg(long)]
        json: bool,
    },
    /// One user, with roles and sessions.
    Show(Who),
    /// Let a user in no more, end all sessions and revoke the user's API keys.
    Disable(Who),
    /// Let a user in again.
    Enable(Who),
    /// Print a link by which a user sets a password.
    ResetLink {
        /// The e-mail address or the user name.
        identifier: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End all sessions of a user.
    SignOut(Who),
    /// Forget the failed sign-ins of a user, those of second factors among them.
    Unlock(Who),
    /// Take the second factors of a user away, who has lost them: a password alone lets the user in then.
    RemoveFactors(Who),
}

/// Which user.
#[derive(clap::Args)]
pub(crate) struct Who {
    /// The e-mail address or the user name.
    identifier: String,
}

/// Users, and the keys that access tokens are signed with.
#[derive(clap::Parser)]
pub(crate) enum AccountsCommand {
    /// Users, as `user` shows and changes them.
    #[command(subcommand)]
    User(UserCommand),
    /// The keys that access tokens are signed with.
    #[command(subcommand)]
    Keys(KeysCommand),
}

/// Signing keys.
#[derive(clap::Subcommand)]
pub(crate) enum KeysCommand {
    /// All keys that are accepted.
    List,
    /// Publish a new key; it signs in 11 minutes.
    Rotate,
    /// Accept a key no more, at once and everywhere. All tokens that it signed end.
    Revoke {
        /// The key's id (`kid`).
        kid: String,
    },
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

impl ModuleCommand for UserCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        run(on, async |operator| operator.user(self).await).await
    }
}

impl ModuleCommand for AccountsCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        run(on, async |operator| match self {
            Self::User(command) => operator.user(command).await,
            Self::Keys(command) => operator.keys(command).await,
        })
        .await
    }
}

async fn run(
    on: CommandContext,
    work: impl AsyncFnOnce(&Operator) -> Result<(), Failure>,
) -> Result<(), Exit> {
    let Some(settings) = on.settings::<AccountsSettings>().cloned() else {
        eprintln!("accounts are switched off: DOTMAC_ACCOUNTS_ENABLED=false");
        return Err(Exit::Settings);
    };
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
    async fn user(&self, command: UserCommand) -> Result<(), Failure> {
        match command {
            UserCommand::CreateAdmin { email, json } => self.create_admin(email, json).await,
            UserCommand::List { json } => self.list(json).await,
            UserCommand::Show(who) => self.show(who).await,
            UserCommand::Disable(who) => self.set_enabled(who, false).await,
            UserCommand::Enable(who) => self.set_enabled(who, true).await,
            UserCommand::ResetLink { identifier, json } => {
                self.reset_link(Who { identifier }, json).await
            }
            UserCommand::SignOut(who) => self.sign_out(who).await,
            UserCommand::Unlock(who) => self.unlock(who).await,
            UserCommand::RemoveFactors(who) => self.remove_factors(who).await,
        }
    }

    async fn create_admin(&self, email: String, json: bool) -> Result<(), Failure> {
        let changes = self.changes.clone();
        let made = self
            .db
            .transaction_across("create administrator", async move |mut tx: AcrossTx<'_>| {
                create_admin(&mut tx, &changes, email).await
            });
        let (user, minted, expires_at) = made.await?;
        self.print_link("enrol", &user, &minted, expires_at, json);
        Ok(())
    }

    async fn list(&self, json: bool) -> Result<(), Failure> {
        let read = self
            .db
            .read("list users", async |c| users::all(c, MOST_LISTED).await);
        for user in read.await? {
            if json {
                print(described(&user));
            } else {
                print(format_args!(
                    "{}  {:8}  {}",
                    user.id,
                    user.status,
                    name_of(&user)
                ));
            }
        }
        Ok(())
    }

    async fn show(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let id = user.id;
        let read = self.db.transaction("show user", async move |tx| {
            let mut roles = Vec::new();
            for tenant in users::tenants(tx, id).await? {
                let found = tenants::find(tx, tenant).await?;
                roles.push((found.map(|tenant| tenant.slug).unwrap_or_default(), tenant));
            }
            let sessions = store::sessions::of_user(tx, id, 1000).await?;
            let has_totp = store::factors::has_totp(tx, id).await?;
            Ok::<_, AccountsError>((roles, sessions.len(), has_totp))
        });
        let (tenants, sessions, has_totp) = read.await?;
        let mut memberships = Vec::new();
        for (slug, tenant) in tenants {
            let scope = TenantScope::system(tenant, "an operator's command");
            let names = self.db.tenant(&scope).read("read roles", async move |tx| {
                bindings::role_names(tx, Holder::User(id)).await
            });
            memberships.push(json!({ "tenant": slug, "roles": names.await? }));
        }
        let mut shown = described(&user);
        shown["memberships"] = memberships.into();
        shown["sessions"] = sessions.into();
        shown["second_factor"] = has_totp.into();
        print(format_args!("{shown:#}"));
        Ok(())
    }

    async fn set_enabled(&self, who: Who, is_enabled: bool) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let done = self
            .db
            .transaction_across("change user's status", async move |mut tx: AcrossTx<'_>| {
                set_enabled(&mut tx, &changes, id, is_enabled).await
            });
        for slug in done.await? {
            eprintln!("the tenant `{slug}` has no other active owner");
        }
        let word = if is_enabled { "enabled" } else { "disabled" };
        print(format_args!("{word} {}", name_of(&user)));
        Ok(())
    }

    async fn reset_link(&self, who: Who, json: bool) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let row = user.clone();
        let made = self.db.transaction("make reset link", async move |tx| {
            passwords::reset_link(tx, &row, None).await
        });
        let made = made.await.map_err(|error| match error {
            AccountsError::NotFound => Failure::Refused(format!("{} is disabled", name_of(&user))),
            error => error.into(),
        });
        let (minted, expires_at) = made?;
        self.print_link("reset", &user, &minted, expires_at, json);
        Ok(())
    }

    async fn sign_out(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let ended = self.db.transaction("sign user out", async move |tx| {
            sessions::end_all(tx, &changes, id, None, "ended_by_operator").await
        });
        print(format_args!(
            "ended {} sessions of {}",
            ended.await?,
            name_of(&user)
        ));
        Ok(())
    }

    async fn unlock(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let keys = self.key_ring().await?.get().await?;
        let row = user.clone();
        let done = self.db.transaction("unlock user", async move |tx| {
            rules::forget_failures(tx, &keys, &row).await?;
            mfa::forget_failures(tx, &keys, row.id).await?;
            crate::Act::success("user_unlocked", "user", row.id.uuid()).record(tx);
            Ok::<_, AccountsError>(())
        });
        done.await?;
        print(format_args!("unlocked {}", name_of(&user)));
        Ok(())
    }

    async fn remove_factors(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(who).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let removed = self.db.transaction("remove factors", async move |tx| {
            factors::remove(tx, &changes, id, None).await
        });
        removed.await.map_err(|error| match error {
            AccountsError::NotFound => {
                Failure::Refused(format!("{} has no second factor", name_of(&user)))
            }
            error => error.into(),
        })?;
        print(format_args!(
            "removed the second factors of {}",
            name_of(&user)
        ));
        Ok(())
    }

    async fn keys(&self, command: KeysCommand) -> Result<(), Failure> {
        match command {
            KeysCommand::List => {
                let read = self.db.read("list keys", async |c| {
                    store::keys::signing(c, Moment::now()).await
                });
                let now = Moment::now();
                for key in read.await? {
                    let state = match key.retire_at {
                        _ if key.activate_at > now => "next",
                        None => "active",
                        Some(_) => "retiring",
                    };
                    print(format_args!(
                        "{}  {state:8}  since {}",
                        key.kid, key.activate_at
                    ));
                }
            }
            KeysCommand::Rotate => {
                let kid = self.key_ring().await?.rotate().await?;
                print(format_args!("{kid} is published; it signs in 11 minutes"));
            }
            KeysCommand::Revoke { kid } => {
                let (changes, revoked) = (self.changes.clone(), kid.clone());
                let done = self.db.transaction("revoke signing key", async move |tx| {
                    keys::revoke(tx, &changes, &revoked).await
                });
                done.await.map_err(|error| match error {
                    AccountsError::NotFound => Failure::Refused(format!("no key has the id {kid}")),
                    error => error.into(),
                })?;
                print(format_args!("{kid} is not accepted any more"));
            }
        }
        Ok(())
    }

    async fn key_ring(&self) -> Result<KeyRing, Failure> {
        let sealer = self.on.sealer().await;
        let sealer = sealer.ok().flatten();
        let sealer =
            sealer.ok_or_else(|| Failure::Refused("nothing can be sealed or opened".to_owned()))?;
        Ok(KeyRing::new(
            self.db.clone(),
            sealer,
            self.settings.development_key_path.clone(),
            self.settings.access_ttl,
            self.changes.clone(),
        ))
    }

    async fn find(&self, Who { identifier }: Who) -> Result<UserRow, Failure> {
        let given = Identifier::read(&identifier);
        let found = self
            .db
            .read("find user", async move |c| users::find_by(c, &given).await);
        let found = found.await?.filter(|user| user.deleted_at.is_none());
        found.ok_or_else(|| Failure::Refused(format!("there is no user `{identifier}`")))
    }

    fn print_link(
        &self,
        page: &str,
        user: &UserRow,
        minted: &MintedPair,
        expires_at: Moment,
        json: bool,
    ) {
        let token = minted.text.expose_secret();
        let url = format!("{}/account/{page}#token={token}", self.settings.issuer());
        if json {
            print(
                json!({ "user_id": user.id, "token": token, "url": url, "expires_at": expires_at }),
            );
            return;
        }
        print(&url);
        eprintln!(
            "good once, until {expires_at}; POST /api/v1/auth/password/reset with the token sets the password of {}",
            name_of(user)
        );
    }
}

/// Lets the user in or not; the tenants that are without an active owner then, which an operator may want.
async fn set_enabled(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    id: UserId,
    is_enabled: bool,
) -> Result<Vec<String>, AccountsError> {
    let system = tx.system().await?;
    users::hold(system, id, Hold::Alone).await?;
    let mut ownerless = Vec::new();
    if is_enabled {
        users::set_status(system, id, store::ACTIVE).await?;
        crate::Act::success("user_enabled", "user", id.uuid()).record(system);
        events::emit_of_user(system, id, &UserEnabled { user: id }).await?;
        let change = crate::changes::Change::User(id);
        changes.record(system, change).await?;
        return Ok(ownerless);
    }
    users::set_status(system, id, store::DISABLED).await?;
    crate::Act::success("user_disabled", "user", id.uuid()).record(system);
    events::emit_of_user(system, id, &UserDisabled { user: id }).await?;
    for tenant in users::tenants(tx.system().await?, id).await? {
        let scope = TenantScope::system(tenant, "an operator's command");
        let kept = roles::keeps_owner_without(tx.tenant(&scope).await?, id, None).await;
        if let Err(AccountsError::LastOwner) = kept {
            let found = tenants::find(tx.system().await?, tenant).await?;
            ownerless.extend(found.map(|tenant| tenant.slug));
        } else {
            kept?;
        }
    }
    let system = tx.system().await?;
    api_keys::revoke_personal(system, changes, id).await?;
    sessions::end_all(system, changes, id, None, "user_disabled").await?;
    Ok(ownerless)
}

/// An owner of the tenant `default`. One who has no password yet gets another link.
async fn create_admin(
    tx: &mut AcrossTx<'_>,
    changes: &Changes,
    email: String,
) -> Result<(UserRow, MintedPair, Moment), Failure> {
    let new = NewUser {
        email: email.clone(),
        ..NewUser::default()
    };
    let new = rules::row(new, tenants::DEFAULT)?;
    let scope = TenantScope::system(tenants::DEFAULT, "an operator makes an administrator");
    let tx = tx.tenant(&scope).await?;
    roles::seed(tx).await?;
    let user = match users::find_by(tx, &Identifier::read(&email)).await? {
        None => {
            users::insert(tx, &new).await?;
            crate::Act::success("user_created", "user", new.id.uuid()).record(tx);
            tx.emit(&UserCreated { user: new.id })
                .map_err(AccountsError::from)?;
            new
        }
        Some(user) => adopted(tx, user, &email).await?,
    };
    users::join(tx, tenants::DEFAULT, user.id).await?;
    let owner = roles::named(tx, roles::OWNER).await?;
    roles::bind_by_operator(tx, changes, user.id, &owner).await?;
    let (minted, expires_at) = passwords::reset_link(tx, &user, None).await?;
    Ok((user, minted, expires_at))
}

/// An account of the tenant `default` whose user has not come yet. It is held, so that it gets no password and no other link
/// meanwhile. An account that another tenant manages is never adopted: its administrators would become the administrator.
async fn adopted(tx: &mut TenantTx, user: UserRow, email: &str) -> Result<UserRow, Failure> {
    users::hold(tx, user.id, Hold::Alone).await?;
    let refused = |problem| Err(Failure::Refused(problem));
    if let Some(manager) = user.managed_by.filter(|tenant| *tenant != tenants::DEFAULT) {
        let manager = tenants::find(tx, manager).await?;
        let slug = manager.map(|tenant| tenant.slug).unwrap_or_default();
        return refused(format!(
            "the tenant `{slug}` manages the account of `{email}`; use another address"
        ));
    }
    let has_password = users::password(tx, user.id).await?.is_some();
    if has_password || !user.is_active() || user.managed_by.is_none() {
        return refused(format!(
            "`{email}` has an account already; `user reset-link` prints a link for it"
        ));
    }
    Ok(user)
}

fn described(user: &UserRow) -> serde_json::Value {
    json!({
        "id": user.id,
        "email": user.email,
        "username": user.username,
        "full_name": user.full_name,
        "status": user.status,
        "created_at": user.created_at,
    })
}

fn name_of(user: &UserRow) -> &str {
    user.email
        .as_deref()
        .or(user.username.as_deref())
        .unwrap_or("-")
}

/// To standard output; a reader that has left (`| head`) is no failure.
fn print(text: impl Display) {
    use std::io::Write as _;
    writeln!(std::io::stdout(), "{text}").ok();
}
