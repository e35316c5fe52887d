//! What others learn of files. An event has ids, sizes and kinds, and no name of a file, which may be about a person.

use dotmac_platform::events::Event;
use serde::Serialize;
use utoipa::ToSchema;

use crate::store::files::{FileId, FileRow};

/// A file was uploaded or copied, was checked, and can be read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileCreated {
    /// Its id.
    file: FileId,
    /// Its size in bytes.
    size: i64,
    /// Its SHA-256, in hexadecimal digits.
    sha256: String,
    /// Its media type, by its bytes.
    #[serde(rename = "type")]
    media_type: String,
    /// Its version.
    version: i64,
}

/// The name, the folder, the metadata or the content of a file was changed, or it was taken from the trash.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileUpdated {
    /// Its id.
    file: FileId,
    /// Its version.
    version: i64,
    /// Whether it was taken from the trash.
    restored: bool,
    /// Whether its content was replaced.
    content: bool,
}

/// A file went to the trash, or was deleted permanently.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileDeleted {
    /// Its id.
    file: FileId,
    /// Its version.
    version: i64,
    /// Whether it cannot be restored.
    permanent: bool,
}

/// A virus was found in a file: it is kept, and cannot be read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileQuarantined {
    /// Its id.
    file: FileId,
    /// Its size in bytes.
    size: i64,
    /// Its SHA-256, in hexadecimal digits.
    sha256: String,
    /// Its media type, by its bytes.
    #[serde(rename = "type")]
    media_type: String,
    /// What was found, as the scanner calls it.
    finding: String,
}

impl FileCreated {
    pub(crate) fn of(row: &FileRow) -> Self {
        Self {
            file: row.id,
            size: row.size,
            sha256: row.sha256.clone(),
            media_type: row.media_type.clone(),
            version: row.version,
        }
    }
}

impl FileQuarantined {
    pub(crate) fn of(row: &FileRow, finding: &str) -> Self {
        Self {
            file: row.id,
            size: row.size,
            sha256: row.sha256.clone(),
            media_type: row.media_type.clone(),
            finding: finding.to_owned(),
        }
    }
}

impl FileUpdated {
    pub(crate) fn of(row: &FileRow, restored: bool, content: bool) -> Self {
        Self {
            file: row.id,
            version: row.version,
            restored,
            content,
        }
    }
}

impl FileDeleted {
    pub(crate) fn of(row: &FileRow, permanent: bool) -> Self {
        Self {
            file: row.id,
            version: row.version,
            permanent,
        }
    }
}

impl Event for FileCreated {
    const TYPE: &'static str = "file.created.v1";

    fn subject(&self) -> String {
        subject(self.file)
    }
}

impl Event for FileUpdated {
    const TYPE: &'static str = "file.updated.v1";

    fn subject(&self) -> String {
        subject(self.file)
    }
}

impl Event for FileDeleted {
    const TYPE: &'static str = "file.deleted.v1";

    fn subject(&self) -> String {
        subject(self.file)
    }
}

impl Event for FileQuarantined {
    const TYPE: &'static str = "file.quarantined.v1";

    fn subject(&self) -> String {
        subject(self.file)
    }
}

fn subject(file: FileId) -> String {
    format!("files/{file}")
}
