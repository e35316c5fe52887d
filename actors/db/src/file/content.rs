//! The header of a SQLite file, and its size.
//!
//! Source: "Database File Format", sections 1.3 and 4.1, sqlite.org.

use std::{
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    path::Path,
    time::SystemTime,
};

use super::{
    checkpointed::{FRAME_HEADER, LOG_HEADER},
    fault::Fault,
};

const HEADER_SIZE: usize = 100;
const MAGIC: &[u8] = b"SQLite format 3\0";

/// The header of a database, and the length of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Content {
    /// In bytes.
    pub(super) page_size: u64,
    /// 2 and 2 with a write-ahead log; a backup made by SQLite has none.
    format: [u8; 2],
    /// Grows with each change of the first page.
    changes: u32,
    /// Bytes that the file has at least.
    least_size: u64,
    size: u64,
    /// When it was last written.
    pub(super) modified: Option<SystemTime>,
}

impl Content {
    /// Of a file; `None` if it cannot be read, of which SQLite complains itself.
    pub(super) fn read(file: &File) -> Result<Option<Self>, Fault> {
        let mut bytes = [0; HEADER_SIZE];
        match file.read_exact_at(&mut bytes, 0) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Err(Fault::Truncated),
            Err(_) => return Ok(None),
        }
        let Ok(metadata) = file.metadata() else {
            return Ok(None);
        };
        let content = Self::parse(&bytes, metadata.len()).ok_or(Fault::Overwritten)?;
        let modified = metadata.modified().ok();
        Ok(Some(Self {
            modified,
            ..content
        }))
    }

    fn parse(bytes: &[u8; HEADER_SIZE], size: u64) -> Option<Self> {
        let number = |at: usize| {
            let four = bytes.get(at..at + 4)?.try_into().ok()?;
            Some(u32::from_be_bytes(four))
        };
        let page_size = match u16::from_be_bytes([bytes[16], bytes[17]]) {
            1 => 65_536,
            size => u64::from(size),
        };
        if !bytes.starts_with(MAGIC) || page_size < 512 {
            return None;
        }
        let changes = number(24)?;
        // The number of pages is right only if it was written with the last change.
        let pages = if number(92)? == changes {
            number(28)?
        } else {
            1
        };
        Some(Self {
            page_size,
            format: [bytes[18], bytes[19]],
            changes,
            least_size: u64::from(pages) * page_size,
            size,
            modified: None,
        })
    }

    /// Whether SQLite can have made this of `former`.
    ///
    /// A checkpoint writes the first page first: a growing file is shorter than its header says for a moment, a
    /// shrinking one longer.
    pub(super) fn verify_follows(&self, former: &Self) -> Result<(), Fault> {
        if self.size < former.size && self.size < self.least_size {
            return Err(Fault::Truncated);
        }
        // The counter wraps after its last number.
        let grew = self.changes.wrapping_sub(former.changes) < u32::MAX / 2;
        if self.page_size == former.page_size && self.format == former.format && grew {
            Ok(())
        } else {
            Err(Fault::Overwritten)
        }
    }
}

/// Size and time of the last change: they show whether a file is being written.
pub(super) type Stamp = (u64, Option<SystemTime>);

/// The stamp of the database at `path`, if a whole one is there.
pub(super) fn whole(path: &Path) -> Option<Stamp> {
    let file = File::open(path).ok()?;
    let content = Content::read(&file).ok()??;
    (content.size >= content.least_size).then_some((content.size, content.modified))
}

/// How a write-ahead log begins, in both byte orders of its checksums.
const LOG_MAGIC: [[u8; 4]; 2] = [[0x37, 0x7f, 0x06, 0x82], [0x37, 0x7f, 0x06, 0x83]];

/// Whether a write-ahead log begins as one, if there is anything in it. One that was truncated begins with a hole
/// after the next commit.
pub(super) fn verify_log(log: &File) -> Result<(), Fault> {
    let mut magic = [0; 4];
    match log.read_exact_at(&mut magic, 0) {
        Ok(()) if !LOG_MAGIC.contains(&magic) => Err(Fault::LogDamaged),
        _ => Ok(()),
    }
}

/// Whether a write-ahead log is long enough for so many frames.
pub(super) fn verify_frames(log: &File, frames: u64, page_size: u64) -> Result<(), Fault> {
    let size = log.metadata().map(|metadata| metadata.len());
    let needed = if frames == 0 {
        0
    } else {
        LOG_HEADER + frames * (FRAME_HEADER + page_size)
    };
    match size {
        Ok(size) if size < needed => Err(Fault::LogDamaged),
        _ => Ok(()),
    }
}

/// Device and inode of the file at `path`, if there is one.
pub(super) fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(Identity::of(&metadata))),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Which file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    pub(super) fn of(metadata: &std::fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt as _;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(changes: u32, pages: u64, size: u64) -> Content {
        Content {
            page_size: 4096,
            format: [2, 2],
            changes,
            least_size: pages * 4096,
            size,
            modified: None,
        }
    }

    #[test]
    fn what_a_checkpoint_does_to_a_file_follows_from_what_it_was() {
        let former = content(7, 10, 40_960);
        for later in [
            former,
            // Growing: the header is there, the new pages are not yet.
            content(8, 100, 40_960),
            // Shrinking: the end is not cut off yet, and then is.
            content(9, 2, 40_960),
            content(9, 2, 8192),
        ] {
            assert_eq!(later.verify_follows(&former), Ok(()), "{later:?}");
        }
        let last = content(u32::MAX, 10, 40_960);
        assert_eq!(content(0, 10, 40_960).verify_follows(&last), Ok(()));
    }

    #[test]
    fn changes_that_sqlite_would_not_make_are_detected() {
        let former = content(7, 10, 40_960);
        let verify = |later: Content| later.verify_follows(&former);
        assert_eq!(verify(content(7, 10, 8192)), Err(Fault::Truncated));
        assert_eq!(verify(content(6, 10, 40_960)), Err(Fault::Overwritten));
        let backup = Content {
            format: [1, 1],
            ..content(9, 10, 40_960)
        };
        assert_eq!(verify(backup), Err(Fault::Overwritten));
    }
}
