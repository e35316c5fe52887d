//! Hashes passwords on threads of its own, so that a flood of sign-ins delays nothing else.
//!
//! The threads are started when there is work, run at niceness 10, keep the memory of one hash while they work, and end
//! after 10 s without any: an idle daemon has none. What waits is bounded, in all and for each client network; what has
//! waited for 2 s is not begun any more, since its client has gone or will have. Devices that signed in before go first, but
//! for every fourth job, and take the place of others when the queue is full.

mod queue;

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    BreachFilter, Context, HashParams, PasswordFault, Peppers, Strength,
    phc::{self, Memory},
    policy,
};
use crate::{AccountsError, metrics, names};
use queue::{Job, LONGEST_WAIT, Queue};

/// Requests of one signed-in caller that may have work here.
const MOST_OF_CALLER: usize = 2;

/// How long a thread keeps its memory without work; tests need not wait so long.
const IDLE: Duration = if cfg!(test) {
    Duration::from_millis(50)
} else {
    Duration::from_secs(10)
};

const NICENESS: i32 = 10;

/// The way to the threads. Clones share them.
#[derive(Clone)]
pub(crate) struct Hasher(Arc<Inner>);

struct Inner {
    cost: HashParams,
    peppers: Peppers,
    breached: Option<BreachFilter>,
    most_threads: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    /// What is checked where there is no hash, so that it takes as long; and the pepper that it was made with.
    dummy: Mutex<Option<(Option<[u8; 4]>, String)>>,
    /// Signed-in callers whose requests have work here, and how many.
    callers: Mutex<HashMap<Uuid, usize>>,
}

/// Where a job comes from, which decides how much of the queue it may take.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asker {
    /// The client's network.
    pub(crate) network: Option<IpAddr>,
    /// Whether the client is a device that signed in before: it goes first.
    pub(crate) is_known: bool,
}

impl Asker {
    /// A caller that is signed in, which goes first, like a known device; [`Hasher::place_of`] bounds its work.
    pub(crate) const fn signed_in() -> Self {
        Self {
            network: None,
            is_known: true,
        }
    }
}

/// The place that a request of a signed-in caller takes; free again when it is dropped.
pub(crate) struct CallerPlace(Arc<Inner>, Uuid);

impl Drop for CallerPlace {
    fn drop(&mut self) {
        let mut callers = self.0.callers();
        if let Some(places) = callers.get_mut(&self.1) {
            *places -= 1;
            if *places == 0 {
                callers.remove(&self.1);
            }
        }
    }
}

/// What came of a check.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Wrong,
    Right,
    /// Right; and the hash with today's parameters, to be stored in place of the old one.
    RightAndRenewed(String),
}

impl Hasher {
    pub(crate) fn new(
        cost: HashParams,
        peppers: Peppers,
        breached: Option<BreachFilter>,
        threads: usize,
    ) -> Self {
        Self(Arc::new(Inner {
            cost,
            peppers,
            breached,
            most_threads: threads.max(1),
            queue: Mutex::default(),
            work: Condvar::new(),
            dummy: Mutex::default(),
            callers: Mutex::default(),
        }))
    }

    /// A place for the work of a signed-in caller, which stands in front of sign-ins.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`] while two other requests of the caller have one.
    pub(crate) fn place_of(&self, caller: Uuid) -> Result<CallerPlace, AccountsError> {
        let mut callers = self.0.callers();
        let places = callers.entry(caller).or_default();
        if *places >= MOST_OF_CALLER {
            return Err(AccountsError::Busy);
        }
        *places += 1;
        drop(callers);
        Ok(CallerPlace(Arc::clone(&self.0), caller))
    }

    /// The hash of `password`, to be stored.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`].
    pub(crate) async fn hash(
        &self,
        asker: Asker,
        password: SecretString,
    ) -> Result<String, AccountsError> {
        let inner = Arc::clone(&self.0);
        self.run(asker, move |memory| {
            inner.hash(password.expose_secret(), memory)
        })
        .await?
    }

    /// Whether `password` is the one of `stored`; without `stored` as much work, and wrong.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`].
    pub(crate) async fn verify(
        &self,
        asker: Asker,
        password: SecretString,
        stored: Option<String>,
    ) -> Result<Verdict, AccountsError> {
        let inner = Arc::clone(&self.0);
        self.run(asker, move |memory| {
            inner.verify(password.expose_secret(), stored.as_deref(), memory)
        })
        .await?
    }

    /// What `password` is long enough for, if it is accepted as a new one for what is `needed`.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`]; [`AccountsError::BreachFilterNotUsable`] if it cannot be checked with the filter.
    pub(crate) async fn judge(
        &self,
        asker: Asker,
        password: SecretString,
        context: Context,
        needed: Strength,
    ) -> Result<Result<Strength, PasswordFault>, AccountsError> {
        let inner = Arc::clone(&self.0);
        self.run(asker, move |_| {
            let password = password.expose_secret();
            let strength = match policy::check(password, &context, needed) {
                Ok(strength) => strength,
                fault => return Ok(fault),
            };
            Ok(match inner.is_breached(password)? {
                true => Err(PasswordFault::Breached),
                false => Ok(strength),
            })
        })
        .await?
    }

    /// Runs `check` on one of the threads.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`].
    #[cfg(test)]
    async fn check<T: Send + 'static>(
        &self,
        asker: Asker,
        check: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AccountsError> {
        self.run(asker, move |_| check()).await
    }

    async fn run<T: Send + 'static>(
        &self,
        asker: Asker,
        work: impl FnOnce(&mut Memory) -> T + Send + 'static,
    ) -> Result<T, AccountsError> {
        let (answer, answered) = oneshot::channel();
        let job = Job {
            network: asker.network,
            since: Instant::now(),
            run: Box::new(move |memory| {
                let began = Instant::now();
                let done = work(memory);
                metrics::hashed(began.elapsed());
                drop(answer.send(done));
            }),
        };
        self.0.add(job, asker.is_known)?;
        self.start_thread();
        // A job that is not begun, or whose thread ended, gives no answer.
        answered.await.map_err(|_| AccountsError::Busy)
    }

    /// Jobs that wait for a thread.
    pub(crate) fn waiting(&self) -> usize {
        self.0.queue().len()
    }

    fn start_thread(&self) {
        let mut queue = self.0.queue();
        if queue.len() <= queue.idle || queue.threads >= self.0.most_threads {
            return;
        }
        queue.threads += 1;
        drop(queue);
        let place = Place(Arc::clone(&self.0));
        let started = thread::Builder::new()
            .name("accounts-hash".to_owned())
            .spawn(move || place.0.serve());
        if let Err(error) = started {
            // The closure is gone, and its place with it; the jobs wait for another thread, and for 2 s at most.
            tracing::warn!(%error, "no thread to hash passwords on");
        }
    }
}

/// A thread's place among those that there may be.
struct Place(Arc<Inner>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.queue().threads -= 1;
    }
}

impl Inner {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, job: Job, is_known: bool) -> Result<(), AccountsError> {
        if !self.queue().push(job, is_known) {
            return Err(AccountsError::Busy);
        }
        self.work.notify_one();
        Ok(())
    }

    fn callers(&self) -> MutexGuard<'_, HashMap<Uuid, usize>> {
        self.callers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does what there is to do, until there is nothing for a while.
    fn serve(&self) {
        // Of this thread alone, on Linux. Without the right to it the work is done all the same.
        rustix::process::nice(NICENESS).ok();
        let mut memory = Memory::new();
        while let Some(job) = self.next() {
            (job.run)(&mut memory);
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            while let Some(job) = queue.pop() {
                if job.since.elapsed() <= LONGEST_WAIT {
                    return Some(job);
                }
            }
            queue.idle += 1;
            let (woken, waited) = self
                .work
                .wait_timeout(queue, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if waited.timed_out() && queue.len() == 0 {
                return None;
            }
        }
    }

    fn verify(
        &self,
        password: &str,
        stored: Option<&str>,
        memory: &mut Memory,
    ) -> Result<Verdict, AccountsError> {
        let dummy;
        let against = match stored {
            Some(stored) => stored,
            None => {
                dummy = self.dummy(memory)?;
                &dummy
            }
        };
        let peppers = self.peppers.now()?;
        let checked = phc::verify(password, against, self.cost, &peppers, memory)?;
        match (checked.is_right && stored.is_some(), checked.is_old) {
            (false, _) => Ok(Verdict::Wrong),
            (true, false) => Ok(Verdict::Right),
            (true, true) => Ok(Verdict::RightAndRenewed(self.hash(password, memory)?)),
        }
    }

    /// Whether the password is one of the filter of breached ones.
    fn is_breached(&self, password: &str) -> Result<bool, AccountsError> {
        let Some(filter) = &self.breached else {
            return Ok(false);
        };
        let found = filter.contains(&names::password(password));
        found.map_err(AccountsError::BreachFilterNotUsable)
    }

    fn hash(&self, password: &str, memory: &mut Memory) -> Result<String, AccountsError> {
        phc::hash(password, self.cost, &self.peppers.now()?, memory)
    }

    /// The hash of a random password.
    fn dummy(&self, memory: &mut Memory) -> Result<String, AccountsError> {
        let mut dummy = self.dummy.lock().unwrap_or_else(PoisonError::into_inner);
        let first = self.peppers.now()?.first().map(|pepper| pepper.id);
        if let Some((pepper, dummy)) = &*dummy
            && *pepper == first
        {
            return Ok(dummy.clone());
        }
        let unknown = crate::secret_text::mint(crate::secret_text::Prefix::OneTime)?;
        let made = self.hash(unknown.text.expose_secret(), memory)?;
        *dummy = Some((first, made.clone()));
        Ok(made)
    }
}

#[cfg(test)]
#[expect(
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests;
