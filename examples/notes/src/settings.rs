//! The keys of notes.

use std::time::Duration;

use dotmac_platform::settings::{SecretSetting, between, fixed, lasting};

dotmac_platform::settings! {
    title: "Notes", prefix: "NOTES_";
    /// Short texts with tags.
    pub struct NotesSettings {
        /// The longest text of a note, in characters.
        max_length: usize { default: fixed("2000"), range: between::<usize>("1", "100000"), live: true }

        /// How many notes one tenant may have.
        max_notes: u32 { default: fixed("10000"), range: between::<u32>("1", "1000000"), live: true }

        /// How long a note is kept.
        keep: Duration { default: fixed("30d"), range: lasting("1s", "3650d") }

        /// How often notes that are too old are deleted.
        sweep_interval: Duration { default: fixed("1m"), range: lasting("100ms", "1d") }

        /// The token that callers bring, until there are accounts.
        token: SecretSetting { vault: "notes/token" }

        /// A second token, for callers that only read. Unset means that there is none.
        reader_token: SecretSetting { vault: "notes/reader_token", optional: true }
    }
}

#[cfg(test)]
mod tests {
    use dotmac_platform::settings::docs;

    use super::NotesSettings;

    #[test]
    fn the_readme_has_every_key() {
        let readme = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
        docs::assert_documented::<NotesSettings>("notes", readme);
    }
}
