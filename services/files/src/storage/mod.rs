//! The store of the bytes: a directory of this machine, or a store that speaks S3, behind one interface.
//!
//! Bytes have the name of their blob, `blobs/<two digits>/<id>`, and nothing of the names of files. They are written
//! once and never changed. A directory gets a new file under its own name, which is synced, renamed and its directory
//! synced before the write counts; what a crash leaves has such a name.

mod directory;
mod error;
mod s3;
mod writer;

use std::{
    io,
    ops::Range,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use dotmac_platform::{db::types::Moment, secrets::SecretWatch};
use futures_util::{StreamExt as _, TryStreamExt as _, stream, stream::BoxStream};
use object_store::{
    GetOptions, GetResultPayload, ObjectStore, ObjectStoreExt as _, PutPayload, path::Path,
};
use tokio::{sync::OnceCell, task::spawn_blocking, time::timeout};
use url::Url;
use uuid::Uuid;

use directory::Folders;
pub(crate) use error::{FULL, StorageError};
pub(crate) use writer::Writer;

use crate::{FilesSettings, Provider, store::blobs::BlobId};

/// What the names of all bytes begin with.
const BLOBS: &str = "blobs";

/// What the names of probes begin with. A crash leaves one that was not deleted yet.
const PROBES: &str = "probes";

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

impl Stored {
    /// Whether it is what a probe has written.
    pub(crate) fn is_probe(&self) -> bool {
        self.name.starts_with(PROBES)
    }
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
        let (part, staged) = match &self.0.place {
            Place::Directory(directory) => (writer::DIRECTORY_PART, Some(staged(directory, blob))),
            Place::S3(_) => (writer::S3_PART, None),
        };
        let store = self.open().await?;
        Ok(Writer::new(store, path(blob), part, staged))
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
            GetResultPayload::File(file, _) => directory::pieces(file, range).boxed(),
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
            directory::remove(staged(directory, blob)).await?;
        }
        Ok(())
    }

    /// Deletes something by its name in the store.
    pub(crate) async fn delete_stored(&self, stored: &Stored) -> Result<(), StorageError> {
        match &self.0.place {
            // Such a name is none of the store's.
            Place::Directory(directory) if stored.name.contains('#') => {
                directory::remove(directory.join(&stored.name)).await
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

    /// All that is in the store, what probes that were cut off have left among it, and what writes that were cut off have left in
    /// a directory.
    pub(crate) async fn list(
        &self,
    ) -> Result<BoxStream<'static, Result<Stored, StorageError>>, StorageError> {
        let store = self.open().await?;
        let [blobs, probes] = [BLOBS, PROBES].map(|top| store.list(Some(&Path::from(top))));
        let listed = blobs.chain(probes).map_err(StorageError::from);
        let listed = listed.map_ok(|found| Stored {
            blob: found.location.filename().and_then(|name| name.parse().ok()),
            name: found.location.to_string(),
            size: found.size,
            modified: found.last_modified.into(),
        });
        Ok(match &self.0.place {
            Place::S3(_) => listed.boxed(),
            Place::Directory(directory) => {
                let directory = directory.clone();
                let left = directory::blocking(move || {
                    let mut left = directory::cut_off(&directory, BLOBS)?;
                    left.append(&mut directory::cut_off(&directory, PROBES)?);
                    Ok(left)
                });
                let left = left.await?.into_iter().map(Ok);
                listed.chain(stream::iter(left)).boxed()
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
        let path = Path::from(format!("{PROBES}/{name}"));
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
                    let opened = spawn_blocking(move || directory::open(&directory, folders()));
                    opened
                        .await
                        .map_err(|error| StorageError::Io(io::Error::other(error)))?
                }
            }
        });
        opening.await.cloned()
    }
}

/// The name of a blob in the store. Its folder has the end of the id, which is random: ids of one time are spread.
fn path(blob: BlobId) -> Path {
    let end = blob.uuid().as_bytes()[15];
    Path::from(format!("{BLOBS}/{}/{blob}", folder(end)))
}

fn folder(end: u8) -> String {
    format!("{end:02x}")
}

fn folders() -> Folders<'static> {
    Folders {
        top: BLOBS,
        names: (0..=u8::MAX).map(folder).collect(),
    }
}

/// The file that a directory has of a blob until all of it has arrived.
fn staged(directory: &std::path::Path, blob: BlobId) -> PathBuf {
    directory.join(format!("{}#1", path(blob)))
}
