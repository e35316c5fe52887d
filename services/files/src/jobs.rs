//! Jobs of files.

use std::time::Duration;

use dotmac_platform::jobs::{Backoff, Job, Rules};
use serde::{Deserialize, Serialize};

use crate::store::{files::FileId, renditions::RenditionId};

/// Makes something of a file: an image in another size, its text, what it says of itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Render {
    pub(crate) rendition: RenditionId,
    /// What the file is, by its bytes.
    pub(crate) media_type: String,
}

impl Job for Render {
    const KIND: &'static str = "files.render";
    type Output = ();
    const RULES: Rules = Rules {
        // Each takes a processor, and as much memory as decoding may.
        slots: 2,
        // Longer than a decoder can take by its settings.
        hang_after: Duration::from_secs(5 * 60),
        backoff: Backoff {
            base: Duration::from_secs(2),
            ..Backoff::DEFAULT
        },
        shown: &["rendition", "media_type"],
        ..Rules::DEFAULT
    };
}

/// Scans a file for viruses.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Scan {
    pub(crate) file: FileId,
}

impl Job for Scan {
    const KIND: &'static str = "files.scan";
    type Output = ();
    const RULES: Rules = Rules {
        slots: 4,
        // Longer than one scan can take by its setting.
        hang_after: Duration::from_secs(40 * 60),
        // For about two days, if clamd is away for so long.
        max_attempts: 100,
        backoff: Backoff {
            base: Duration::from_secs(2),
            longest: Duration::from_secs(30 * 60),
            ..Backoff::DEFAULT
        },
        shown: &["file"],
        ..Rules::DEFAULT
    };
}
