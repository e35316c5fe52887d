//! `dotmac user …`.

use dotmac_platform::{
    Exit,
    audit::{AcrossActs as _, SystemActs as _},
    db::{AcrossTx, TenantScope, types::Moment},
    module::{CommandContext, ModuleCommand},
};
use secrecy::ExposeSecret;
use serde_json::json;

use super::{
    Failure, Operator,
    admin::{create_admin, set_enabled},
    print, run,
};
use crate::{
    AccountsError,
    audit::{Act, USER_UNLOCKED},
    rules::{export, factors, mfa, passwords, sessions, users as rules},
    secret_text::MintedPair,
    store::{
        self,
        bindings::{self, Holder},
        tenants,
        users::{self, UserId, UserRow},
    },
};

/// Users that are read at once.
const READ_AT_ONCE: i64 = 1000;

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
    /// Enable a user.
    Enable(Who),
    /// Print a link by which a user sets a password.
    ResetLink {
        /// The e-mail address, the user name or the id.
        identifier: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// End all sessions of a user.
    SignOut(Who),
    /// Forget the failed sign-ins of a user, those of second factors among them.
    Unlock(Who),
    /// What a user may do in each tenant, and which roles and grants give or deny it.
    Why {
        /// The e-mail address, the user name or the id.
        identifier: String,
        /// One permission, as `accounts.users.read`: whether it is allowed, and why.
        #[arg(long)]
        permission: Option<String>,
    },
    /// Print what is kept about a user, as one JSON object without a secret.
    Export(Who),
    /// Take the second factors of a user away, who has lost them: a password alone lets the user in then.
    RemoveFactors(Who),
}

/// Which user.
#[derive(clap::Args)]
pub(crate) struct Who {
    /// The e-mail address, the user name or the id.
    identifier: String,
}

impl ModuleCommand for UserCommand {
    async fn run(self, on: CommandContext) -> Result<(), Exit> {
        run(on, async |operator| operator.user(self).await).await
    }
}

impl Operator {
    pub(super) async fn user(&self, command: UserCommand) -> Result<(), Failure> {
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
            UserCommand::Why {
                identifier,
                permission,
            } => self.why(&identifier, permission.as_deref()).await,
            UserCommand::Export(who) => self.export(who).await,
            UserCommand::RemoveFactors(who) => self.remove_factors(who).await,
        }
    }

    async fn create_admin(&self, email: String, json: bool) -> Result<(), Failure> {
        let changes = self.changes.clone();
        let made = self
            .db
            .act_across("create administrator", async move |mut tx: AcrossTx<'_>| {
                create_admin(&mut tx, &changes, email).await
            });
        let (user, minted, expires_at) = made.await?;
        self.print_link("enrol", &user, &minted, expires_at, json);
        Ok(())
    }

    async fn list(&self, json: bool) -> Result<(), Failure> {
        let mut last = UserId::from_uuid(uuid::Uuid::nil());
        loop {
            let read = self.db.read("list users", async move |c| {
                users::all(c, last, READ_AT_ONCE).await
            });
            let read = read.await?;
            let Some(newest) = read.last() else {
                return Ok(());
            };
            last = newest.id;
            for user in read {
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
        }
    }

    async fn show(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(&who.identifier).await?;
        let id = user.id;
        let read = self.db.transaction("show user", async move |tx| {
            let mut roles = Vec::new();
            for tenant in users::tenants(tx, id).await? {
                let found = tenants::find(tx, tenant).await?;
                roles.push((found.map(|tenant| tenant.slug).unwrap_or_default(), tenant));
            }
            let sessions = store::sessions::of_user(tx, id, 1000).await?;
            let held = store::factors::held(tx, id).await?;
            Ok::<_, AccountsError>((roles, sessions.len(), held))
        });
        let (tenants, sessions, held) = read.await?;
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
        shown["second_factor"] = held.any().into();
        shown["passkeys"] = held.passkeys.into();
        print(format_args!("{shown:#}"));
        Ok(())
    }

    async fn set_enabled(&self, who: Who, is_enabled: bool) -> Result<(), Failure> {
        let user = self.find(&who.identifier).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let done = self
            .db
            .act_across("change user's status", async move |mut tx: AcrossTx<'_>| {
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
        let user = self.find(&who.identifier).await?;
        let row = user.clone();
        let made = self.db.act("make reset link", async move |tx| {
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
        let user = self.find(&who.identifier).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let ended = self.db.act("sign user out", async move |tx| {
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
        let user = self.find(&who.identifier).await?;
        let keys = self.key_ring().await?.get().await?;
        let row = user.clone();
        let done = self.db.act("unlock user", async move |tx| {
            rules::forget_failures(tx, &keys, &row).await?;
            mfa::forget_failures(tx, &keys, row.id).await?;
            let act = Act::on_user(USER_UNLOCKED, row.id);
            Ok::<_, AccountsError>(act.record_of(tx, row.id).await?.of(()))
        });
        done.await?;
        print(format_args!("unlocked {}", name_of(&user)));
        Ok(())
    }

    async fn export(&self, who: Who) -> Result<(), Failure> {
        let id = self.find(&who.identifier).await?.id;
        let exported = self
            .db
            .act_across("export user", async move |mut tx: AcrossTx<'_>| {
                export::export(&mut tx, id).await
            });
        let exported = exported.await?;
        match serde_json::to_string_pretty(&exported) {
            Ok(text) => print(text),
            Err(error) => return Err(Failure::Refused(error.to_string())),
        }
        Ok(())
    }

    async fn remove_factors(&self, who: Who) -> Result<(), Failure> {
        let user = self.find(&who.identifier).await?;
        let (changes, id) = (self.changes.clone(), user.id);
        let removed = self.db.act("remove factors", async move |tx| {
            factors::remove_all(tx, &changes, id).await
        });
        let is_password_gone = removed.await.map_err(|error| match error {
            AccountsError::NotFound => {
                Failure::Refused(format!("{} has no second factor", name_of(&user)))
            }
            error => Failure::from(error),
        })?;
        print(format_args!(
            "removed the second factors of {}",
            name_of(&user)
        ));
        if is_password_gone {
            eprintln!(
                "the password was too short to be the only factor, and is gone as well: `user reset-link` prints a link to set another"
            );
        }
        Ok(())
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
            "valid once, until {expires_at}; POST /api/v1/auth/password/reset with the token sets the password of {}",
            name_of(user)
        );
    }
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
