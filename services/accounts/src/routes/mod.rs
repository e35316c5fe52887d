//! Reads requests, calls rules, and writes answers.

mod api_keys;
mod auth;
mod export;
mod factors;
mod flow;
mod grants;
mod held;
mod links;
mod mail;
mod me;
mod mfa;
mod pages;
mod passkeys;
mod passwords;
mod register;
mod role_bindings;
mod role_permissions;
mod roles;
mod service_accounts;
mod session;
mod tenant_policy;
mod tenants;
mod users;
mod well_known;

use std::{cmp::Reverse, time::Duration};

use dotmac_platform::{
    mail::is_invisible,
    module::Mount,
    routing::{CursorScope, InvalidRequest, Page, Paging, RateLimit, RequestHead, Routes, etag},
};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    AccountsError,
    store::{ACTIVE, DISABLED},
};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// Limits of one client network, and of one wide network ten times as many.
type OfNetworks = [RateLimit; 2];

const fn of_networks(policies: [&'static str; 2], requests: u32, window: Duration) -> OfNetworks {
    [
        RateLimit::per_network(requests, window).named(policies[0]),
        RateLimit::per_wide_network(10 * requests, window).named(policies[1]),
    ]
}

/// Sign-ins: 20 at once, and 10 a minute on.
const SIGN_INS: OfNetworks = {
    let [narrow, wide] = of_networks(["login", "login_wide"], 10, MINUTE);
    [narrow.burst(20), wide.burst(200)]
};

/// Passwords by which one caller authenticates again.
const PASSWORDS: RateLimit = RateLimit::per_principal(10, MINUTE);

/// Second factors.
const SECOND_FACTORS: OfNetworks = of_networks(["mfa", "mfa_wide"], 20, MINUTE);

/// First codes of apps of one caller, each of which makes ten recovery codes.
const CONFIRMATIONS: RateLimit = RateLimit::per_principal(10, HOUR);

/// Apps that one caller sets up, and first codes with which that ends.
const SET_UPS: RateLimit = RateLimit::per_principal(20, HOUR);

/// Registrations of passkeys of one caller, the first of which makes ten recovery codes.
const REGISTERED_PASSKEYS: RateLimit = RateLimit::per_principal(20, HOUR);

/// Sets of recovery codes of one caller: ten slow hashes each.
const CODE_SETS: RateLimit = RateLimit::per_principal(3, HOUR);

/// Links that are used.
const LINKS: OfNetworks = of_networks(["link", "link_wide"], 20, MINUTE);

/// Mails that are asked for.
const MAILS: OfNetworks = of_networks(["mail", "mail_wide"], 10, HOUR);

/// Addresses that one caller wants for the account.
const CHANGES: RateLimit = RateLimit::per_principal(10, HOUR);

/// Accounts that are made.
const REGISTRATIONS: OfNetworks = of_networks(["register", "register_wide"], 5, HOUR);

/// Refreshes of one session.
const REFRESHES: RateLimit = RateLimit::per_key(60, MINUTE).named("refresh");

/// Sessions in other tenants that one caller begins: each is a row, and a change that all instances read.
const SWITCHES: RateLimit = RateLimit::per_principal(10, MINUTE);

/// Exports of one caller: each reads all tenants of the user, and is recorded.
const EXPORTS: RateLimit = RateLimit::per_principal(10, HOUR);

/// Requests of one caller, to all routes that have no limit of their own for it.
const CALLS: RateLimit = RateLimit::per_principal(600, MINUTE)
    .named("api")
    .across_routes();

/// Reports of found keys by one client network.
const REPORTS: RateLimit = RateLimit::per_network(60, HOUR);

/// Largest body of a request; no field is anywhere near it.
const BODY: usize = 16 * 1024;

pub(crate) fn mount(on: &mut Mount<'_>) {
    let mut below = |prefix, declare: &dyn Fn(&mut Routes)| {
        on.routes(prefix, |routes| {
            // Answers hold personal data, or a secret that is shown once.
            routes.no_store();
            declare(routes);
        });
    };
    below("/auth", &|routes| {
        auth::declare(routes);
        mfa::declare(routes);
        passkeys::declare(routes);
        passwords::declare(routes);
        mail::declare(routes);
        links::declare(routes);
        register::declare(routes);
        me::declare(routes);
        export::declare(routes);
    });
    below("/auth/me/factors", &factors::declare);
    below("/auth/me/factors/passkeys", &passkeys::own::declare);
    below("/auth/me/api-keys", &api_keys::own::declare);
    below("/users", &users::declare);
    below("/permissions", &roles::declare_permissions);
    below("/roles", &roles::declare);
    below("/roles", &role_permissions::declare);
    below("/role-bindings", &role_bindings::declare);
    below("/grants", &grants::declare);
    below("/tenants", &tenants::declare);
    below("/tenants", &tenant_policy::declare);
    below("/service-accounts", &service_accounts::declare);
    below("/api-keys", &api_keys::declare);
    below("/keys", &api_keys::reports::declare);
    on.root_routes("/.well-known", well_known::declare);
    on.root_routes("/account", pages::declare);
}

/// The request's `User-Agent`, cut to what is worth to show.
fn user_agent(head: &RequestHead) -> Option<String> {
    let text = head.header("user-agent")?;
    Some(
        text.chars()
            .filter(|letter| !letter.is_control())
            .take(200)
            .collect(),
    )
}

/// A name that others go by: no invisible characters, and no blank at either end.
fn visible(text: &str, _: &()) -> garde::Result {
    shown(text, &[])
}

/// The name of a person, which no right depends on: the same, but that letters may be joined and kept apart, as in Persian.
fn personal(text: &str, _: &()) -> garde::Result {
    shown(text, &['\u{200c}', '\u{200d}'])
}

fn shown(text: &str, allowed: &[char]) -> garde::Result {
    let is_hidden =
        |letter: char| (letter.is_control() || is_invisible(letter)) && !allowed.contains(&letter);
    if text.trim() == text && !text.chars().any(is_hidden) {
        Ok(())
    } else {
        Err(garde::Error::new(
            "must not begin or end with a blank, or hold characters that cannot be seen",
        ))
    }
}

/// The page of a list that is read whole, in the order of `key` or in the reverse order. No two items have the same key.
///
/// # Errors
///
/// 400 `invalid_cursor`.
fn page_of_all<T, K>(
    paging: &Paging,
    bound: &CursorScope<'_>,
    is_descending: bool,
    mut all: Vec<T>,
    key: impl Fn(&T) -> K,
) -> Result<Page<T>, InvalidRequest>
where
    K: Serialize + DeserializeOwned + Ord,
{
    if is_descending {
        all.sort_by_key(|item| Reverse(key(item)));
        paging.page_of_all(bound, all, |item| Reverse(key(item)))
    } else {
        all.sort_by_key(&key);
        paging.page_of_all(bound, all, key)
    }
}

/// The query parameter `status`, which is `active` or `disabled` if it is given.
///
/// # Errors
///
/// 400 `invalid_query`.
fn status(given: Option<&str>) -> Result<Option<String>, InvalidRequest> {
    match given {
        None => Ok(None),
        Some(status @ (ACTIVE | DISABLED)) => Ok(Some(status.to_owned())),
        Some(_) => Err(InvalidRequest::query("status", "is `active` or `disabled`")),
    }
}

/// `text` as a value of its field; a text that is none is refused with the field's name.
fn refused(field: &'static str, message: &'static str) -> AccountsError {
    AccountsError::field(field, "invalid", message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_holds_nothing_that_cannot_be_seen() {
        for name in ["owner", "Jos\u{e9} P\u{e9}rez", "\u{674e}\u{5c0f}\u{9f99}"] {
            assert!(visible(name, &()).is_ok(), "{name:?}");
        }
        let hidden = "\u{7}\u{ad}\u{61c}\u{200b}\u{200d}\u{2028}\u{202e}\u{2060}\u{2063}\u{2069}\u{feff}\u{e0061}";
        let fillers = "\u{115f}\u{1160}\u{3164}\u{ffa0}";
        for hidden in hidden.chars().chain(fillers.chars()) {
            for name in [format!("owner{hidden}"), format!("own{hidden}er")] {
                assert!(visible(&name, &()).is_err(), "{name:?}");
            }
        }
        assert!(visible(" owner", &()).is_err());
        let persian = "\u{639}\u{644}\u{6cc}\u{200c}\u{631}\u{636}\u{627}";
        assert!(personal(persian, &()).is_ok() && visible(persian, &()).is_err());
        assert!(personal("Ann\u{202e}", &()).is_err());
    }
}
