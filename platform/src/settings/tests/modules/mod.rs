//! The settings of modules: declared, read, checked and switched off as a stranger's would be.

mod declarations;
mod docs;
mod live;
mod reading;
mod secrets;

use std::time::Duration;

use crate::settings::{
    Catalogue, Facts, Invalid, NoSettings, Rules, SecretSetting, Setting, Settings, SettingsErrors,
    Sources, between, computed, fallback, fixed, lasting,
};

crate::choice! {
    /// Where notes are kept.
    pub(super) enum Store {
        /// In the database.
        Local = "local",
        /// In an object store.
        S3 = "s3",
    }
}

/// A tag: a custom type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag(String);

impl Setting for Tag {
    const EXAMPLE: &'static str = "draft";

    fn expected() -> String {
        "a tag".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        if text.bytes().all(|byte| byte.is_ascii_lowercase()) && !text.is_empty() {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid::because("it has other characters than a-z"))
        }
    }
}

crate::settings! {
    title: "Notes", prefix: "NOTES_", rules: NotesSettings::fit;
    /// Short texts with tags.
    pub(super) struct NotesSettings {
        /// Who notes are from. It has no default.
        owner: String {}

        /// Notes on a page at most.
        page_size: u32 { default: fixed("50"), range: between::<u32>("1", "200"), live: true }

        /// How long a deleted note can be restored.
        keep: Duration { default: fixed("30d"), range: lasting("1m", "365d"), live: true }

        /// How often deleted notes are removed.
        sweep_interval: Duration { default: fixed("10m"), range: lasting("1s", "1d") }

        /// Tag of new notes.
        tag: Option<Tag> {}

        /// Where notes are kept.
        store: Store { default: computed("`s3` if a host is given, else `local`", store) }

        /// Host of the object store.
        host: Option<String> { fallbacks: &[fallback("S3_HOST")] }

        /// Signs the links to shared notes.
        signing_key: SecretSetting { vault: "notes/signing_key" }

        /// Who logs in to the object store.
        access_key: SecretSetting { vault: "notes/access_key", optional: true, guessable: true }
    }
}

fn store(facts: &Facts<'_>) -> String {
    match facts.given("DOTMAC_NOTES_HOST") {
        Some(_) => Store::S3.to_string(),
        None => Store::Local.to_string(),
    }
}

impl NotesSettings {
    fn fit(&self, rules: &mut Rules<'_>) {
        rules.refuse(
            self.sweep_interval > self.keep,
            &["sweep_interval", "keep"],
            "deleted notes would stay longer than DOTMAC_NOTES_KEEP says",
            "make it shorter, or keep them longer",
        );
        if self.store == Store::S3 {
            rules.refuse(
                !rules.is_given("host"),
                &["host", "store"],
                "DOTMAC_NOTES_STORE=s3 needs it",
                "set it, or keep notes in the database",
            );
            rules.need(&self.access_key, "DOTMAC_NOTES_STORE=s3 needs it");
        }
    }
}

fn catalogue() -> Catalogue {
    let mut catalogue = Catalogue::platform();
    catalogue.add::<NotesSettings>("notes").unwrap();
    catalogue.add::<NoSettings>("mirror").unwrap();
    catalogue
}

/// The settings of every start.
const RIGHT: [(&str, &str); 2] = [
    ("DOTMAC_NOTES_OWNER", "me"),
    ("DOTMAC_NOTES_SIGNING_KEY", "Kq7vXw2mBz"),
];

fn load(more: &[(&str, &str)]) -> Result<Settings, SettingsErrors> {
    let mut given: Vec<_> = RIGHT.to_vec();
    given.retain(|(key, _)| more.iter().all(|(other, _)| key != other));
    given.extend_from_slice(more);
    Settings::from_sources(&catalogue(), &Sources::new(given))
}

fn mistake(more: &[(&str, &str)]) -> String {
    let errors = load(more).unwrap_err();
    assert_eq!(errors.mistakes().len(), 1, "{errors}");
    errors.mistakes()[0].to_string()
}

fn notes(settings: &Settings) -> &NotesSettings {
    settings.of().unwrap()
}

/// Of a production that is right.
const PRODUCTION: [(&str, &str); 2] = [
    ("DOTMAC_ENVIRONMENT", "production"),
    (
        "DOTMAC_DATABASE_URL",
        "postgres://dotmac:Ys7kP2mQ9@db.example/dotmac",
    ),
];
