//! Whether a SQLite file still holds the pages that were written into it from its write-ahead log.
//!
//! A copy of the file that is written over it can have the same size and the same header, since a checkpoint writes the
//! first page only if that was changed. But the log still has the pages that the last checkpoints wrote, and an older
//! copy has others in their place. So the newest of them are compared with the file whenever one of the two changes.
//!
//! Source: "WAL-mode File Format", sqlite.org.

use std::{collections::HashSet, fs::File, io, os::unix::fs::FileExt, time::SystemTime};

use super::fault::Fault;

/// Bytes before a log's first frame, and before the page of each.
pub(super) const LOG_HEADER: u64 = 32;
pub(super) const FRAME_HEADER: u64 = 24;

/// Bytes of the index that are read: two copies of its header, and what was checkpointed.
const INDEX_SIZE: usize = 100;
const INDEX_HEADER: usize = 48;

/// Of the index, and of the only format there is.
const INDEX_VERSION: u32 = 3_007_000;

/// Pages that are compared, and frames of the log that are searched for them.
const MOST_PAGES: usize = 64;
const MOST_FRAMES: u64 = 4096;

/// The content of the log's index (`-shm`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Index {
    /// Marks the frames of the log's present generation; its first half grows by one with each.
    salt: [u8; 8],
    /// Frames in the log that are committed.
    frames: u32,
    /// Frames of them that are in the file.
    written: u32,
    /// Pages of the database.
    pages: u32,
}

impl Index {
    /// `None` while it is being changed.
    fn read(index: &File) -> Option<Self> {
        let mut bytes = [0; INDEX_SIZE];
        index.read_exact_at(&mut bytes, 0).ok()?;
        let (header, rest) = bytes.split_at(INDEX_HEADER);
        let number = |bytes: &[u8], at: usize| {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_ne_bytes(four))
        };
        let is_whole = rest.starts_with(header) && header[12] != 0;
        if !is_whole || number(header, 0)? != INDEX_VERSION {
            return None;
        }
        Some(Self {
            salt: header.get(32..40)?.try_into().ok()?,
            frames: number(header, 16)?,
            written: number(rest, INDEX_HEADER)?,
            pages: number(header, 20)?,
        })
    }

    /// The first half of the salt of the generation before this one.
    fn former_salt(&self) -> [u8; 4] {
        let [a, b, c, d, ..] = self.salt;
        u32::from_be_bytes([a, b, c, d])
            .wrapping_sub(1)
            .to_be_bytes()
    }
}

/// The head of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Frame {
    page: u32,
    is_commit: bool,
    salt: [u8; 8],
}

/// A file, its log, and the log's index.
pub(super) struct Files<'a> {
    pub(super) main: &'a File,
    pub(super) log: &'a File,
    pub(super) index: &'a File,
    pub(super) page_size: u64,
    /// When `main` was last written.
    pub(super) modified: Option<SystemTime>,
}

/// The state at the last comparison, to detect later writes into the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Compared {
    salt: [u8; 8],
    written: u32,
    modified: Option<SystemTime>,
}

impl Files<'_> {
    /// Compares, if something was written since `former`; gives what to compare with the next time. Blocks.
    ///
    /// # Errors
    ///
    /// [`Fault::Overwritten`].
    pub(super) fn verify(&self, former: Option<Compared>) -> Result<Option<Compared>, Fault> {
        let Some(index) = Index::read(self.index) else {
            return Ok(former);
        };
        let now = Compared {
            salt: index.salt,
            written: index.written,
            modified: self.modified,
        };
        if former == Some(now) {
            return Ok(former);
        }
        // Others may write at this moment: what differs must do so twice, and nothing may have changed meanwhile.
        let is_other =
            || self.differs(&index).unwrap_or(false) && Index::read(self.index) == Some(index);
        if is_other() && is_other() {
            return Err(Fault::Overwritten);
        }
        Ok(Some(now))
    }

    /// Whether a page that was written into the file is another there.
    fn differs(&self, index: &Index) -> io::Result<bool> {
        let (frames, written) = (u64::from(index.frames), u64::from(index.written));
        if frames.saturating_sub(written) > MOST_FRAMES {
            return Ok(false);
        }
        // Pages that may be written at this moment, or were left out for what is newer.
        let mut passed = HashSet::new();
        for at in written + 1..=frames {
            passed.insert(self.frame(at)?.page);
        }
        let mut compared = 0;
        for (at, frame) in self.written_frames(index)? {
            if !passed.insert(frame.page) || frame.page == 0 || frame.page > index.pages {
                continue;
            }
            if self.is_other(at, frame)? {
                return Ok(true);
            }
            compared += 1;
            if compared == MOST_PAGES {
                break;
            }
        }
        Ok(false)
    }

    /// Frames that are in the file, the newest first: of this generation of the log, or of the one before it as far as
    /// this one has not written over it yet.
    fn written_frames(&self, index: &Index) -> io::Result<Vec<(u64, Frame)>> {
        let mut found = Vec::new();
        let written = u64::from(index.written);
        if written > 0 {
            for at in (1..=written).rev().take(MOST_PAGES * 4) {
                let frame = self.frame(at)?;
                if frame.salt != index.salt {
                    break;
                }
                found.push((at, frame));
            }
            return Ok(found);
        }
        let size = self.log.metadata()?.len();
        let last = size.saturating_sub(LOG_HEADER) / (FRAME_HEADER + self.page_size);
        let first = u64::from(index.frames) + 1;
        let mut salt = None;
        for at in (first..=last)
            .rev()
            .take(usize::try_from(MOST_FRAMES).unwrap_or(usize::MAX))
        {
            let frame = self.frame(at)?;
            match salt {
                // Frames after the last commit were rolled back.
                None if frame.salt.starts_with(&index.former_salt()) && frame.is_commit => {
                    salt = Some(frame.salt);
                }
                None => continue,
                Some(salt) if salt != frame.salt => break,
                Some(_) => {}
            }
            found.push((at, frame));
            if found.len() == MOST_PAGES * 4 {
                break;
            }
        }
        Ok(found)
    }

    fn place(&self, at: u64) -> u64 {
        LOG_HEADER + (at - 1) * (FRAME_HEADER + self.page_size)
    }

    fn frame(&self, at: u64) -> io::Result<Frame> {
        let mut head = [0; 16];
        self.log.read_exact_at(&mut head, self.place(at))?;
        let [a, b, c, d, e, f, g, h, salt @ ..] = head;
        Ok(Frame {
            page: u32::from_be_bytes([a, b, c, d]),
            is_commit: u32::from_be_bytes([e, f, g, h]) != 0,
            salt,
        })
    }

    /// Whether the page of the frame is another in the file.
    fn is_other(&self, at: u64, frame: Frame) -> io::Result<bool> {
        let size = usize::try_from(self.page_size).unwrap_or(0);
        let (mut logged, mut stored) = (vec![0; size], vec![0; size]);
        self.log
            .read_exact_at(&mut logged, self.place(at) + FRAME_HEADER)?;
        // A frame that is written over meanwhile has another head first.
        if self.frame(at)? != frame {
            return Ok(false);
        }
        match self
            .main
            .read_exact_at(&mut stored, u64::from(frame.page - 1) * self.page_size)
        {
            Ok(()) => Ok(logged != stored),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(true),
            Err(error) => Err(error),
        }
    }
}
