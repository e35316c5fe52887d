//! Settings that are allowed in development and refused in production.

use super::PlatformRules;
use crate::settings::groups::DatabaseTarget;
use crate::settings::types::is_loopback;

impl PlatformRules<'_> {
    pub(super) fn production(&mut self) {
        self.weak_secrets();
        self.vault_in_the_clear();
        self.production_database();
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
