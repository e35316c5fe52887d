//! The state of a SQLite file and its write-ahead log at the opening, compared with the present state.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Mutex,
};

use nix::{
    fcntl::{FcntlArg, fcntl},
    libc,
};
use tracing::warn;

use super::{
    checkpointed::{Compared, Files},
    content::{self, Content, Identity},
    fault::Fault,
    lock,
};

/// Where SQLite locks a file, in bytes: shared by all readers, exclusive to write the log into the file at the end.
/// Source: `SHARED_FIRST` and `SHARED_SIZE` in SQLite's os.h, a part of its file format.
const SHARED_FIRST: i64 = 0x4000_0002;
const SHARED_SIZE: i64 = 510;

/// Names that are tried for a log that is set aside.
const NAMES: u32 = 100;

/// A file that connections of this process are, or were, open on.
///
/// A file that SQLite has open must not be closed elsewhere in this process: to close it drops the locks of all
/// (POSIX). So the descriptors here outlive the connections.
pub(super) struct OpenFile {
    place: PathBuf,
    /// The file itself, where `place` is a link: SQLite keeps the log next to it.
    target: PathBuf,
    log_place: PathBuf,
    file: File,
    identity: Identity,
    known: Mutex<Observed>,
}

/// The last observation.
#[derive(Default)]
struct Observed {
    content: Option<Content>,
    log: Option<(File, Identity)>,
    /// The index of the log.
    index: Option<File>,
    compared: Option<Compared>,
}

impl OpenFile {
    /// The file at `path`, on which a connection has just been opened.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let identity = Identity::of(&file.metadata()?);
        let target = fs::canonicalize(path)?;
        Ok(Self {
            place: path.to_owned(),
            log_place: sibling(&target, "-wal"),
            target,
            file,
            identity,
            known: Mutex::default(),
        })
    }

    /// Whether there is a log in its place.
    pub(super) fn has_log(&self) -> bool {
        content::identity(&self.log_place).is_ok_and(|there| there.is_some())
    }

    /// Whether the file and its log are where they were.
    pub(super) fn verify_place(&self) -> Result<(), Fault> {
        self.verify_main()?;
        let mut known = lock(&self.known);
        if known.index.is_none() {
            known.index = File::open(sibling(&self.target, "-shm")).ok();
        }
        match (&known.log, content::identity(&self.log_place)) {
            (Some((_, log)), Ok(there)) if there != Some(*log) => Err(Fault::LogMissing),
            (None, Ok(Some(_))) => {
                known.log = open_log(&self.log_place).ok();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The same of the file alone.
    pub(super) fn verify_main(&self) -> Result<(), Fault> {
        match content::identity(&self.place) {
            Ok(Some(there)) if there == self.identity => Ok(()),
            Ok(Some(_)) => Err(Fault::Replaced),
            Ok(None) => {
                let links = self.file.metadata().map_or(0, |metadata| metadata.nlink());
                Err(Fault::Missing { moved: links > 0 })
            }
            // A directory that cannot be read says nothing about the file.
            Err(_) => Ok(()),
        }
    }

    /// Whether SQLite can have written what is in the file and its log. Only while the connection that writes is
    /// idle. Blocks.
    pub(super) fn verify_content(&self) -> Result<(), Fault> {
        let mut known = lock(&self.known);
        match (known.content, Content::read(&self.file)) {
            // Nothing was written yet.
            (None, Err(_)) | (_, Ok(None)) => {}
            (Some(_), Err(fault)) => return Err(fault),
            (former, Ok(Some(content))) => {
                former.map_or(Ok(()), |former| content.verify_follows(&former))?;
                known.content = Some(content);
            }
        }
        let Some((log, _)) = &known.log else {
            return Ok(());
        };
        content::verify_log(log)?;
        let (Some(content), Some(index)) = (known.content, &known.index) else {
            return Ok(());
        };
        let files = Files {
            main: &self.file,
            log,
            index,
            page_size: content.page_size,
            modified: content.modified,
        };
        known.compared = files.verify(known.compared)?;
        Ok(())
    }

    /// Whether the log holds the frames that SQLite knows of.
    pub(super) fn verify_frames(&self, frames: u64) -> Result<(), Fault> {
        let known = lock(&self.known);
        match (&known.log, &known.content) {
            (Some((log, _)), Some(content)) => {
                content::verify_frames(log, frames, content.page_size)
            }
            _ => Ok(()),
        }
    }

    /// Forgets content and log: no connection is open, and SQLite has written the log into the file.
    pub(super) fn forget(&self) {
        *lock(&self.known) = Observed::default();
    }

    /// Keeps SQLite from writing the log that it has open into the file that is in place now: as it closes the last
    /// connection, and as it opens the next.
    pub(super) fn keep_apart(&self) {
        // To do the first, SQLite locks the file exclusively. This shared lock prevents it until the descriptor is
        // closed, and hinders neither readers nor writers.
        let shared = libc::flock {
            l_type: libc::F_RDLCK as libc::c_short,
            l_whence: libc::SEEK_SET as libc::c_short,
            l_start: SHARED_FIRST,
            l_len: SHARED_SIZE,
            l_pid: 0,
        };
        if let Err(error) = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&shared)) {
            warn!(%error, "cannot keep SQLite from writing to the new file");
        }
        self.set_log_aside();
    }

    /// Renames the log that is in place, if it is the one that was open; says whether it is out of the way.
    pub(super) fn set_log_aside(&self) -> bool {
        let known = lock(&self.known);
        let Some((_, log)) = &known.log else {
            return true;
        };
        if !content::identity(&self.log_place).is_ok_and(|there| there == Some(*log)) {
            return true;
        }
        let names = (1..=NAMES).map(|number| {
            let mut name = self.log_place.clone().into_os_string();
            name.push(format!(".former.{number}"));
            PathBuf::from(name)
        });
        let names = names.into_iter().find(|name| !name.exists());
        let renamed = names.map_or_else(
            || Err(io::Error::other("all names for it exist already")),
            |name| fs::rename(&self.log_place, &name).map(|()| name),
        );
        match &renamed {
            Ok(name) => warn!(
                file = %name.display(),
                "the write-ahead log of the former database file was renamed; remove it when it is no longer needed"
            ),
            Err(error) => warn!(
                %error,
                file = %self.log_place.display(),
                "cannot rename the write-ahead log of the former database file; move it away before the next start"
            ),
        }
        renamed.is_ok()
    }
}

/// The path with `suffix` at the end of its name.
fn sibling(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn open_log(path: &Path) -> io::Result<(File, Identity)> {
    let file = File::open(path)?;
    let identity = Identity::of(&file.metadata()?);
    Ok((file, identity))
}
