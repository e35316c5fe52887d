//! The keys of the audit log.

use std::{path::PathBuf, time::Duration};

use dotmac_platform::settings::{fixed, lasting};

dotmac_platform::settings! {
    title: "Audit", prefix: "AUDIT_";
    /// The audit log, its chain and its checkpoints.
    pub struct AuditSettings {
        /// How long entries are kept. They are deleted from the beginning of a chain up to a checkpoint, so some stay a
        /// little longer.
        retention: Duration { default: fixed("400d"), range: lasting("90d", "3650d") }

        /// Pause between two verifications of all chains.
        verify_interval: Duration { default: fixed("10m"), range: lasting("100ms", "1d") }

        /// File to which each checkpoint is appended as a line of JSON, in addition to the log of the program; best on a disk that the database is not on.
        checkpoint_archive: Option<PathBuf> {}

        /// Interval of the measurement of the sealer's lag, for metrics and `dotmac why`.
        status_interval: Duration { default: fixed("10s"), range: lasting("100ms", "10m") }
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::AuditSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<AuditSettings>("audit", readme);
    }
}
