//! The bridge between secrets and the database, which do not depend on each other: it offers published secrets to the
//! database, and reports refused ones to secrets, which read them again.

use std::sync::Arc;

use dotmac_db::{Account, AccountObserver, CREDENTIALS_MISSING, Credentials, Offer};
use dotmac_secrets::{LeaseHold, SecretFeed, SecretStore, Subscription, Takes};
use secrecy::{ExposeSecret, SecretString};

pub(crate) const USERNAME: &str = "DOTMAC_DATABASE_USERNAME";
pub(crate) const PASSWORD: &str = "DOTMAC_DATABASE_PASSWORD";

/// Credentials that follow `feed`.
pub(crate) fn from_feed(feed: &SecretFeed) -> Credentials {
    let credentials = Credentials::to_come();
    let (offered, refusing) = (credentials.clone(), feed.clone());
    feed.subscribe(Subscription {
        name: "db",
        keys: vec![USERNAME.to_owned(), PASSWORD.to_owned()],
        takes: Takes::Live(Arc::new(move |store| {
            offered.offer(offer(store, Some(&refusing)));
        })),
    });
    credentials
}

/// The account in `store`, as a constant.
pub(crate) fn fixed(store: &SecretStore) -> Credentials {
    let credentials = Credentials::to_come();
    credentials.offer(offer(store, None));
    credentials
}

/// Credentials that Vault has just made for one use.
pub(crate) fn issued(
    (username, password, hold): (SecretString, SecretString, LeaseHold),
) -> Credentials {
    let credentials = Credentials::to_come();
    credentials.offer(Ok(Arc::new(Account {
        username: Some(username.expose_secret().to_owned()),
        password: Some(password),
        observer: Some(Arc::new(Leased(hold))),
    })));
    credentials
}

/// A user is needed; whether a password is, the server decides.
fn offer(store: &SecretStore, feed: Option<&SecretFeed>) -> Offer {
    let absent = || store.absence(USERNAME).unwrap_or(CREDENTIALS_MISSING);
    let username = store.get(USERNAME).ok_or_else(absent)?;
    let observer: Option<Arc<dyn AccountObserver>> = match (store.hold(PASSWORD), feed) {
        (Some(hold), _) => Some(Arc::new(Leased(hold.clone()))),
        (None, Some(feed)) if store.is_from_vault() => Some(Arc::new(Lasting(feed.clone()))),
        (None, _) => None,
    };
    Ok(Arc::new(Account {
        username: Some(username.expose_secret().to_owned()),
        password: store.get(PASSWORD).cloned(),
        observer,
    }))
}

/// A value in Vault that an operator changes.
struct Lasting(SecretFeed);

impl AccountObserver for Lasting {
    fn taken(&self) {}

    fn refused(&self) {
        self.0.refuse(PASSWORD);
    }
}

/// Leased credentials of Vault: revoked with their last connection.
struct Leased(LeaseHold);

impl AccountObserver for Leased {
    fn taken(&self) {
        self.0.taken();
    }

    fn refused(&self) {
        self.0.refused();
    }
}
