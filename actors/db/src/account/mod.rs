//! Whom to log in to PostgreSQL as, while that changes under way.
//!
//! An [`Account`] is offered from outside at any time. What is in use stays in use until `rotation`
//! has proved the new one with a real connection and swaps them. Each connection carries the account
//! that it was opened with, so that the pool knows the superseded ones exactly. The account itself is dropped with its
//! last connection: then the owner of its lease may revoke it.

mod rotation;

pub(crate) use rotation::{OfferOutcome, Rotation};

use std::{
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use secrecy::SecretString;
use tokio::sync::watch;

use crate::reason::CREDENTIALS_MISSING;
use dotmac_supervision::Reason;

/// One user of a server, with what proves it. Compared by identity: the same user and password offered again are
/// another account.
pub struct Account {
    /// Whom to log in as; the server's rules decide if absent.
    pub username: Option<String>,
    /// The check of it.
    pub password: Option<SecretString>,
    /// Who wants to know what becomes of it. Dropped with the account's last connection.
    pub observer: Option<Arc<dyn AccountObserver>>,
}

/// Is notified of an account's results, and dropped when the account is no longer used. Called on the
/// database's threads: must not block.
pub trait AccountObserver: Send + Sync {
    /// New connections use it from now on.
    fn taken(&self);

    /// The server refused it. A source of newer accounts offers one now.
    fn refused(&self);
}

/// The account to use, or why there is none.
pub type Offer = Result<Arc<Account>, Reason>;

/// The account in use and the one on offer. Clones share both, and outlive the actor's lives.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    offered: watch::Sender<Offer>,
    current: ArcSwapOption<Account>,
}

impl Credentials {
    /// Credentials that are still to be [offered](Self::offer).
    #[must_use]
    pub fn to_come() -> Self {
        Self::new(Err(CREDENTIALS_MISSING))
    }

    /// One constant account.
    #[must_use]
    pub fn fixed(username: Option<String>, password: Option<SecretString>) -> Self {
        Self::new(Ok(Arc::new(Account {
            username,
            password,
            observer: None,
        })))
    }

    fn new(offer: Offer) -> Self {
        Self(Arc::new(Shared {
            offered: watch::Sender::new(offer),
            current: ArcSwapOption::empty(),
        }))
    }

    /// Offers another account, to be used once it has proved good, or takes the present one away for
    /// a reason that `/ready` will show.
    pub fn offer(&self, offer: Offer) {
        drop(self.0.offered.send_replace(offer));
    }

    /// The account of new connections: the one in use, else the offered one, which is then in use.
    pub(crate) fn account(&self) -> Offer {
        if let Some(current) = self.0.current.load_full() {
            return Ok(current);
        }
        let offered = self.offered()?;
        self.swap(Arc::clone(&offered));
        Ok(offered)
    }

    pub(crate) fn offered(&self) -> Offer {
        self.0.offered.borrow().clone()
    }

    /// Changes whenever something is offered.
    pub(crate) fn offers(&self) -> watch::Receiver<Offer> {
        self.0.offered.subscribe()
    }

    /// The account in use, not kept alive.
    pub(crate) fn in_use(&self) -> Weak<Account> {
        let current = self.0.current.load();
        current.as_ref().map_or_else(Weak::new, Arc::downgrade)
    }

    /// Lets new connections use `account`.
    pub(crate) fn swap(&self, account: Arc<Account>) {
        if let Some(observer) = &account.observer {
            observer.taken();
        }
        self.0.current.store(Some(account));
    }

    /// Leaves nothing to use but what is on offer.
    pub(crate) fn clear(&self) {
        self.0.current.store(None);
    }

    /// The account that is offered in the place of `refused` within `limit`; `None` at once if `refused` has no observer,
    /// which could offer another.
    pub(crate) async fn instead_of(
        &self,
        refused: &Arc<Account>,
        limit: Duration,
    ) -> Option<Arc<Account>> {
        let mut offers = self.offers();
        refused.observer.as_ref()?.refused();
        let another = offers.wait_for(|offer| {
            offer
                .as_ref()
                .is_ok_and(|account| !Arc::ptr_eq(account, refused))
        });
        let offer = tokio::time::timeout(limit, another).await.ok()?.ok()?;
        offer.as_ref().ok().map(Arc::clone)
    }

    /// The mark of a connection opened with `account`.
    pub(crate) fn guard(&self, account: Arc<Account>) -> AccountGuard {
        AccountGuard {
            account,
            credentials: self.clone(),
        }
    }
}

/// Neither names nor passwords.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials([redacted])")
    }
}

/// The account that a connection was opened with, kept alive for as long as the connection has it.
pub(crate) struct AccountGuard {
    account: Arc<Account>,
    credentials: Credentials,
}

impl AccountGuard {
    /// Notifies the source of the account that the server has removed it.
    pub(crate) fn refused(&self) {
        if let Some(observer) = &self.account.observer {
            observer.refused();
        }
    }

    /// Whether the account is the one in use.
    pub(crate) fn is_valid(&self) -> bool {
        let current = self.credentials.0.current.load();
        current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, &self.account))
    }
}
