//! The database: given once, by URL or by parts, with one user.

use super::PlatformRules;
use crate::settings::groups::DatabaseTarget;
use crate::settings::types::DatabaseUrl;

impl PlatformRules<'_> {
    pub(super) fn database(&mut self) {
        let database = &self.settings.database;
        let given = |name: &str| self.settings.is_given(&format!("DATABASE_{name}"));
        let (by_url, by_host) = (given("URL"), given("HOST"));
        let stray: Vec<&str> = ["NAME", "PORT"]
            .into_iter()
            .filter(|name| given(name))
            .collect();
        let both = "give the database either by its URL or by its parts";
        self.refuse(
            by_url && by_host,
            &["DATABASE_URL", "DATABASE_HOST"],
            "DOTMAC_DATABASE_HOST is set too",
            both,
        );
        for name in stray {
            let key = format!("DATABASE_{name}");
            self.refuse(
                by_url && !by_host,
                &[&key, "DATABASE_URL"],
                "the URL already says it",
                both,
            );
            self.refuse(
                !by_url && !by_host,
                &[&key, "DATABASE_HOST", "DATABASE_URL"],
                "it belongs to a server, and no server is given",
                "set DOTMAC_DATABASE_HOST too",
            );
        }
        self.refuse(
            by_host && !by_url && database.name.is_none(),
            &["DATABASE_NAME", "DATABASE_HOST"],
            "a server is given, and no database there",
            "set it, e.g. dotmac",
        );
        let (cert, key) = (&database.client_cert, &database.client_key);
        for (broken, name, other) in [
            (cert.is_some() && key.is_none(), "CERT", "KEY"),
            (key.is_some() && cert.is_none(), "KEY", "CERT"),
        ] {
            self.refuse(
                broken,
                &[
                    &format!("DATABASE_CLIENT_{name}"),
                    &format!("DATABASE_CLIENT_{other}"),
                ],
                "a certificate and its key are of use only together",
                format!("set DOTMAC_DATABASE_CLIENT_{other} too"),
            );
        }
        if !(by_url && by_host) {
            self.database_user();
        }
    }

    fn database_user(&mut self) {
        let database = &self.settings.database;
        if database.vault_role.is_some() {
            return self.database_role();
        }
        let (lacks_username, _) = database.lacks();
        self.refuse(
            lacks_username && !self.settings.vault.enabled,
            &[
                "DATABASE_USERNAME",
                "DATABASE_URL",
                "DATABASE_HOST",
                "VAULT_ENABLED",
                "VAULT_ADDR",
            ],
            "PostgreSQL needs to know who connects",
            "set it, put it into the URL, or keep it in Vault",
        );
        if database.host.is_some() {
            return;
        }
        let DatabaseUrl::Postgres(url) = &database.url else {
            for name in ["USERNAME", "PASSWORD"] {
                let key = format!("DATABASE_{name}");
                self.refuse(
                    self.settings.is_given(&key),
                    &[&key, "DATABASE_URL", "DATABASE_HOST"],
                    "SQLite has no users",
                    "remove it, or give a PostgreSQL server",
                );
            }
            return;
        };
        let twice = [
            (
                "DATABASE_USERNAME",
                database.username.is_given() && url.username.is_some(),
            ),
            (
                "DATABASE_PASSWORD",
                database.password.is_given() && url.password.is_some(),
            ),
            (
                "DATABASE_SSLMODE",
                url.sslmode.is_some_and(|mode| mode != database.sslmode),
            ),
        ];
        for (name, is_twice) in twice {
            self.refuse(
                is_twice,
                &[name, "DATABASE_URL"],
                "the URL says it too",
                "remove it here or there",
            );
        }
    }

    /// With a role of Vault's, user and password come from nowhere else.
    fn database_role(&mut self) {
        let settings = self.settings;
        self.refuse(
            !settings.vault.enabled,
            &["DATABASE_VAULT_ROLE", "VAULT_ENABLED", "VAULT_ADDR"],
            "the role is in Vault, which is not enabled",
            "set DOTMAC_VAULT_ADDR, or give user and password",
        );
        let target = settings.database.target();
        let (username, password) = match target {
            DatabaseTarget::Sqlite { .. } => {
                return self.refuse(
                    true,
                    &["DATABASE_VAULT_ROLE", "DATABASE_URL", "DATABASE_HOST"],
                    "SQLite has no users",
                    "remove it, or give a PostgreSQL server",
                );
            }
            DatabaseTarget::Postgres(target) => (target.username, target.password),
        };
        for (name, given) in [("USERNAME", username), ("PASSWORD", password)] {
            let key = format!("DATABASE_{name}");
            self.refuse(
                given.is_given(),
                &["DATABASE_VAULT_ROLE", &key, "DATABASE_URL"],
                format!("the role brings it, and DOTMAC_{key} or the URL gives it too"),
                "remove one of them",
            );
        }
    }
}
