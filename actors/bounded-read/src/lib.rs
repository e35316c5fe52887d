//! Reads files that others provide - secrets, certificates, settings - with limits on time and size.
//!
//! Such a file may be anything by the time it is read: a named pipe without a writer, or a file on a network file
//! system that does not answer. So each access has its own thread and a time limit, only regular files are read (links
//! are followed, as Kubernetes mounts secrets), and no more than
//! [`SIZE_LIMIT`] bytes of them. The thread of an access that hangs stays behind until the system lets
//! it go; there are at most [`AT_ONCE`] for each path.

use std::{
    collections::BTreeMap,
    fs::{self, File, Metadata, OpenOptions},
    io::{self, ErrorKind, Read as _},
    mem,
    os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::sync::oneshot;
use zeroize::Zeroizing;

/// The largest size of a file, 1 MiB: far more than any secret or list of authorities needs.
pub const SIZE_LIMIT: u64 = 1 << 20;

/// Longest wait for a file. 2 s.
pub const TIME_LIMIT: Duration = Duration::from_secs(2);

/// Accesses to one path under way at a time. 8.
pub const AT_ONCE: usize = 8;

/// The content of the regular file at `path`. Waits up to [`TIME_LIMIT`]; on an event loop use
/// [`read_async`].
///
/// # Errors
///
/// The error of the system, or [`ErrorKind::TimedOut`], [`ErrorKind::FileTooLarge`],
/// [`ErrorKind::IsADirectory`], and [`ErrorKind::InvalidInput`] for anything else that is no regular
/// file. The texts do not name the path.
pub fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let (sender, result) = mpsc::sync_channel(1);
    begin(path, read_now, move |outcome| {
        // A result after the time limit has no receiver.
        sender.send(outcome).ok();
    })?;
    match result.recv_timeout(TIME_LIMIT) {
        Ok(outcome) => outcome,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(overdue()),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(lost()),
    }
}

/// As [`read`], for a file that holds text.
///
/// # Errors
///
/// As [`read`], and [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text(path: &Path) -> io::Result<Zeroizing<String>> {
    read(path).and_then(text)
}

/// As [`read`], without holding up the thread that asks.
///
/// # Errors
///
/// As [`read`].
pub async fn read_async(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    access(path, read_now).await
}

/// As [`read_text`], without holding up the thread that asks.
///
/// # Errors
///
/// As [`read_text`].
pub async fn read_text_async(path: &Path) -> io::Result<Zeroizing<String>> {
    read_async(path).await.and_then(text)
}

/// The error of the system of the file at `path`, through all links, within [`TIME_LIMIT`].
///
/// # Errors
///
/// The error of the system, or [`ErrorKind::TimedOut`].
pub async fn metadata(path: &Path) -> io::Result<Metadata> {
    access(path, |path| fs::metadata(path)).await
}

async fn access<T: Send + 'static>(
    path: &Path,
    access: fn(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let (sender, result) = oneshot::channel();
    begin(path, access, move |outcome| {
        // A result after the time limit has no receiver.
        sender.send(outcome).ok();
    })?;
    match tokio::time::timeout(TIME_LIMIT, result).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => Err(lost()),
        Err(_) => Err(overdue()),
    }
}

/// Carries out one access on a thread that is never joined: tokio's blocking threads would hold up the
/// end of their runtime.
fn begin<T: 'static>(
    path: &Path,
    access: fn(&Path) -> io::Result<T>,
    deliver: impl FnOnce(io::Result<T>) + Send + 'static,
) -> io::Result<()> {
    let turn = Turn::take(path)?;
    thread::Builder::new()
        .name("file".to_owned())
        .spawn(move || {
            let outcome = access(&turn.0);
            drop(turn);
            deliver(outcome);
        })
        .map(drop)
}

/// The right to one access of a path; see [`AT_ONCE`].
struct Turn(PathBuf);

static UNDER_WAY: Mutex<BTreeMap<PathBuf, usize>> = Mutex::new(BTreeMap::new());

impl Turn {
    fn take(path: &Path) -> io::Result<Self> {
        let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        let count = under_way.entry(path.to_owned()).or_default();
        if *count >= AT_ONCE {
            return Err(io::Error::new(
                ErrorKind::TimedOut,
                format!("{AT_ONCE} attempts to read it have not returned"),
            ));
        }
        *count += 1;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut under_way = UNDER_WAY.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = under_way.get_mut(&self.0) {
            *count -= 1;
            if *count == 0 {
                under_way.remove(&self.0);
            }
        }
    }
}

fn read_now(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // Before it is opened, since opening a device may do something.
    check(&fs::metadata(path)?)?;
    let file = open(path)?;
    let metadata = file.metadata()?;
    check(&metadata)?;
    // In one piece: a buffer that grows leaves copies behind.
    let length = metadata.len().min(SIZE_LIMIT);
    let room = usize::try_from(length).unwrap_or(0).saturating_add(1);
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    // One byte more than allowed tells "just fits" from "too long".
    let length = file.take(SIZE_LIMIT + 1).read_to_end(&mut content)?;
    if u64::try_from(length).is_ok_and(|length| length > SIZE_LIMIT) {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            "it is longer than 1 MiB",
        ));
    }
    Ok(content)
}

/// Without waiting for the other end, should it have become a named pipe just now.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new()
        .read(true)
        .custom_flags(i32::try_from(flags.bits()).unwrap_or_default())
        .open(path)
}

fn check(metadata: &Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let (error, what) = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => (ErrorKind::IsADirectory, "directory"),
        () if kind.is_fifo() => (ErrorKind::InvalidInput, "named pipe"),
        () if kind.is_socket() => (ErrorKind::InvalidInput, "socket"),
        () => (ErrorKind::InvalidInput, "device"),
    };
    Err(io::Error::new(
        error,
        format!("it is a {what}, not a regular file"),
    ))
}

fn text(mut content: Zeroizing<Vec<u8>>) -> io::Result<Zeroizing<String>> {
    match String::from_utf8(mem::take(&mut *content)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(io::Error::new(ErrorKind::InvalidData, "it is not UTF-8"))
        }
    }
}

fn overdue() -> io::Error {
    io::Error::new(
        ErrorKind::TimedOut,
        format!("its file system did not answer within {TIME_LIMIT:?}"),
    )
}

/// Cannot happen: an access has no reason to panic.
fn lost() -> io::Error {
    io::Error::other("the thread that read it has ended")
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::{fs::symlink, net::UnixListener},
        process::Command,
    };

    use super::*;

    #[test]
    fn only_regular_files_are_read_and_links_to_them_followed() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name);
        // As Kubernetes mounts a secret.
        fs::create_dir(path("..data-1"))?;
        fs::write(path("..data-1/password"), "sekret\n")?;
        symlink("..data-1", path("..data"))?;
        symlink("..data/password", path("password"))?;
        assert_eq!(*read_text(&path("password"))?, "sekret\n");

        let made = Command::new("mkfifo").arg(path("pipe")).status()?;
        assert!(made.success());
        let _socket = UnixListener::bind(path("socket"))?;
        for (name, kind, text) in [
            (
                "pipe",
                ErrorKind::InvalidInput,
                "it is a named pipe, not a regular file",
            ),
            (
                "socket",
                ErrorKind::InvalidInput,
                "it is a socket, not a regular file",
            ),
            (
                "..data",
                ErrorKind::IsADirectory,
                "it is a directory, not a regular file",
            ),
            (
                "/dev/zero",
                ErrorKind::InvalidInput,
                "it is a device, not a regular file",
            ),
        ] {
            let error = read(&path(name)).map_err(|error| (error.kind(), error.to_string()));
            assert_eq!(error.err(), Some((kind, text.to_owned())));
        }
        // A pipe in its place at the time of opening blocks nothing either.
        assert!(open(&path("pipe")).is_ok());
        Ok(())
    }

    #[test]
    fn the_size_is_limited() -> io::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("large");
        let limit = usize::try_from(SIZE_LIMIT).unwrap_or(0);
        fs::write(&path, vec![b'a'; limit])?;
        assert_eq!(read(&path)?.len(), limit);
        fs::write(&path, vec![b'a'; limit + 1])?;
        assert_eq!(
            read(&path).map_err(|error| error.kind()),
            Err(ErrorKind::FileTooLarge)
        );
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_does_not_answer_is_given_up_and_few_threads_stay_behind() {
        let path = Path::new("does-not-answer");
        let hang = |_: &Path| -> io::Result<()> {
            loop {
                thread::park();
            }
        };
        for attempt in 0..AT_ONCE + 2 {
            let error = access(path, hang).await.map_err(|error| error.to_string());
            let expected = if attempt < AT_ONCE {
                "its file system did not answer within 2s"
            } else {
                "8 attempts to read it have not returned"
            };
            assert_eq!(error, Err(expected.to_owned()));
        }
    }
}
