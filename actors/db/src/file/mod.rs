//! Whether a SQLite file is still the one that was opened.
//!
//! SQLite checks a file when it opens it and trusts it from then on. If it is deleted, replaced or overwritten under a
//! running process, that process would write to a file that is never read again, or mix two databases in one.
//! So this room remembers the file that the connections were opened on and compares it with the present one. It reopens
//! a changed file only once no connection to the former one is left.
//!
//! Not detected: a change of single pages, other than the first and those that were checkpointed last, by something
//! that is not SQLite. That is damage, which a backup or `dotmac check --connect` finds.

mod backup;
mod checkpointed;
mod content;
mod fault;
mod integrity;
mod opened;

pub use backup::{BackupError, backup};
pub use integrity::{Integrity, check_integrity};

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use tracing::warn;

use self::{content::Stamp, fault::Fault, opened::OpenFile};
use super::{
    Connection, OpenError,
    connect::{self, descriptors},
};

/// A file that is put in the place of another is opened once it has not changed for so long: it may still be on its
/// way.
const SETTLED: Duration = Duration::from_secs(1);

/// A disk that takes longer to answer about a file hangs.
const DISK_LIMIT: Duration = Duration::from_secs(5);

/// The last connection deletes the log, a moment before it is counted as closed: waited for so often, so long.
const CLOSING_CHECKS: u32 = 5;
const CLOSING_PAUSE: Duration = Duration::from_millis(20);

/// The file of a SQLite database. Clones are the same, and know what this process has open of it.
#[derive(Clone)]
pub struct SqliteFile(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Held while a connection is opened, so that all are opened on the same file.
    opening: Mutex<()>,
    state: Mutex<State>,
    /// There is a fault.
    is_lost: AtomicBool,
}

#[derive(Default)]
struct State {
    /// The file that was opened last; kept when its connections are closed, so that an empty file is not made in its
    /// place.
    opened: Option<Arc<OpenFile>>,
    fault: Option<Fault>,
    /// The file in place at the last attempt to open it, and its time.
    arrival: Option<(Stamp, Instant)>,
}

/// A connection's share of an open file: to be dropped after the connection.
pub(super) struct Hold {
    file: SqliteFile,
    opened: Arc<OpenFile>,
}

impl SqliteFile {
    /// The file at `path`, which need not be there yet.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner {
            path: path.into(),
            opening: Mutex::default(),
            state: Mutex::default(),
            is_lost: AtomicBool::new(false),
        }))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Whether it differs from the opened file, and is not reopened yet.
    pub(super) fn is_lost(&self) -> bool {
        self.0.is_lost.load(Relaxed)
    }

    /// Opens a connection by `connect`, if other connections are open on the same file or there are none. Blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError::FileChanged`]; and those of `connect`.
    pub(super) fn open<C>(
        &self,
        connect: impl FnOnce(&Path) -> Result<C, OpenError>,
    ) -> Result<(C, Hold), OpenError> {
        let _alone = lock(&self.0.opening);
        self.wait_for_closing();
        self.admit()?;
        let connection = connect(self.path())?;
        let mut state = lock(&self.0.state);
        let opened = match &state.opened {
            Some(opened) => Arc::clone(opened),
            None => {
                let opened = OpenFile::of(self.path());
                let opened = opened.map_err(|error| self.unusable(error))?;
                Arc::clone(state.opened.insert(Arc::new(opened)))
            }
        };
        let file = self.clone();
        Ok((connection, Hold { file, opened }))
    }

    /// Whether no connection of this process is open on it.
    pub(super) fn is_closed(&self) -> bool {
        let state = lock(&self.0.state);
        let opened = state.opened.as_ref();
        opened.is_none_or(|opened| Arc::strong_count(opened) == 1)
    }

    /// Writes the log into the file, if one was left: of connections that are closed at once, each leaves it to the others.
    /// Only where none is open. Blocks.
    pub(super) fn write_log_back(&self) {
        let opened = lock(&self.0.state).opened.clone();
        if opened.is_some_and(|opened| opened.has_log()) {
            // The last connection that is closed does it.
            drop(self.open(connect::sqlite));
        }
    }

    /// While the last connection is being closed, its log is gone and it still counts as open.
    fn wait_for_closing(&self) {
        let is_closing = || {
            let state = lock(&self.0.state);
            let opened = state.opened.as_ref().filter(|_| state.fault.is_none());
            opened.is_some_and(|opened| {
                Arc::strong_count(opened) > 1 && opened.verify_place() == Err(Fault::LogMissing)
            })
        };
        for _ in 1..CLOSING_CHECKS {
            if !is_closing() {
                return;
            }
            #[expect(clippy::disallowed_methods, reason = "on a blocking thread")]
            std::thread::sleep(CLOSING_PAUSE);
        }
    }

    /// Whether the file may be opened now.
    fn admit(&self) -> Result<(), OpenError> {
        let mut state = lock(&self.0.state);
        let Some(opened) = state.opened.clone() else {
            return Ok(());
        };
        // Without the state's share, and the one just made.
        let connections = Arc::strong_count(&opened).saturating_sub(2);
        let fault = match (state.fault, opened.verify_place()) {
            (Some(fault), _) => fault,
            // Without connections SQLite itself has removed the log.
            (None, Err(Fault::LogMissing)) if connections == 0 => {
                opened.forget();
                return Ok(());
            }
            (None, Err(fault)) => {
                self.lose(&mut state, &opened, fault);
                fault
            }
            (None, Ok(())) => {
                if connections == 0 {
                    opened.forget();
                }
                return Ok(());
            }
        };
        let is_back = opened.verify_main().is_ok()
            && match fault {
                Fault::Missing { .. } => true,
                Fault::LogMissing => connections == 0,
                _ => false,
            };
        if !is_back {
            let may_open = connections == 0 && self.has_settled(&mut state);
            // Nothing of the former file must get into this one, and its descriptors are no longer needed.
            if !may_open || !opened.set_log_aside() {
                return Err(self.changed(fault));
            }
            state.opened = None;
        }
        if connections == 0 {
            opened.forget();
        }
        warn!(
            file = %self.path().display(),
            "opening the database file again, which {}",
            fault.event()
        );
        state.fault = None;
        state.arrival = None;
        self.0.is_lost.store(false, Relaxed);
        Ok(())
    }

    /// Whether a whole database is there, and has not changed for a while.
    fn has_settled(&self, state: &mut State) -> bool {
        let Some(stamp) = content::whole(self.path()) else {
            state.arrival = None;
            return false;
        };
        match &state.arrival {
            Some((before, since)) if *before == stamp => since.elapsed() >= SETTLED,
            _ => {
                state.arrival = Some((stamp, Instant::now()));
                false
            }
        }
    }

    fn lose(&self, state: &mut State, opened: &OpenFile, fault: Fault) {
        if fault.is_foreign() {
            opened.keep_apart();
        }
        state.fault = Some(fault);
        state.arrival = None;
        self.0.is_lost.store(true, Relaxed);
    }

    fn changed(&self, fault: Fault) -> OpenError {
        OpenError::FileChanged {
            path: self.0.path.clone(),
            what: fault.to_string(),
        }
    }

    fn unusable(&self, source: io::Error) -> OpenError {
        if descriptors::are_short(&source) {
            let target = self.path().display().to_string();
            return OpenError::NoDescriptors { target, source };
        }
        connect::refused(self.path(), &source.to_string())
    }
}

impl From<PathBuf> for SqliteFile {
    fn from(path: PathBuf) -> Self {
        Self::at(path)
    }
}

impl Hold {
    /// Whether the file is the one that the connection was opened on, and its log is there. Blocks.
    ///
    /// # Errors
    ///
    /// [`OpenError::FileChanged`]. From then on no connection is lent or opened, until the file is reopened.
    pub(super) fn verify_place(&self) -> Result<(), OpenError> {
        self.judge(self.opened.verify_place())
    }

    /// The same, and whether SQLite can have written what is in both. Only while the connection that writes is idle.
    fn verify_content(&self) -> Result<(), OpenError> {
        let found = self.opened.verify_place();
        self.judge(found.and_then(|()| self.opened.verify_content()))
    }

    /// Whether the log holds as many frames as SQLite knows of.
    pub(super) fn verify_frames(&self, frames: u64) -> Result<(), OpenError> {
        self.judge(self.opened.verify_frames(frames))
    }

    fn judge(&self, found: Result<(), Fault>) -> Result<(), OpenError> {
        let mut state = lock(&self.file.0.state);
        if let Some(fault) = state.fault {
            return Err(self.file.changed(fault));
        }
        found.map_err(|fault| {
            self.file.lose(&mut state, &self.opened, fault);
            self.file.changed(fault)
        })
    }
}

/// Whether SQLite can have written what is in the file that `connection`, the one that writes, is open on. A connection
/// to a server has none.
///
/// # Errors
///
/// [`OpenError::FileChanged`]; [`OpenError::Timeout`] if the disk does not answer.
pub(super) async fn verify(connection: &Connection) -> Result<(), OpenError> {
    let connection_state = Arc::clone(connection.connection_state());
    let Some(hold) = connection_state.file() else {
        return Ok(());
    };
    let target = hold.file.path().display().to_string();
    let verifying = tokio::task::spawn_blocking(move || {
        connection_state.file().map_or(Ok(()), Hold::verify_content)
    });
    match tokio::time::timeout(DISK_LIMIT, verifying).await {
        Ok(verified) => verified.unwrap_or_else(|died| Err(OpenError::Setup(died.to_string()))),
        Err(_) => Err(OpenError::Timeout {
            what: "checking the file",
            target,
            limit: DISK_LIMIT,
        }),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
