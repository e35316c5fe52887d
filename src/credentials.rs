//! The bridge between secrets and the database, which know nothing of each other: what the one
//! publishes the other is offered, and what the other refuses the one asks for anew.

use std::sync::Arc;

use dotmac_actors::{
    db::{Account, CREDENTIALS_MISSING, Credentials, Offer, Tenure},
    secrets::{SecretFeed, SecretStore, Subscription, Takes},
};
use secrecy::ExposeSecret;

pub(crate) const USERNAME: &str = "DOTMAC_DATABASE_USERNAME";
pub(crate) const PASSWORD: &str = "DOTMAC_DATABASE_PASSWORD";

/// Credentials that follow what `feed` tells.
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

/// The account that `store` has, for good.
pub(crate) fn fixed(store: &SecretStore) -> Credentials {
    let credentials = Credentials::to_come();
    credentials.offer(offer(store, None));
    credentials
}

/// A user is needed; whether a password is, the server decides.
fn offer(store: &SecretStore, feed: Option<&SecretFeed>) -> Offer {
    let username = store.get(USERNAME).ok_or(CREDENTIALS_MISSING)?;
    let tenure = feed.filter(|_| store.is_from_vault()).map(|feed| {
        let tenure: Arc<dyn Tenure> = Arc::new(Lasting(feed.clone()));
        tenure
    });
    Ok(Arc::new(Account {
        username: Some(username.expose_secret().to_owned()),
        password: store.get(PASSWORD).cloned(),
        tenure,
    }))
}

/// What lies in Vault until somebody changes it.
struct Lasting(SecretFeed);

impl Tenure for Lasting {
    fn taken(&self) {}

    fn refused(&self) {
        self.0.refuse(PASSWORD);
    }
}
