//! What is tolerable on a developer's machine and refused in production.

use secrecy::{ExposeSecret, SecretString};

use super::Rules;
use super::weak::weakness;
use crate::settings::groups::DatabaseTarget;
use crate::settings::types::{SecretSetting, is_loopback};

impl Rules<'_> {
    pub(super) fn production(&mut self) {
        self.weak_secrets();
        self.vault_in_the_clear();
        self.production_database();
    }

    fn weak_secrets(&mut self) {
        let vault = &self.settings.vault;
        if vault.enabled {
            self.refuse_weak("VAULT_TOKEN", vault.token.as_ref());
            self.refuse_weak("VAULT_SECRET_ID", vault.secret_id.as_ref());
        }
        if let DatabaseTarget::Postgres(target) = self.settings.database.target()
            && let Some(SecretSetting::Literal(password)) = &target.password
        {
            let is_own_key = self.settings.database.password.is_some();
            let name = if is_own_key {
                "DATABASE_PASSWORD"
            } else {
                "DATABASE_URL"
            };
            self.refuse_weak(name, Some(password));
        }
    }

    fn refuse_weak(&mut self, name: &str, secret: Option<&SecretString>) {
        if let Some(weakness) = secret.and_then(|it| weakness(it.expose_secret())) {
            let problem = format!("the secret is {weakness}, which production refuses");
            self.refuse(true, &[name], problem, "give a long random one");
        }
    }

    fn vault_in_the_clear(&mut self) {
        let vault = &self.settings.vault;
        let Some(addr) = vault.addr.as_ref().filter(|_| vault.enabled) else {
            return;
        };
        let is_local = addr.host_str().is_some_and(is_loopback);
        self.refuse(
            addr.scheme() == "http" && !is_local,
            &["VAULT_ADDR", "VAULT_ENABLED"],
            "plain http would show every secret to the network, which production refuses",
            "use https, with DOTMAC_VAULT_CA_CERT for an authority of your own",
        );
    }

    fn production_database(&mut self) {
        let database = &self.settings.database;
        match database.target() {
            DatabaseTarget::Sqlite { .. } => self.refuse(
                !database.allow_sqlite,
                &["DATABASE_URL", "DATABASE_HOST", "DATABASE_NAME", "DATABASE_ALLOW_SQLITE"],
                "SQLite is refused in production",
                "give a PostgreSQL server, e.g. postgres://dotmac@db.example/dotmac, or set DOTMAC_DATABASE_ALLOW_SQLITE=true",
            ),
            DatabaseTarget::Postgres(target) => self.refuse(
                !target.is_local() && !target.sslmode.is_encrypted(),
                if self.settings.is_given("DATABASE_SSLMODE") {
                    &["DATABASE_SSLMODE", "DATABASE_URL", "DATABASE_HOST"]
                } else {
                    &["DATABASE_URL", "DATABASE_HOST", "DATABASE_SSLMODE"]
                },
                format!(
                    "sslmode {} may send passwords and data to another host in the clear, which production refuses",
                    target.sslmode
                ),
                "use verify-full, with DOTMAC_DATABASE_CA_CERT for an authority of your own",
            ),
        }
    }
}
