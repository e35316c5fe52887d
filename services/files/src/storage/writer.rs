//! Writes a blob piece by piece, with a bounded part of it in memory. Until the end nothing of it can be read.

use std::{path::PathBuf, sync::Arc};

use bytes::{Bytes, BytesMut};
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart, path::Path};

use super::{StorageError, directory::Flush};

/// What is written to a directory at once.
pub(super) const DIRECTORY_PART: usize = 128 * 1024;

/// The least that S3 takes as a part that is not the last.
pub(super) const S3_PART: usize = 5 * 1024 * 1024;

/// Parts that are written while the next one arrives.
const UNDER_WAY: usize = 1;

/// Pieces with fewer bytes are copied together, up to [`GATHERED`]: each piece costs memory beyond its bytes, and a client may
/// send one byte at a time.
const SMALL: usize = 4 * 1024;
const GATHERED: usize = 16 * 1024;

/// A blob that is being written. It must be [finished](Self::finish) or [aborted](Self::abort).
pub(crate) struct Writer {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part: usize,
    /// Small pieces, until they are one large piece.
    small: BytesMut,
    state: State,
    /// Of a directory.
    flush: Option<Flush>,
}

enum State {
    /// Less than one part, which is written at once.
    Small(Vec<Bytes>, usize),
    /// Parts, and how many bytes of the next one have arrived.
    Parts(WriteMultipart, usize),
}

impl Writer {
    /// In parts of so many bytes; `staged` is the file that has them until the end, if there is one.
    pub(super) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        part: usize,
        staged: Option<PathBuf>,
    ) -> Self {
        Self {
            store,
            path,
            part,
            small: BytesMut::new(),
            state: State::Small(Vec::new(), 0),
            flush: staged.map(Flush::new),
        }
    }

    /// Adds a piece, and waits for the store if it is slower.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), StorageError> {
        if piece.len() >= SMALL {
            self.add_small().await?;
            return self.add(piece).await;
        }
        self.small.extend_from_slice(&piece);
        match self.small.len() >= GATHERED {
            true => self.add_small().await,
            false => Ok(()),
        }
    }

    async fn add_small(&mut self) -> Result<(), StorageError> {
        if self.small.is_empty() {
            return Ok(());
        }
        let gathered = self.small.split().freeze();
        self.add(gathered).await
    }

    async fn add(&mut self, piece: Bytes) -> Result<(), StorageError> {
        let part = self.part;
        if let State::Small(pieces, size) = &mut self.state {
            if *size + piece.len() < part {
                *size += piece.len();
                pieces.push(piece);
                return Ok(());
            }
            let (pieces, size) = (std::mem::take(pieces), *size);
            let upload = self.store.put_multipart(&self.path).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, part);
            pieces.into_iter().for_each(|piece| parts.put(piece));
            self.state = State::Parts(parts, size);
        }
        if let State::Parts(parts, size) = &mut self.state {
            *size += piece.len();
            // A part arrives while the one before is written.
            if *size >= part {
                *size %= part;
                parts.wait_for_capacity(UNDER_WAY).await?;
            }
            if let Some(flush) = &mut self.flush {
                flush.written(piece.len()).await;
            }
            parts.put(piece);
        }
        Ok(())
    }

    /// Makes all of it what is read.
    pub(crate) async fn finish(mut self) -> Result<(), StorageError> {
        self.add_small().await?;
        match self.state {
            State::Small(pieces, _) => {
                let payload: PutPayload = pieces.into_iter().collect();
                self.store.put(&self.path, payload).await?;
            }
            State::Parts(parts, _) => drop(parts.finish().await?),
        }
        Ok(())
    }

    /// Takes back what was written.
    pub(crate) async fn abort(self) -> Result<(), StorageError> {
        match self.state {
            State::Small(..) => Ok(()),
            State::Parts(parts, _) => Ok(parts.abort().await?),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    fn noise(size: usize) -> Vec<u8> {
        (0..size)
            .map(|at| u8::try_from(at * 31 % 251).unwrap())
            .collect()
    }

    #[tokio::test]
    async fn what_is_written_is_what_came_whatever_its_pieces() {
        for size in [0, 1, 999, 1000, 1001, 5000, 100_003] {
            for piece in [1, 7, SMALL - 1, SMALL, SMALL + 1, 50_000] {
                let (store, path) = (Arc::new(InMemory::new()), Path::from("a"));
                let mut writer = Writer::new(store.clone(), path.clone(), 1000, None);
                let bytes = noise(size);
                for piece in bytes.chunks(piece) {
                    writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
                }
                // A large piece after small ones keeps its place.
                let last = Bytes::from(noise(SMALL));
                writer.write(last.clone()).await.unwrap();
                writer.finish().await.unwrap();
                let read = store.get(&path).await.unwrap().bytes().await.unwrap();
                let expected = [&bytes[..], &last[..]].concat();
                assert!(read == expected, "{size} by {piece}");
            }
        }
    }

    #[tokio::test]
    async fn single_bytes_are_kept_as_few_pieces() {
        let (store, path) = (Arc::new(InMemory::new()), Path::from("a"));
        let mut writer = Writer::new(store, path, S3_PART, None);
        let byte = Bytes::from_static(b"a");
        for _ in 0..1_000_000 {
            writer.write(byte.clone()).await.unwrap();
        }
        let (pieces, size) = match &writer.state {
            State::Small(pieces, size) => (pieces.len(), *size),
            State::Parts(..) => (usize::MAX, 0),
        };
        assert_eq!(size + writer.small.len(), 1_000_000);
        assert!(pieces <= 1_000_000 / GATHERED, "{pieces}");
    }
}
