//! Hashes passwords on threads of its own, so that a flood of sign-ins delays nothing else.
//!
//! The threads are started when there is work, run at niceness 10, keep the memory of one hash while they work, and end
//! after 10 s without any: an idle daemon has none. What waits is bounded, in all and for each client network; what has
//! waited for 2 s is not begun any more, since its client has gone or will have. Devices that signed in before go first, but
//! for every fourth job, and take the place of others when the queue is full.

use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{
    HashParams,
    phc::{self, Memory},
};
use crate::{AccountsError, metrics};

/// Jobs that may wait.
const MOST_WAITING: usize = 64;

/// Jobs of one client network that may wait, unless they come from a known device.
const MOST_OF_NETWORK: usize = 2;

/// Requests of one signed-in caller that may have work here.
const MOST_OF_CALLER: usize = 2;

/// Jobs of known devices and signed-in callers that are taken one after the other while others wait.
const MOST_KNOWN_TAKEN: usize = 3;

/// A job that has waited for longer is not begun.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// How long a thread keeps its memory without work.
const IDLE: Duration = Duration::from_secs(10);

const NICENESS: i32 = 10;

/// The way to the threads. Clones share them.
#[derive(Clone)]
pub(crate) struct Hasher(Arc<Inner>);

struct Inner {
    cost: HashParams,
    most_threads: usize,
    queue: Mutex<Queue>,
    work: Condvar,
    /// What is checked where there is no hash, so that it takes as long.
    dummy: Mutex<Option<String>>,
    /// Signed-in callers whose requests have work here, and how many.
    callers: Mutex<HashMap<Uuid, usize>>,
}

#[derive(Default)]
struct Queue {
    /// Of known devices and signed-in callers; they go first.
    known: VecDeque<Job>,
    /// Of all others.
    unknown: VecDeque<Job>,
    threads: usize,
    idle: usize,
    /// Known jobs that were taken since the last other one.
    known_taken: usize,
}

impl Queue {
    fn len(&self) -> usize {
        self.known.len() + self.unknown.len()
    }

    /// The next job: a known one, but after so many of them one of the others, which would else never be begun.
    fn pop(&mut self) -> Option<Job> {
        let is_turn_of_unknown = self.known_taken >= MOST_KNOWN_TAKEN && !self.unknown.is_empty();
        if is_turn_of_unknown || self.known.is_empty() {
            self.known_taken = 0;
            return self.unknown.pop_front();
        }
        self.known_taken += 1;
        self.known.pop_front()
    }

    /// Puts the job in, and another out if there must be room for it; `false` if there is none.
    fn push(&mut self, job: Job, is_known: bool) -> bool {
        for jobs in [&mut self.known, &mut self.unknown] {
            jobs.retain(|waiting| waiting.since.elapsed() <= LONGEST_WAIT);
        }
        let is_full = self.len() >= MOST_WAITING;
        if is_known {
            if is_full && self.unknown.pop_back().is_none() {
                return false;
            }
            self.known.push_back(job);
            return true;
        }
        let others = self.unknown.iter();
        let of_network = others.filter(|waiting| waiting.network == job.network);
        let is_crowding = job.network.is_some() && of_network.count() >= MOST_OF_NETWORK;
        if is_full || is_crowding {
            return false;
        }
        self.unknown.push_back(job);
        true
    }
}

struct Job {
    network: Option<IpAddr>,
    since: Instant,
    run: Box<dyn FnOnce(&mut Memory) + Send>,
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
    pub(crate) fn new(cost: HashParams, threads: usize) -> Self {
        Self(Arc::new(Inner {
            cost,
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
        let cost = self.0.cost;
        self.run(asker, move |memory| {
            phc::hash(password.expose_secret(), cost, memory)
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

    /// Runs `check`, which takes too long for the threads that serve requests.
    ///
    /// # Errors
    ///
    /// [`AccountsError::Busy`].
    pub(crate) async fn check<T: Send + 'static>(
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
        let checked = phc::verify(password, against, self.cost, memory)?;
        match (checked.is_right && stored.is_some(), checked.is_old) {
            (false, _) => Ok(Verdict::Wrong),
            (true, false) => Ok(Verdict::Right),
            (true, true) => Ok(Verdict::RightAndRenewed(phc::hash(
                password, self.cost, memory,
            )?)),
        }
    }

    /// The hash of a password that nobody knows.
    fn dummy(&self, memory: &mut Memory) -> Result<String, AccountsError> {
        let mut dummy = self.dummy.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(dummy) = &*dummy {
            return Ok(dummy.clone());
        }
        let unknown = crate::secret_text::mint(crate::secret_text::Prefix::OneTime)?;
        let made = phc::hash(unknown.text.expose_secret(), self.cost, memory)?;
        *dummy = Some(made.clone());
        Ok(made)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use std::{net::Ipv4Addr, sync::mpsc};

    use super::*;

    fn hasher() -> Hasher {
        Hasher::new(HashParams { m: 64, t: 2, p: 1 }, 1)
    }

    #[tokio::test]
    async fn right_wrong_and_nobodys_passwords_are_told_apart_only_by_the_answer() {
        let hasher = hasher();
        let asker = Asker::default();
        let stored = hasher.hash(asker, "a".into()).await.expect("hashed");
        let verify = |password: &str, stored| hasher.verify(asker, password.into(), stored);
        assert_eq!(
            verify("a", Some(stored.clone())).await.expect("checked"),
            Verdict::Right
        );
        assert_eq!(
            verify("b", Some(stored)).await.expect("checked"),
            Verdict::Wrong
        );
        assert_eq!(verify("a", None).await.expect("checked"), Verdict::Wrong);
    }

    #[tokio::test]
    async fn a_full_queue_is_busy_and_one_network_does_not_fill_it() {
        let hasher = hasher();
        let (go, gone) = mpsc::channel::<()>();
        let (begun, beginning) = oneshot::channel();
        let holder = hasher.clone();
        let held = tokio::spawn(async move {
            let hold = move || {
                begun.send(()).ok();
                gone.recv().ok();
            };
            holder.check(Asker::default(), hold).await
        });
        beginning.await.expect("begun");

        let asker = |last| Asker {
            network: Some(Ipv4Addr::new(192, 0, 2, last).into()),
            is_known: false,
        };
        let waiting = |asker| {
            let hasher = hasher.clone();
            let mut check = Box::pin(async move { hasher.check(asker, || ()).await });
            // Polled once, so that it stands in the queue.
            let polled = futures_util::FutureExt::now_or_never(&mut check);
            (polled.is_some(), check)
        };
        let first: Vec<_> = (0..2).map(|_| waiting(asker(1))).collect();
        assert!(first.iter().all(|(is_refused, _)| !is_refused));
        assert!(waiting(asker(1)).0, "a third of one network");
        let known = Asker {
            is_known: true,
            ..asker(1)
        };
        assert!(!waiting(known).0, "a known device of that network");
        let others: Vec<_> = (2..200).map(|last| waiting(asker(last))).collect();
        let refused = others.iter().filter(|(is_refused, _)| *is_refused).count();
        assert_eq!(others.len() - refused, MOST_WAITING - 3);
        // Full of strangers, it takes known devices in their place, and the first of them goes first.
        let known: Vec<_> = (0..3).map(|_| waiting(known)).collect();
        assert!(known.iter().all(|(is_refused, _)| !is_refused));
        {
            let waits = hasher.0.queue();
            assert_eq!((waits.len(), waits.known.len()), (MOST_WAITING, 4));
            assert!(waits.known.iter().is_sorted_by_key(|job| job.since));
        }
        go.send(()).expect("it waits");
        held.await.expect("joined").expect("done");
    }

    #[test]
    fn known_jobs_go_first_but_every_fourth_is_one_of_the_others() {
        let job = |last| Job {
            network: Some(Ipv4Addr::new(192, 0, 2, last).into()),
            since: Instant::now(),
            run: Box::new(|_| ()),
        };
        let mut queue = Queue::default();
        for last in 1..=7 {
            assert!(queue.push(job(last), true));
        }
        for last in 101..=103 {
            assert!(queue.push(job(last), false));
        }
        let taken: Vec<_> = std::iter::from_fn(|| queue.pop())
            .filter_map(|job| job.network)
            .collect();
        let expected = [1, 2, 3, 101, 4, 5, 6, 102, 7, 103];
        let expected: [IpAddr; 10] = expected.map(|last| Ipv4Addr::new(192, 0, 2, last).into());
        assert_eq!(taken, expected);
    }

    #[test]
    fn a_signed_in_caller_has_two_places() {
        let hasher = hasher();
        let (one, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let first = hasher.place_of(one);
        let second = hasher.place_of(one);
        assert!(first.is_ok() && second.is_ok() && hasher.place_of(one).is_err());
        assert!(hasher.place_of(other).is_ok());
        drop(first);
        assert!(hasher.place_of(one).is_ok());
    }
}
