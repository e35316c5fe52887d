//! What a directory of this machine needs beyond the interface of stores: reading ahead, writing to the disk early, and what writes
//! that were cut off have left.

use std::{
    fs::{DirBuilder, File},
    io,
    num::NonZeroU64,
    ops::Range,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use dotmac_platform::db::types::{Id, Moment};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream};
use object_store::{ObjectStore, local::LocalFileSystem};
use rustix::{
    buffer::spare_capacity,
    fs::{Advice, fadvise},
    io::{Errno, pread},
};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{StorageError, Stored};

/// Bytes of a file that are read at once, and how many such reads are ahead of the client.
const PIECE: u64 = 256 * 1024;
const AHEAD: usize = 2;

/// Bytes that are handed on at once: what the server copies into the buffer of a connection fits into the buffer that it keeps.
const SLICE: usize = 64 * 1024;

/// Bytes after which the disk begins to write what was written to a file. All of it must be on the disk in the end; what is there
/// before is not waited for.
const FLUSH: u64 = 8 * 1024 * 1024;

/// Opens the directory. One that is created now can be read only by its owner, and gets the folders of all blobs: to make one
/// of them, and to have it on the disk, takes longer than to write a small file.
pub(super) fn open(
    directory: &Path,
    folders: Folders<'_>,
) -> Result<Arc<dyn ObjectStore>, StorageError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700).create(directory)?;
    let top = directory.join(folders.top);
    if !top.exists() {
        for name in folders.names {
            builder.create(top.join(name))?;
        }
        for changed in [&top, directory] {
            File::open(changed)?.sync_all()?;
        }
    }
    let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
    Ok(Arc::new(store))
}

/// Folders that a new directory gets.
pub(super) struct Folders<'f> {
    pub(super) top: &'f str,
    pub(super) names: Vec<String>,
}

/// The bytes of a range. The next ones are read while the client takes the first ones.
pub(super) fn pieces(
    file: File,
    range: Range<u64>,
) -> impl Stream<Item = Result<Bytes, StorageError>> + Send {
    let (file, end) = (Arc::new(file), range.end);
    let starts = stream::unfold(range.start, move |start| async move {
        (start < end).then(|| (start..end.min(start + PIECE), start + PIECE))
    });
    starts
        .map(move |range| {
            let file = Arc::clone(&file);
            blocking(move || read(&file, range))
        })
        .buffered(AHEAD)
        .map_ok(|piece| stream::iter(slices(piece).map(Ok::<_, StorageError>)))
        .try_flatten()
}

/// All bytes of a range, without writing zeros first.
fn read(file: &File, range: Range<u64>) -> io::Result<Bytes> {
    let wanted = usize::try_from(range.end - range.start).unwrap_or_default();
    let mut piece = Vec::with_capacity(wanted);
    while piece.len() < wanted {
        let at = range.start + piece.len() as u64;
        match pread(file, spare_capacity(&mut piece), at) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    // An allocator may give more than was asked for, and the file may have more.
    piece.truncate(wanted);
    Ok(Bytes::from(piece))
}

fn slices(piece: Bytes) -> impl Iterator<Item = Bytes> {
    let starts = (0..piece.len()).step_by(SLICE);
    starts.map(move |start| piece.slice(start..piece.len().min(start + SLICE)))
}

/// Has the disk write what a file has while more is written to it.
pub(super) struct Flush {
    file: PathBuf,
    written: u64,
    begun: u64,
    under_way: Option<JoinHandle<()>>,
}

impl Flush {
    pub(super) const fn new(file: PathBuf) -> Self {
        Self {
            file,
            written: 0,
            begun: 0,
            under_way: None,
        }
    }

    /// So many bytes more are written. Waits for the disk if it has not yet taken what it was given before.
    pub(super) async fn written(&mut self, bytes: usize) {
        self.written += bytes as u64;
        let Some(length) = NonZeroU64::new(self.written - self.begun) else {
            return;
        };
        if length.get() < FLUSH {
            return;
        }
        if let Some(before) = self.under_way.take() {
            // What it did not do the sync at the end does.
            before.await.ok();
        }
        let (file, start) = (self.file.clone(), self.begun);
        self.begun = self.written;
        self.under_way = Some(spawn_blocking(move || {
            // Advice that pages are not needed writes those that were changed, and keeps them until they are written.
            if let Ok(file) = File::open(file) {
                fadvise(file, start, Some(length), Advice::DontNeed).ok();
            }
        }));
    }
}

/// Files below a folder of the directory that have the name of a write under way.
pub(super) fn cut_off(directory: &Path, top: &str) -> io::Result<Vec<Stored>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(top)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(directory.join(&folder))
            .into_iter()
            .flatten()
        {
            let entry = entry?;
            let name = entry.file_name();
            // It may be complete by now.
            let (Ok(metadata), Some(name)) = (entry.metadata(), name.to_str()) else {
                continue;
            };
            if metadata.is_dir() {
                folders.push(folder.join(name));
                continue;
            }
            let Some((id, _)) = name.split_once('#') else {
                continue;
            };
            let modified = metadata.modified();
            found.push(Stored {
                blob: id.parse::<Id<_>>().ok(),
                name: format!("{}/{name}", folder.display()),
                size: metadata.len(),
                modified: modified.map_or_else(|_| Moment::now(), moment_of),
            });
        }
    }
    Ok(found)
}

fn moment_of(time: std::time::SystemTime) -> Moment {
    Moment::now() - time.elapsed().unwrap_or_default()
}

/// Deletes a file that may be gone already.
pub(super) async fn remove(file: PathBuf) -> Result<(), StorageError> {
    match blocking(move || std::fs::remove_file(file)).await {
        Err(StorageError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// Runs what blocks on a thread for that.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = spawn_blocking(work).await;
    done.map_err(io::Error::other)?.map_err(StorageError::from)
}
