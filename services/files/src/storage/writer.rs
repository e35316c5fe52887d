//! Writes a blob piece by piece, with a bounded part of it in memory. Until the end nothing of it can be read.

use std::sync::Arc;

use bytes::Bytes;
use object_store::{ObjectStore, ObjectStoreExt as _, PutPayload, WriteMultipart, path::Path};

use super::StorageError;

/// What is written to a directory at once.
pub(super) const DIRECTORY_PART: usize = 128 * 1024;

/// The least that S3 takes as a part that is not the last.
pub(super) const S3_PART: usize = 5 * 1024 * 1024;

/// Parts that are written while the next one arrives.
const UNDER_WAY: usize = 1;

/// A blob that is being written. It must be [finished](Self::finish) or [aborted](Self::abort).
pub(crate) struct Writer {
    store: Arc<dyn ObjectStore>,
    path: Path,
    part: usize,
    state: State,
}

enum State {
    /// Less than one part, which is written at once.
    Small(Vec<Bytes>, usize),
    Parts(WriteMultipart),
}

impl Writer {
    pub(super) fn new(store: Arc<dyn ObjectStore>, path: Path, part: usize) -> Self {
        let state = State::Small(Vec::new(), 0);
        Self {
            store,
            path,
            part,
            state,
        }
    }

    /// Adds a piece, and waits for the store if it is slower.
    pub(crate) async fn write(&mut self, piece: Bytes) -> Result<(), StorageError> {
        if let State::Small(pieces, size) = &mut self.state {
            if *size + piece.len() < self.part {
                *size += piece.len();
                pieces.push(piece);
                return Ok(());
            }
            let pieces = std::mem::take(pieces);
            let upload = self.store.put_multipart(&self.path).await?;
            let mut parts = WriteMultipart::new_with_chunk_size(upload, self.part);
            pieces.into_iter().for_each(|piece| parts.put(piece));
            self.state = State::Parts(parts);
        }
        if let State::Parts(parts) = &mut self.state {
            parts.wait_for_capacity(UNDER_WAY).await?;
            parts.put(piece);
        }
        Ok(())
    }

    /// Makes all of it what is read.
    pub(crate) async fn finish(self) -> Result<(), StorageError> {
        match self.state {
            State::Small(pieces, _) => {
                let payload: PutPayload = pieces.into_iter().collect();
                self.store.put(&self.path, payload).await?;
            }
            State::Parts(parts) => drop(parts.finish().await?),
        }
        Ok(())
    }

    /// Takes back what was written.
    pub(crate) async fn abort(self) -> Result<(), StorageError> {
        match self.state {
            State::Small(..) => Ok(()),
            State::Parts(parts) => Ok(parts.abort().await?),
        }
    }
}
