//! The bridge between secrets and sealing, which know nothing of each other: the keys that values are sealed with follow
//! `DOTMAC_APP_MASTER_KEY`.

use std::sync::Arc;

use dotmac_db::sealing::Keyring;
use dotmac_secrets::{SecretFeed, SecretStore, Subscription, Takes};
use tracing::{error, info};

use crate::settings::APP_MASTER_KEY;

/// Keys that follow `feed`.
pub(crate) fn follow(feed: &SecretFeed) -> Keyring {
    let keyring = Keyring::new(APP_MASTER_KEY);
    let followed = keyring.clone();
    feed.subscribe(Subscription {
        name: "sealing",
        keys: vec![APP_MASTER_KEY.to_owned()],
        takes: Takes::Live(Arc::new(move |store| take(&followed, store))),
    });
    keyring
}

/// Takes the keys in `store`. Without any, or with wrong ones, the former stay: what is stored needs them.
fn take(keyring: &Keyring, store: &SecretStore) {
    let Some(text) = store.get(APP_MASTER_KEY) else {
        return;
    };
    match keyring.set(text) {
        Ok(()) => {
            let ids = keyring.ids();
            let first = ids.first().map(ToString::to_string);
            info!(
                key = APP_MASTER_KEY,
                key.id = first,
                keys = ids.len(),
                "values are sealed with the first key of {APP_MASTER_KEY}"
            );
        }
        Err(error) => error!(
            key = APP_MASTER_KEY,
            "{APP_MASTER_KEY} cannot be used: {error}; the former keys stay in use"
        ),
    }
}

#[cfg(test)]
mod tests {
    use dotmac_secrets::{Wanted, WantedSource, literals};

    use super::*;

    const FIRST: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
    const SECOND: &str = "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";

    #[test]
    fn keys_are_taken_live_and_kept_when_what_follows_is_wrong_or_gone() {
        let keyring = Keyring::new(APP_MASTER_KEY);
        let reported = |text: Option<&str>| {
            let wanted = text.map(|text| Wanted {
                key: APP_MASTER_KEY.to_owned(),
                source: WantedSource::Literal(text.into()),
            });
            take(&keyring, &literals(wanted.as_slice()));
            keyring.ids()
        };
        assert_eq!(reported(None), []);
        let first = reported(Some(FIRST));
        let both = reported(Some(&format!("{SECOND},{FIRST}")));
        assert_eq!((first.len(), both.len()), (1, 2));
        assert_eq!(both.last(), first.last());
        assert_eq!(reported(Some("no key")), both);
        assert_eq!(reported(None), both);
        assert_eq!(reported(Some(FIRST)), first);
    }
}
