//! Secrets, those of modules included: there if they are needed, where they can be read from, and fit for
//! production.

use dotmac_db::sealing::Keyring;
use secrecy::{ExposeSecret, SecretString};

use super::PlatformRules;
use super::weak::weakness;
use crate::settings::Entry;
use crate::settings::engine::group::PREFIX;
use crate::settings::groups::DatabaseTarget;
use crate::settings::types::VaultAuth;

/// Characters that `DOTMAC_APP_SECRET_KEY` has at the least.
const LEAST_KEY_CHARS: usize = 32;

impl PlatformRules<'_> {
    pub(super) fn secrets(&mut self) {
        let settings = self.settings;
        let followed = |entry: &&Entry| entry.spec.kind.followed && settings.is_in_effect(entry);
        for entry in settings.entries.iter().filter(followed) {
            self.reference(entry);
            if !entry.spec.optional {
                let whose = entry.module.unwrap_or("platform");
                let why = format!("`{whose}` needs this secret, and it is not set");
                self.rules.need_entry(entry, why);
            }
        }
    }

    /// Keys that are none would be found out with the first value that is sealed.
    pub(super) fn master_key(&mut self) {
        let given = self.settings.app.app_master_key.literal();
        if let Some(wrong) = given.and_then(|keys| Keyring::check(keys).err()) {
            self.refuse(
                true,
                &["APP_MASTER_KEY"],
                format!("the secret is no list of keys: {wrong}"),
                "give 32 random bytes in base64, as `openssl rand -base64 32` writes them; several with commas between",
            );
        }
    }

    /// A reference can be followed only if Vault is enabled.
    fn reference(&mut self, entry: &Entry) {
        let Some(reference) = entry.reference() else {
            return;
        };
        self.refuse(
            !self.settings.vault.enabled,
            &[
                entry.key.trim_start_matches(PREFIX),
                "VAULT_ENABLED",
                "VAULT_ADDR",
            ],
            format!("{reference} is in Vault, which is not enabled"),
            "set DOTMAC_VAULT_ADDR, or give the value itself",
        );
    }

    /// Secrets for key derivation must be longer than typed passwords.
    pub(super) fn app_secret_key(&mut self) {
        let key = self.settings.app.app_secret_key.literal();
        let length = key.map(|key| key.expose_secret().chars().count());
        self.refuse(
            length.is_some_and(|length| length < LEAST_KEY_CHARS),
            &["APP_SECRET_KEY"],
            format!(
                "the secret has {} characters; it must have at least {LEAST_KEY_CHARS}",
                length.unwrap_or_default()
            ),
            "give a long random one, e.g. the output of `openssl rand -hex 32`",
        );
    }

    /// For production.
    pub(super) fn weak_secrets(&mut self) {
        let vault = &self.settings.vault;
        // Only what is used: the environment may hold a token for an operator's command line.
        match vault.auth {
            _ if !vault.enabled => {}
            VaultAuth::Token => self.refuse_weak("VAULT_TOKEN", vault.token.as_ref()),
            VaultAuth::AppRole => self.refuse_weak("VAULT_SECRET_ID", vault.secret_id.as_ref()),
            VaultAuth::Kubernetes | VaultAuth::Jwt | VaultAuth::Cert => {}
        }
        if let DatabaseTarget::Postgres(target) = self.settings.database.target() {
            let is_own_key = self.settings.database.password.is_given();
            let name = if is_own_key {
                "DATABASE_PASSWORD"
            } else {
                "DATABASE_URL"
            };
            self.refuse_weak(name, target.password.literal());
        }
        let settings = self.settings;
        let of_modules = settings.entries.iter().filter(|entry| {
            entry.module.is_some() && !entry.spec.guessable && settings.is_in_effect(entry)
        });
        for entry in of_modules.filter(|entry| entry.is_literal()) {
            let name = entry.key.trim_start_matches(PREFIX);
            self.refuse_weak(name, Some(&entry.text));
        }
    }

    fn refuse_weak(&mut self, name: &str, secret: Option<&SecretString>) {
        if let Some(weakness) = secret.and_then(|it| weakness(it.expose_secret())) {
            let problem = format!("the secret is {weakness}, which production refuses");
            self.refuse(true, &[name], problem, "give a long random one");
        }
    }
}
