//! Where the bytes are: a directory of this machine, or a store that speaks S3, behind one interface.
//!
//! Bytes have the name of their blob, `blobs/<two digits>/<id>`, and nothing of the names that people give. They are written
//! once and never changed. A directory gets a new file under its own name, which is synced, renamed and its directory
//! synced before the write counts; what a crash leaves has such a name.

mod error;
mod s3;
mod writer;

use std::{
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt as _,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use dotmac_platform::{
    db::types::{Id, Moment},
    secrets::SecretWatch,
};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutPayload,
    local::LocalFileSystem, path::Path,
};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};
use url::Url;
use uuid::Uuid;

pub(crate) use error::{FULL, StorageError};
pub(crate) use writer::Writer;

use crate::{FilesSettings, Provider, store::blobs::BlobId};

/// What the names of all bytes begin with.
const BLOBS: &str = "blobs";

/// Bytes of a file that are read at once.
const PIECE: u64 = 256 * 1024;

/// How long the store may take for the probe.
const PROBE: Duration = Duration::from_secs(10);

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Storage(Arc<Inner>);

struct Inner {
    place: Place,
    /// Opened with the first use: a command that serves nothing makes no directory.
    opened: OnceCell<Arc<dyn ObjectStore>>,
}

enum Place {
    Directory(PathBuf),
    S3(s3::Bucket),
}

/// Something in the store.
#[derive(Clone, Debug)]
pub(crate) struct Stored {
    /// Which blob it is; `None` for a name that no blob has.
    pub(crate) blob: Option<BlobId>,
    /// Its name in the store.
    pub(crate) name: String,
    pub(crate) size: u64,
    pub(crate) modified: Moment,
}

impl Storage {
    /// The store that the settings name.
    pub(crate) fn new(settings: &FilesSettings, access: SecretWatch, secret: SecretWatch) -> Self {
        Self::of(settings.provider, settings, access, secret)
    }

    /// The store of a provider, whichever the settings name.
    pub(crate) fn of(
        provider: Provider,
        settings: &FilesSettings,
        access: SecretWatch,
        secret: SecretWatch,
    ) -> Self {
        let place = match (provider.is_local(), &settings.bucket) {
            (false, Some(bucket)) => Place::S3(s3::Bucket {
                endpoint: settings.endpoint.clone(),
                bucket: bucket.clone(),
                region: settings.region.clone(),
                access,
                secret,
                opened: OnceLock::new(),
            }),
            _ => Place::Directory(settings.path.clone()),
        };
        let opened = OnceCell::new();
        Self(Arc::new(Inner { place, opened }))
    }

    /// Begins to write a blob.
    pub(crate) async fn writer(&self, blob: BlobId) -> Result<Writer, StorageError> {
        let part = match self.0.place {
            Place::Directory(_) => writer::DIRECTORY_PART,
            Place::S3(_) => writer::S3_PART,
        };
        Ok(Writer::new(self.open().await?, path(blob), part))
    }

    /// Some bytes of a blob. That it is there is known when this returns.
    pub(crate) async fn read(
        &self,
        blob: BlobId,
        range: Range<u64>,
    ) -> Result<BoxStream<'static, Result<Bytes, StorageError>>, StorageError> {
        let wanted = GetOptions {
            range: (!range.is_empty()).then(|| range.clone().into()),
            ..GetOptions::default()
        };
        let found = self.open().await?.get_opts(&path(blob), wanted).await?;
        Ok(match found.payload {
            _ if range.is_empty() => stream::empty().boxed(),
            GetResultPayload::File(file, _) => pieces(file, range).boxed(),
            GetResultPayload::Stream(pieces) => pieces.map_err(StorageError::from).boxed(),
        })
    }

    /// Whether it can give addresses by which clients write to it.
    pub(crate) fn signs(&self) -> bool {
        matches!(self.0.place, Place::S3(_))
    }

    /// An address by which a client writes a blob for a time. What it writes is not known: it must be verified.
    pub(crate) async fn signed_put(
        &self,
        blob: BlobId,
        time: Duration,
    ) -> Result<Url, StorageError> {
        match &self.0.place {
            Place::S3(bucket) => bucket.signed_put(&path(blob), time).await,
            Place::Directory(_) => Err(StorageError::NoAddresses),
        }
    }

    /// The size of a blob; `None` if it is not there.
    pub(crate) async fn size(&self, blob: BlobId) -> Result<Option<u64>, StorageError> {
        match self.open().await?.head(&path(blob)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Deletes a blob, and what a write of it that was cut off has left. One that is not there is deleted.
    pub(crate) async fn delete(&self, blob: BlobId) -> Result<(), StorageError> {
        self.delete_named(&path(blob)).await?;
        if let Place::Directory(directory) = &self.0.place {
            let left = directory.join(format!("{}#1", path(blob)));
            unless_absent(blocking(move || std::fs::remove_file(left)).await)?;
        }
        Ok(())
    }

    /// Deletes something by its name in the store.
    pub(crate) async fn delete_stored(&self, stored: &Stored) -> Result<(), StorageError> {
        match &self.0.place {
            // Such a name is none of the store's.
            Place::Directory(directory) if stored.name.contains('#') => {
                let left = directory.join(&stored.name);
                unless_absent(blocking(move || std::fs::remove_file(left)).await)
            }
            _ => self.delete_named(&Path::from(stored.name.as_str())).await,
        }
    }

    async fn delete_named(&self, path: &Path) -> Result<(), StorageError> {
        match self.open().await?.delete(path).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// All that is in the store, and what writes that were cut off have left in a directory.
    pub(crate) async fn list(
        &self,
    ) -> Result<BoxStream<'static, Result<Stored, StorageError>>, StorageError> {
        let store = self.open().await?;
        let listed = store.list(Some(&Path::from(BLOBS)));
        let listed = listed.map_err(StorageError::from).map_ok(|found| Stored {
            blob: found.location.filename().and_then(|name| name.parse().ok()),
            name: found.location.to_string(),
            size: found.size,
            modified: found.last_modified.into(),
        });
        Ok(match &self.0.place {
            Place::S3(_) => listed.boxed(),
            Place::Directory(directory) => {
                let directory = directory.clone();
                let left = blocking(move || cut_off(&directory)).await?;
                listed.chain(stream::iter(left.into_iter().map(Ok))).boxed()
            }
        })
    }

    /// Writes, reads and deletes something.
    ///
    /// # Errors
    ///
    /// [`StorageError`], also after 10 s.
    pub(crate) async fn probe(&self) -> Result<(), StorageError> {
        let probing = timeout(PROBE, self.write_and_read());
        probing.await.map_err(|_| StorageError::TimedOut(PROBE))?
    }

    async fn write_and_read(&self) -> Result<(), StorageError> {
        let store = self.open().await?;
        let (text, name) = (Uuid::now_v7().to_string(), Uuid::now_v7());
        let path = Path::from(format!("probes/{name}"));
        store.put(&path, PutPayload::from(text.clone())).await?;
        let read = store.get(&path).await?.bytes().await?;
        store.delete(&path).await?;
        if read == text.as_bytes() {
            Ok(())
        } else {
            Err(StorageError::Changed)
        }
    }

    async fn open(&self) -> Result<Arc<dyn ObjectStore>, StorageError> {
        let opening = self.0.opened.get_or_try_init(|| async {
            match &self.0.place {
                Place::S3(bucket) => bucket
                    .open()
                    .map(|store| Arc::new(store) as Arc<dyn ObjectStore>),
                Place::Directory(directory) => {
                    let directory = directory.clone();
                    let opened = spawn_blocking(move || open_directory(&directory));
                    opened
                        .await
                        .map_err(|error| StorageError::Io(io::Error::other(error)))?
                }
            }
        });
        opening.await.cloned()
    }
}

fn open_directory(directory: &std::path::Path) -> Result<Arc<dyn ObjectStore>, StorageError> {
    std::fs::create_dir_all(directory)?;
    let store = LocalFileSystem::new_with_prefix(directory)?.with_fsync(true);
    Ok(Arc::new(store))
}

/// The name of a blob in the store. Its folder has the end of the id, which is random: ids of one time are spread.
fn path(blob: BlobId) -> Path {
    let end = blob.uuid().as_bytes()[15];
    Path::from(format!("{BLOBS}/{end:02x}/{blob}"))
}

fn pieces(file: File, range: Range<u64>) -> impl Stream<Item = Result<Bytes, StorageError>> + Send {
    let (file, end) = (Arc::new(file), range.end);
    stream::try_unfold(range.start, move |start| {
        let file = Arc::clone(&file);
        async move {
            let wanted = usize::try_from(end.saturating_sub(start).min(PIECE)).unwrap_or_default();
            if wanted == 0 {
                return Ok(None);
            }
            let piece: Bytes = blocking(move || {
                let mut piece = vec![0; wanted];
                file.read_exact_at(&mut piece, start)?;
                Ok(Bytes::from(piece))
            })
            .await?;
            let next = start + piece.len() as u64;
            Ok(Some((piece, next)))
        }
    })
}

/// Files below the directory that have the name of a write under way.
fn cut_off(directory: &std::path::Path) -> io::Result<Vec<Stored>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(directory.join(BLOBS))
        .into_iter()
        .flatten()
    {
        let folder = folder?.path();
        for entry in std::fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry?;
            let Some(name) = entry.file_name().to_str().map(str::to_owned) else {
                continue;
            };
            let Some((id, _)) = name.split_once('#') else {
                continue;
            };
            // It may be complete by now.
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let modified = metadata
                .modified()
                .map(chrono_of)
                .unwrap_or_else(|_| Moment::now());
            let folder = folder.file_name().unwrap_or_default().to_string_lossy();
            found.push(Stored {
                blob: id.parse::<Id<_>>().ok(),
                name: format!("{BLOBS}/{folder}/{name}"),
                size: metadata.len(),
                modified,
            });
        }
    }
    Ok(found)
}

fn chrono_of(time: std::time::SystemTime) -> Moment {
    let age = time.elapsed().unwrap_or_default();
    Moment::now() - age
}

/// Runs what blocks on a thread for that.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, StorageError> {
    let done = spawn_blocking(work).await;
    done.map_err(io::Error::other)?.map_err(StorageError::from)
}

fn unless_absent(done: Result<(), StorageError>) -> Result<(), StorageError> {
    match done {
        Err(StorageError::Io(error)) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}
