//! Where the values of a module come from, and what is said of wrong ones.

use std::time::Duration;

use super::{NotesSettings, PRODUCTION, Store, Tag, catalogue, load, mistake, notes};
use crate::settings::tests::Directory;
use crate::settings::{NoSettings, as_table};

#[test]
fn a_module_has_its_settings() {
    let settings = load(&[
        ("DOTMAC_NOTES_PAGE_SIZE", "20"),
        ("DOTMAC_NOTES_TAG", "draft"),
        ("S3_HOST", "s3.example"),
    ])
    .unwrap();
    let notes = notes(&settings);
    assert_eq!((notes.page_size, notes.owner.as_str()), (20, "me"));
    assert_eq!(notes.keep, Duration::from_secs(30 * 86_400));
    assert_eq!(notes.tag, Some(Tag("draft".to_owned())));
    assert_eq!(notes.host.as_deref(), Some("s3.example"));
    assert_eq!(notes.store, Store::S3, "a host is given");
    assert_eq!(notes.signing_key.key(), "DOTMAC_NOTES_SIGNING_KEY");
    assert_eq!(format!("{:?}", notes.signing_key), "[redacted]");
    assert!(settings.of::<NoSettings>().is_some());
}

#[test]
fn the_keys_of_a_module_come_from_every_layer() {
    let directory = Directory::new();
    directory.write(
        ".env",
        "DOTMAC_NOTES_OWNER=dotenv\nDOTMAC_NOTES_PAGE_SIZE=7\n",
    );
    let path = directory.write("key", "Kq7vXw2mBz\n");
    let environment = [
        ("DOTMAC_NOTES_OWNER", "environment"),
        ("DOTMAC_NOTES_SIGNING_KEY_FILE", path.as_str()),
    ];
    let settings = directory.load_all(&catalogue(), &environment).unwrap();
    assert_eq!(notes(&settings).owner, "environment");
    assert_eq!(notes(&settings).page_size, 7);
    assert_eq!(settings.files(), [std::path::PathBuf::from(&path)]);
    let rows = settings.effective();
    let origin = |key: &str| {
        let row = rows.iter().find(|row| row.key == key).unwrap();
        (row.origin.clone(), row.module)
    };
    assert_eq!(
        origin("DOTMAC_NOTES_SIGNING_KEY"),
        (format!("file {path}"), Some("notes"))
    );
    assert_eq!(
        origin("DOTMAC_NOTES_PAGE_SIZE"),
        (".env".to_owned(), Some("notes"))
    );
    let mirror = ("default".to_owned(), Some("mirror"));
    assert_eq!(origin("DOTMAC_MIRROR_ENABLED"), mirror);
    assert_eq!(origin("DOTMAC_PORT"), ("default".to_owned(), None));
    let table = as_table(&rows);
    assert!(!table.contains("Kq7vXw2mBz"), "{table}");
}

#[test]
fn each_mistake_says_what_would_be_right() {
    let page_size = [("DOTMAC_NOTES_PAGE_SIZE", "500")];
    assert_eq!(
        mistake(&page_size),
        "DOTMAC_NOTES_PAGE_SIZE (environment): \"500\" is not a whole number from 1 to 200; write e.g. 50"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_TAG", "A b")]),
        "DOTMAC_NOTES_TAG (environment): \"A b\" is not a tag: it has other characters than a-z; write e.g. draft"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_STORE", "s4")]),
        "DOTMAC_NOTES_STORE (environment): \"s4\" is not one of local, s3; did you mean s3?"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_PAGESIZE", "5")]),
        "DOTMAC_NOTES_PAGESIZE (environment): there is no such key; did you mean DOTMAC_NOTES_PAGE_SIZE?"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_ENABLE", "true")]),
        "DOTMAC_NOTES_ENABLE (environment): there is no such key; did you mean DOTMAC_NOTES_ENABLED?"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_OWNER", "")]),
        "DOTMAC_NOTES_OWNER: it is needed and not set; set it, e.g. to some-text"
    );
    assert_eq!(
        mistake(&[
            ("DOTMAC_NOTES_SWEEP_INTERVAL", "1h"),
            ("DOTMAC_NOTES_KEEP", "1m")
        ]),
        "DOTMAC_NOTES_SWEEP_INTERVAL (environment): deleted notes would stay longer than DOTMAC_NOTES_KEEP says; make it shorter, or keep them longer"
    );
    assert_eq!(
        mistake(&[("DOTMAC_NOTES_SIGNING_KEY", "vault:notes#key")]),
        "DOTMAC_NOTES_SIGNING_KEY (environment): vault:notes#key is in Vault, which is not enabled; set DOTMAC_VAULT_ADDR, or give the value itself"
    );
}

#[test]
fn all_mistakes_of_all_groups_come_at_once() {
    let errors = load(&[
        ("DOTMAC_PORT", "many"),
        ("DOTMAC_NOTES_OWNER", ""),
        ("DOTMAC_NOTES_PAGE_SIZE", "0"),
        ("DOTMAC_MIRROR_ENABLED", "maybe"),
    ])
    .unwrap_err();
    let keys: Vec<_> = errors.mistakes().iter().map(|it| it.key.as_str()).collect();
    assert_eq!(
        keys,
        [
            "DOTMAC_MIRROR_ENABLED",
            "DOTMAC_NOTES_OWNER",
            "DOTMAC_NOTES_PAGE_SIZE",
            "DOTMAC_PORT"
        ]
    );
}

#[test]
fn a_rule_says_nothing_about_a_key_that_is_wrong_by_itself() {
    let reported = mistake(&[
        ("DOTMAC_NOTES_KEEP", "5"),
        ("DOTMAC_NOTES_SWEEP_INTERVAL", "1d"),
    ]);
    assert!(reported.starts_with("DOTMAC_NOTES_KEEP"), "{reported}");
}

#[test]
fn a_module_that_is_off_keeps_its_keys_and_needs_nothing() {
    let off = ("DOTMAC_NOTES_ENABLED", "false");
    let settings = load(&[
        off,
        ("DOTMAC_NOTES_OWNER", ""),
        ("DOTMAC_NOTES_SIGNING_KEY", ""),
        ("DOTMAC_NOTES_KEEP", "1m"),
        ("DOTMAC_NOTES_SWEEP_INTERVAL", "1h"),
    ])
    .unwrap();
    assert!(!settings.module_enabled("notes") && settings.of::<NotesSettings>().is_none());
    assert!(settings.module_enabled("mirror") && !settings.module_enabled("accounts"));
    assert!(settings.warnings().is_empty(), "{:?}", settings.warnings());
    // Not even in production is a secret needed, fit or followed.
    let production = load(
        &[
            &PRODUCTION[..],
            &[off, ("DOTMAC_NOTES_SIGNING_KEY", "word")],
        ]
        .concat(),
    )
    .unwrap();
    assert!(production.wanted_secrets().is_empty());
    assert_eq!(production.literals_of_modules().count(), 0);
    assert!(mistake(&[off, ("DOTMAC_NOTES_PAGE_SIZE", "0")]).contains("from 1 to 200"));
}
