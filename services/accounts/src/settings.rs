//! The keys of accounts.

use std::{path::PathBuf, time::Duration};

use dotmac_platform::settings::{
    Environment, Facts, Rules, SecretSetting, between, computed, fixed, lasting,
};
use url::Url;

use crate::password;

dotmac_platform::choice! {
    /// Who may create an account.
    pub enum RegistrationMode {
        /// No one: administrators create accounts.
        Closed = "closed",
        /// Addresses whose account an administrator created and that has no password yet.
        Invite = "invite",
        /// Everybody who receives mail.
        Open = "open",
    }
}

dotmac_platform::choice! {
    /// What access tokens are signed with.
    pub enum TokenAlg {
        /// ECDSA on P-256, which every library knows.
        Es256 = "es256",
        /// Ed25519, under the name that RFC 8037 gave it.
        EdDsa = "eddsa",
    }
}

dotmac_platform::settings! {
    title: "Accounts", prefix: "ACCOUNTS_", rules: AccountsSettings::rules;
    /// Users, sign-in, sessions, roles, tenants and keys.
    pub struct AccountsSettings {
        /// Address by which clients reach this installation, the same for all instances. It is the start of links and
        /// the issuer (`iss`) of access tokens, and passkeys work only on its host and port. Needed in production, with
        /// `https`.
        public_url: Url {
            default: computed("`http://localhost` with the port of `DOTMAC_PORT`", |facts| facts.local_url()),
        }

        /// The audience (`aud`) of access tokens, which other services check.
        audience: String { default: fixed("dotmac") }

        /// File of a generated key, used while `DOTMAC_APP_MASTER_KEY` is not set; only its owner may read it.
        /// Unset means that nothing can be sealed without `DOTMAC_APP_MASTER_KEY`, so sign-in is refused.
        development_key_path: Option<PathBuf> {
            default: computed("`dotmac-accounts.key` in development, unset elsewhere", key_file),
        }

        /// Memory of one password hash (argon2id), in KiB.
        argon2_m: u32 { default: fixed("19456"), range: between::<u32>("19456", "262144") }

        /// Passes of one password hash over its memory.
        argon2_t: u32 { default: fixed("2"), range: between::<u32>("2", "10") }

        /// Lanes of one password hash.
        argon2_p: u32 { default: fixed("1"), range: between::<u32>("1", "16") }

        /// Threads that hash passwords, each with the memory of one hash while it works and for 10 s after.
        hash_threads: usize {
            default: computed("half the processor cores, from 1 to 4", hash_threads),
            range: between::<usize>("1", "64"),
        }

        /// Keys of 32 random bytes in base64 (`openssl rand -base64 32`) for hashing passwords, kept apart from the
        /// database. Of several, with commas between, the first hashes and all verify. A password whose hash needs a
        /// missing key is refused.
        pepper: SecretSetting { vault: "accounts/pepper", optional: true }

        /// A file of `accounts breach-filter build`: new passwords must not be in it.
        breach_filter_path: Option<PathBuf> {}

        /// What access tokens are signed with, the same on all instances: `ES256`, or `EdDSA` if all services that check them know it. A
        /// change replaces the signing key, as a rotation does.
        token_alg: TokenAlg { default: fixed("es256") }

        /// How long an access token is good.
        access_ttl: Duration { default: fixed("15m"), range: lasting("1m", "1h") }

        /// How long a session with tokens lasts without a refresh.
        refresh_idle: Duration { default: fixed("7d"), range: lasting("1h", "90d") }

        /// How long a browser's session lasts without a request.
        session_idle: Duration { default: fixed("14d"), range: lasting("10m", "90d") }

        /// Longest lifetime of a session.
        session_absolute: Duration { default: fixed("30d"), range: lasting("1h", "365d") }

        /// Time after the use of a refresh token in which a second use returns the same successor, for parallel tabs
        /// and retries. `0s` means that a second use always ends the session.
        refresh_grace: Duration { default: fixed("30s"), range: lasting("0s", "2m") }

        /// Sessions of one user at a time. A further sign-in ends the one that was idle the longest.
        max_sessions: u32 { default: fixed("50"), range: between::<u32>("1", "1000") }

        /// Required authentication for administration of users, roles, tenants and keys: `1` a password, `2` two
        /// factors. With `1` a stolen password is enough for administration.
        admin_acr: u8 {
            default: computed("`2` in production, `1` elsewhere", admin_acr),
            range: between::<u8>("1", "2"),
        }

        /// Who may create accounts: `closed` administrators only; `invite` also the owner of an address whose account
        /// an administrator created and that has no password yet; `open` anyone with an address.
        registration: RegistrationMode { default: fixed("closed") }

        /// How often an instance reads which sessions, users and keys were changed on others.
        changes_interval: Duration { default: fixed("800ms"), range: lasting("100ms", "1s") }
    }
}

impl AccountsSettings {
    fn rules(&self, rules: &mut Rules<'_>) {
        let in_production = rules.in_production();
        rules.refuse(
            in_production && !rules.is_given("public_url"),
            &["public_url"],
            "it is needed in production: links and access tokens contain it",
            "set it to the https:// address by which clients reach this installation",
        );
        rules.refuse(
            in_production && rules.is_given("public_url") && self.public_url.scheme() != "https",
            &["public_url"],
            "passwords and tokens would travel in the clear",
            "use an https:// address",
        );
        rules.refuse(
            in_production && self.development_key_path.is_some(),
            &["development_key_path"],
            "in production the key must not be stored with the database",
            "unset it, and set DOTMAC_APP_MASTER_KEY",
        );
        rules.refuse(
            password::is_malformed(&self.pepper),
            &["pepper"],
            format!("it is {}", password::MALFORMED),
            "make a key with `openssl rand -base64 32`",
        );
        rules.refuse(
            self.refresh_idle > self.session_absolute || self.session_idle > self.session_absolute,
            &["session_absolute", "refresh_idle", "session_idle"],
            "sessions would end before they are idle",
            "make it at least as long as DOTMAC_ACCOUNTS_REFRESH_IDLE and DOTMAC_ACCOUNTS_SESSION_IDLE",
        );
    }

    /// Whether cookies are for TLS alone: always, once clients reach this installation by `https`, whatever the last hop is.
    pub(crate) fn has_secure_cookies(&self, is_secure: bool) -> bool {
        is_secure || self.public_url.scheme() == "https"
    }

    /// The issuer of access tokens: the public address without a slash at its end.
    pub(crate) fn issuer(&self) -> String {
        self.public_url.as_str().trim_end_matches('/').to_owned()
    }
}

fn key_file(facts: &Facts<'_>) -> String {
    match facts.environment() {
        Environment::Development => "dotmac-accounts.key".to_owned(),
        _ => String::new(),
    }
}

fn admin_acr(facts: &Facts<'_>) -> String {
    let acr = match facts.environment() {
        Environment::Production => "2",
        _ => "1",
    };
    acr.to_owned()
}

fn hash_threads(facts: &Facts<'_>) -> String {
    (facts.cores() / 2).clamp(1, 4).to_string()
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::AccountsSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<AccountsSettings>("accounts", readme);
    }
}
