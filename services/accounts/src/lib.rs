//! Accounts: users, sign-in, sessions, roles, tenants, service accounts and API keys.
//!
//! The module is the program's authenticator. A request goes down once, from `routes` over `rules` to `store`, and comes
//! up once. `authenticator` finds out who calls; `changes` is what it remembers of that and how it stays true on every
//! instance; `keys` are those that tokens are signed with; `password` hashes on threads of its own.

mod audit;
mod authenticator;
mod cache;
mod changes;
mod command;
mod cookies;
mod directory;
mod error;
mod events;
mod jwt;
mod keys;
mod metrics;
mod names;
mod password;
mod problems;
mod relying_party;
mod routes;
mod rules;
mod secret_text;
mod service;
mod settings;
mod store;
mod workers;

use std::{path::Path, sync::Arc, time::Duration};

use dotmac_platform::{
    access::Permission as _, directory::SharedDirectory, jobs::Run, migrations, permissions,
    prelude::*, supervision::Schedule,
};

use audit::Sampler;
use authenticator::AccountsAuthenticator;
use changes::Changes;
use command::{AccountsCommand, UserCommand};
pub use error::AccountsError;
use keys::KeyRing;
use password::{BreachFilter, HashParams, Hasher, Peppers};
use rules::mail::{
    self, AskedMail,
    notices::{self, RemovedFactors},
};
use service::{Inner, Service, Uses};
pub use settings::AccountsSettings;

permissions! {
    /// Read users.
    pub ReadUsers = "accounts.users.read";
    /// Make, change, disable and delete users, and end their sessions.
    pub WriteUsers = "accounts.users.write";
    /// Read roles, who has them, and the list of permissions.
    pub ReadRoles = "accounts.roles.read";
    /// Make and change roles, and give and take them.
    pub WriteRoles = "accounts.roles.write";
    /// Read the tenant.
    pub ReadTenants = "accounts.tenants.read";
    /// Change the tenant.
    pub WriteTenants = "accounts.tenants.write";
    /// Make tenants; for those who operate the installation.
    pub CreateTenants = "accounts.tenants.create";
    /// Read who is a member of the tenant.
    pub ReadMembers = "accounts.members.read";
    /// End memberships in the tenant.
    pub WriteMembers = "accounts.members.write";
    /// Read service accounts.
    pub ReadServiceAccounts = "accounts.service_accounts.read";
    /// Make, change and delete service accounts.
    pub WriteServiceAccounts = "accounts.service_accounts.write";
    /// Read the API keys of the tenant, without their text.
    pub ReadApiKeys = "accounts.api_keys.read";
    /// Make, rotate and revoke API keys of the tenant.
    pub WriteApiKeys = "accounts.api_keys.write";
    /// Make API keys that never end.
    pub NeverExpireApiKeys = "accounts.api_keys.never_expire";
}

/// How often what is over is deleted.
const SWEEP: Duration = Duration::from_secs(600);

/// How often uses of API keys are written down.
const USES: Duration = Duration::from_secs(60);

/// Opens the filter of breached passwords.
fn breach_filter(path: &Path) -> Result<BreachFilter, MountError> {
    BreachFilter::open(path).map_err(|error| {
        let path = path.display();
        MountError::other(format!("the filter of breached passwords {path}: {error}"))
    })
}

/// The module.
pub struct Accounts;

impl Module for Accounts {
    const NAME: &'static str = "accounts";
    type Settings = AccountsSettings;

    fn manifest() -> Manifest {
        let manifest = Manifest::new("Users, sign-in, sessions, roles, tenants and keys.")
            .migrations(migrations!("migrations"))
            .permissions(PERMISSIONS)
            .operator_permissions(&[CreateTenants::SPEC])
            .seals()
            .audits(audit::ACTS)
            .jobs::<AskedMail>()
            .jobs::<RemovedFactors>()
            .command::<AccountsCommand>()
            .named_command::<UserCommand>("user", "Users of all tenants, for operators.");
        events::declare(manifest)
    }

    fn mount(settings: AccountsSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        let db = on.db();
        let open_db = db.system("check credentials");
        let changes = Changes::default();
        let keys = KeyRing::new(
            open_db.clone(),
            on.sealer()?,
            on.vault(),
            settings.development_key_path.clone(),
            (settings.access_ttl, settings.token_alg),
            changes.clone(),
        );
        let cost = HashParams {
            m: settings.argon2_m,
            t: settings.argon2_t,
            p: settings.argon2_p,
        };
        let said = password::described_setting(&settings.pepper, on.vault().is_some());
        on.remark("accounts pepper", said);
        let pepper = on.secret(&settings.pepper);
        let peppers = Peppers::new(move || pepper.get());
        let checked = peppers.clone();
        on.check_connection("accounts pepper", move || {
            std::future::ready(checked.checked())
        });
        let breached = settings.breach_filter_path.as_deref();
        let breached = breached.map(breach_filter).transpose()?;
        let hasher = Hasher::new(cost, peppers, breached, settings.hash_threads);
        metrics::observe(&hasher, &changes);
        let every = settings.changes_interval;
        let service = Service::new(Inner {
            db,
            open_db,
            settings,
            keys,
            hasher,
            changes,
            uses: Uses::default(),
            failures: Sampler::default(),
            mailer: on.mailer(),
        });
        on.authenticator(AccountsAuthenticator(service.clone()))?;
        let followed = service.clone();
        on.worker("changes", Schedule::Every(every), move |_| {
            workers::follow(followed.clone())
        })
        .woken_by(&[changes::WOKEN])
        .add()?;
        let used = service.clone();
        on.worker("uses", Schedule::Every(USES), move |_| {
            workers::write_uses(used.clone())
        })
        .add()?;
        let swept = service.clone();
        on.single_worker("sweep", Schedule::Every(SWEEP), move |context, _| {
            workers::sweep(swept.clone(), context)
        })
        .add()?;
        on.share::<SharedDirectory>(Arc::new(directory::Users));
        let written = service.clone();
        on.job(async move |run: Run<AskedMail>| mail::write(written.clone(), run).await)?;
        let noted = service.clone();
        on.job(async move |run: Run<RemovedFactors>| {
            notices::write_removed(noted.clone(), run).await
        })?;
        on.provide(service);
        routes::mount(on);
        Ok(())
    }
}
