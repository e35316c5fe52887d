//! What is remembered of sessions and keys, and how it stays true on every instance.
//!
//! Each change of permissions or credentials is recorded in its own transaction. Every instance reads the changes of the others
//! at an interval, and on PostgreSQL as soon as one is committed, and forgets what they concern. An instance that cannot read
//! them trusts its memory for 5 s after the last read; then each request queries the database, and is refused if that fails.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use dotmac_platform::{
    access::{Identity, PermissionSet, PrincipalKind},
    db::{
        Db, TenantId, Tx,
        types::{Id, Moment},
    },
    delivery::wake,
};
use uuid::Uuid;

use crate::{
    AccountsError,
    cache::{Cache, Epoch},
    jwt::Claims,
    rules::tenant_policy::Lack,
    store::{
        api_keys::ApiKeyId, changes as store, keys::HouseKeyId, service_accounts::ServiceAccountId,
        sessions::SessionId, users::UserId,
    },
};

/// How long what is remembered is trusted after the last reading of changes.
const TRUSTED: Duration = Duration::from_secs(5);

/// How long one entry is kept at most.
const KEPT: Duration = Duration::from_secs(60);

/// Changes that are read at once.
const BATCH: i64 = 1000;

/// An instance that was without the database for longer forgets everything: changes are kept for an hour.
const FORGET_AFTER: Duration = Duration::from_secs(600);

/// By what instances are woken for changes of each other.
pub(crate) const WOKEN: &str = "accounts.changes";

const SESSIONS: usize = 16_384;
const TOKENS: usize = 8_192;
const KEYS: usize = 4_096;

/// A change of permissions or credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A session ended or got stronger.
    Session(SessionId),
    /// All of a user's sessions and keys are concerned.
    User(UserId),
    /// All keys of a service account are.
    Service(ServiceAccountId),
    /// One key is.
    ApiKey(ApiKeyId),
    /// All of a tenant's: a role of it changed.
    Tenant(TenantId),
    /// A key of the program.
    Keys(HouseKeyId),
}

impl Change {
    fn parts(self) -> (&'static str, Uuid) {
        match self {
            Self::Session(id) => ("session", id.uuid()),
            Self::User(id) => ("user", id.uuid()),
            Self::Service(id) => ("service", id.uuid()),
            Self::ApiKey(id) => ("api_key", id.uuid()),
            Self::Tenant(id) => ("tenant", id.uuid()),
            Self::Keys(id) => ("keys", id.uuid()),
        }
    }

    fn read(kind: &str, subject: Uuid) -> Option<Self> {
        Some(match kind {
            "session" => Self::Session(Id::from_uuid(subject)),
            "user" => Self::User(Id::from_uuid(subject)),
            "service" => Self::Service(Id::from_uuid(subject)),
            "api_key" => Self::ApiKey(Id::from_uuid(subject)),
            "tenant" => Self::Tenant(Id::from_uuid(subject)),
            "keys" => Self::Keys(Id::from_uuid(subject)),
            _ => return None,
        })
    }
}

/// A caller, as it is remembered.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The user or the service account.
    pub(crate) principal: Uuid,
    pub(crate) kind: PrincipalKind,
    pub(crate) tenant: TenantId,
    pub(crate) permissions: PermissionSet,
    pub(crate) acr: u8,
    pub(crate) authenticated_at: Moment,
    /// The session or the API key.
    pub(crate) by: Uuid,
    /// Networks that it may call from; from everywhere if there is none.
    pub(crate) cidrs: Vec<ipnet::IpNet>,
    /// It counts no longer then.
    pub(crate) until: Moment,
    /// Of an API key that is being replaced: called with the next secret.
    pub(crate) is_next: bool,
    /// What the session lacks for the policy of its tenant.
    pub(crate) lack: Option<Lack>,
    /// The limit of an API key that has one of its own.
    pub(crate) requests_per_minute: Option<u32>,
}

impl Caller {
    /// What handlers learn of it.
    pub(crate) fn identity(&self) -> Identity {
        Identity {
            id: self.principal,
            kind: self.kind,
            tenant: self.tenant,
            permissions: self.permissions,
            acr: self.acr,
            authenticated_at: self.authenticated_at.into(),
            session: Some(self.by),
        }
    }
}

/// A caller with the time at which it was read.
pub(crate) struct Remembered {
    pub(crate) caller: Caller,
    /// The last generation of its refresh token of which an access token was seen; 0 without one.
    confirmed_gen: AtomicI64,
    read_at: Instant,
}

impl Remembered {
    pub(crate) fn new(caller: Caller, confirmed_gen: i64) -> Self {
        Self {
            caller,
            confirmed_gen: AtomicI64::new(confirmed_gen),
            read_at: Instant::now(),
        }
    }

    /// Whether a generation is the first of which an access token is seen here.
    pub(crate) fn is_first_sight(&self, generation: i64) -> bool {
        self.confirmed_gen.load(Relaxed) < generation
    }

    /// The generation was recorded.
    pub(crate) fn confirmed(&self, generation: i64) {
        self.confirmed_gen.fetch_max(generation, Relaxed);
    }
}

/// By what a caller is remembered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum CallerKey {
    Session(SessionId),
    /// The hash of a cookie.
    Cookie(Vec<u8>),
    /// Public part and hash of an API key.
    ApiKey(String, Vec<u8>),
}

/// What this instance remembers. Clones share it.
#[derive(Clone)]
pub(crate) struct Changes(Arc<Inner>);

struct Inner {
    callers: Cache<CallerKey, Arc<Remembered>>,
    keys: Cache<CallerKey, Arc<Remembered>>,
    /// Tokens whose signature was checked, by their SHA-256.
    tokens: Cache<Vec<u8>, Arc<Claims>>,
    /// Set by [`Changes::read`] alone, which one worker calls.
    reading: ArcSwap<Reading>,
    /// Whether keys of the program have changed and were not loaded since.
    keys_due: AtomicBool,
}

#[derive(Default)]
struct Reading {
    /// The number of the last change that was read; `None` before the first reading.
    seq: Option<i64>,
    read_at: Option<Instant>,
}

impl Default for Changes {
    fn default() -> Self {
        Self(Arc::new(Inner {
            callers: Cache::new(SESSIONS),
            keys: Cache::new(KEYS),
            tokens: Cache::new(TOKENS),
            reading: ArcSwap::default(),
            keys_due: AtomicBool::new(true),
        }))
    }
}

impl Changes {
    /// Records the change; this instance forgets what it concerns once it is committed.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`].
    pub(crate) async fn record(&self, tx: &mut Tx, change: Change) -> Result<(), AccountsError> {
        let (kind, subject) = change.parts();
        store::insert(tx, kind, subject).await?;
        let here = self.clone();
        tx.after_commit(move || {
            here.forget(change);
            wake(&[WOKEN]);
        });
        Ok(())
    }

    /// Whether what is remembered may be trusted.
    pub(crate) fn is_fresh(&self) -> bool {
        self.age().is_some_and(|age| age < TRUSTED)
    }

    /// How long ago the changes of other instances were read; `None` before the first time.
    pub(crate) fn age(&self) -> Option<Duration> {
        self.0.reading.load().read_at.map(|at| at.elapsed())
    }

    /// A caller that is remembered, unless that must not be trusted now.
    pub(crate) fn caller(&self, key: &CallerKey) -> Option<Arc<Remembered>> {
        let found = self.cache_of(key).get(key)?;
        let is_good = found.read_at.elapsed() < KEPT && found.caller.until > Moment::now();
        (is_good && self.is_fresh()).then_some(found)
    }

    pub(crate) fn epoch(&self, key: &CallerKey) -> Epoch {
        self.cache_of(key).epoch()
    }

    /// Remembers a caller that was read since `read`.
    pub(crate) fn remember(
        &self,
        read: Epoch,
        key: CallerKey,
        caller: Remembered,
    ) -> Arc<Remembered> {
        let caller = Arc::new(caller);
        let cache = self.cache_of(&key);
        cache.insert(read, key, Arc::clone(&caller));
        caller
    }

    /// A token that was checked before.
    pub(crate) fn token(&self, hash: &Vec<u8>) -> Option<Arc<Claims>> {
        self.0.tokens.get(hash).filter(|_| self.is_fresh())
    }

    pub(crate) fn token_epoch(&self) -> Epoch {
        self.0.tokens.epoch()
    }

    pub(crate) fn remember_token(&self, read: Epoch, hash: Vec<u8>, claims: Arc<Claims>) {
        self.0.tokens.insert(read, hash, claims);
    }

    /// Makes the next request with each token check it again.
    pub(crate) fn forget_tokens(&self) {
        self.0.tokens.clear();
    }

    fn cache_of(&self, key: &CallerKey) -> &Cache<CallerKey, Arc<Remembered>> {
        match key {
            CallerKey::Session(_) | CallerKey::Cookie(_) => &self.0.callers,
            CallerKey::ApiKey(..) => &self.0.keys,
        }
    }

    /// Forgets what `change` concerns.
    fn forget(&self, change: Change) {
        let concerns = |caller: &Caller| match change {
            Change::Session(id) => caller.by == id.uuid(),
            Change::ApiKey(id) => caller.by == id.uuid(),
            Change::User(id) => caller.principal == id.uuid(),
            Change::Service(id) => caller.principal == id.uuid(),
            Change::Tenant(id) => caller.tenant == id,
            Change::Keys(_) => false,
        };
        match change {
            Change::Keys(_) => self.0.tokens.clear(),
            Change::Service(_) | Change::ApiKey(_) => {
                self.0
                    .keys
                    .remove(|_, remembered| concerns(&remembered.caller));
            }
            Change::Session(_) => self
                .0
                .callers
                .remove(|_, remembered| concerns(&remembered.caller)),
            Change::User(_) | Change::Tenant(_) => {
                self.0
                    .callers
                    .remove(|_, remembered| concerns(&remembered.caller));
                self.0
                    .keys
                    .remove(|_, remembered| concerns(&remembered.caller));
            }
        }
    }

    fn forget_all(&self) {
        self.0.callers.clear();
        self.0.keys.clear();
        self.0.tokens.clear();
    }

    /// Whether keys of the program have changed since the last call of [`keys_loaded`](Self::keys_loaded).
    pub(crate) fn are_keys_due(&self) -> bool {
        self.0.keys_due.load(Relaxed)
    }

    /// The keys were loaded after the last reading.
    pub(crate) fn keys_loaded(&self) {
        self.0.keys_due.store(false, Relaxed);
    }

    /// Reads the changes of all instances since the last reading.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Db`]; what is remembered is trusted for what is left of its 5 s.
    pub(crate) async fn read(&self, db: &Db) -> Result<(), AccountsError> {
        let Reading {
            seq,
            read_at: last_read,
        } = **self.0.reading.load();
        // What is read is true from before the query on.
        let began = Instant::now();
        let is_too_old = last_read.is_none_or(|at| at.elapsed() > FORGET_AFTER);
        let (seq, rows) = match seq.filter(|_| !is_too_old) {
            None => {
                let last = db
                    .read("read last change", async |c| store::last(c).await)
                    .await?;
                self.forget_all();
                (last, Vec::new())
            }
            Some(seq) => {
                let rows = db.read("read changes", async move |c| {
                    store::after(c, seq, BATCH).await
                });
                (seq, rows.await?)
            }
        };
        let is_all = i64::try_from(rows.len()).is_ok_and(|rows| rows < BATCH);
        let seq = rows.last().map_or(seq, |(seq, ..)| *seq);
        let changes = rows
            .iter()
            .map(|(_, kind, subject)| Change::read(kind, *subject));
        let mut are_keys = last_read.is_none() || is_too_old;
        for change in changes {
            match change {
                Some(change) => {
                    are_keys |= matches!(change, Change::Keys(_));
                    self.forget(change);
                }
                // Written by a newer version.
                None => self.forget_all(),
            }
        }
        if are_keys {
            self.0.keys_due.store(true, Relaxed);
        }
        self.0.reading.store(Arc::new(Reading {
            seq: Some(seq),
            read_at: if is_all { Some(began) } else { last_read },
        }));
        Ok(())
    }
}
