//! Declarations that cannot work are refused, by name.

#![expect(dead_code, reason = "what is refused is not read")]

use super::{NotesSettings, catalogue};
use crate::settings::{
    Catalogue, CatalogueError, Group, NoSettings, Rules, SecretSetting, Settings, Sources,
    computed, fixed,
};

/// A group with the prefix `NOTES_` of one field, for declarations that cannot work.
macro_rules! group_of {
    ($group:ident, $($field:tt)+) => {
        crate::settings! {
            title: "Notes", prefix: "NOTES_";
            /// Cannot work.
            struct $group {
                /// Cannot work.
                $($field)+
            }
        }
    };
}

group_of!(HasEnabled, enabled: bool { default: fixed("true") });
group_of!(HasFile, page_file: String {});
group_of!(HasWrappedSecret, key: Option<SecretSetting> {});
group_of!(HasSecretList, keys: Vec<SecretSetting> {});
group_of!(HasWrongDefault, size: u8 { default: fixed("300") });

#[test]
fn a_declaration_that_cannot_work_is_refused_by_name() {
    fn reported<G: Group>(name: &'static str) -> String {
        let before = catalogue().keys().count();
        let mut catalogue = catalogue();
        let error = catalogue.add::<G>(name).unwrap_err().to_string();
        assert_eq!(catalogue.keys().count(), before, "{error}");
        error
    }
    fn alone<G: Group>() -> CatalogueError {
        Catalogue::platform().add::<G>("notes").unwrap_err()
    }
    for name in [
        "x",
        "Notes",
        "1st",
        "my-notes",
        "notes_",
        "a_name_of_more_than_32_characters",
    ] {
        assert!(reported::<NoSettings>(name).starts_with(&format!("`{name}` cannot be the name")));
    }
    assert_eq!(
        reported::<NoSettings>("mirror"),
        "two modules are named `mirror`: rename one of them"
    );
    assert_eq!(
        reported::<NotesSettings>("memos"),
        "the settings of the module `memos` have the prefix `NOTES_`, which is not its name: write `MEMOS_`"
    );
    assert!(reported::<NoSettings>("database").contains("DOTMAC_DATABASE_ENABLED"));
    let key = |key: &str| key.to_owned();
    let module = "notes";
    assert_eq!(
        alone::<HasEnabled>(),
        CatalogueError::Key {
            module,
            key: key("DOTMAC_NOTES_ENABLED")
        }
    );
    assert_eq!(
        alone::<HasFile>(),
        CatalogueError::FileTwin {
            module,
            key: key("DOTMAC_NOTES_PAGE_FILE")
        }
    );
    assert_eq!(
        alone::<HasWrappedSecret>(),
        CatalogueError::SecretType {
            module,
            key: key("DOTMAC_NOTES_KEY")
        }
    );
    assert_eq!(
        alone::<HasSecretList>(),
        CatalogueError::SecretType {
            module,
            key: key("DOTMAC_NOTES_KEYS")
        }
    );
    let expected = "a whole number".to_owned();
    assert_eq!(
        alone::<HasWrongDefault>(),
        CatalogueError::Default {
            module,
            key: key("DOTMAC_NOTES_SIZE"),
            expected
        }
    );
}

#[test]
fn two_modules_cannot_have_one_key() {
    crate::settings! {
        title: "Archive", prefix: "NOTES_";
        /// Old notes.
        struct Archive {
            /// Whether it runs.
            archive_enabled: bool { default: fixed("true") }
        }
    }
    let mut catalogue = Catalogue::platform();
    catalogue.add::<Archive>("notes").unwrap();
    let error = catalogue.add::<NoSettings>("notes_archive").unwrap_err();
    assert!(
        error.to_string().contains("DOTMAC_NOTES_ARCHIVE_ENABLED"),
        "{error}"
    );
}

#[test]
fn a_rule_about_a_field_that_does_not_exist_is_a_mistake() {
    crate::settings! {
        title: "Notes", prefix: "NOTES_", rules: |_: &Self, rules: &mut Rules<'_>| {
            rules.refuse(false, &["pagesize"], "never", "never");
        };
        /// Its rule is wrong.
        struct Wrong {
            /// Notes on a page at most.
            page_size: u32 { default: fixed("50") }
        }
    }
    let mut catalogue = Catalogue::platform();
    catalogue.add::<Wrong>("notes").unwrap();
    let none: [(&str, &str); 0] = [];
    let errors = Settings::from_sources(&catalogue, &Sources::new(none)).unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "DOTMAC_NOTES_PAGESIZE: a rule of the program names `pagesize`, and there is no such field; mend the rule"
    );
}

#[test]
fn a_computed_default_that_is_wrong_is_named() {
    group_of!(Wrong, size: u8 { default: computed("wrong", |_| "300".to_owned()) });
    let mut catalogue = Catalogue::platform();
    catalogue.add::<Wrong>("notes").unwrap();
    let none: [(&str, &str); 0] = [];
    let errors = Settings::from_sources(&catalogue, &Sources::new(none)).unwrap_err();
    assert_eq!(
        errors.mistakes()[0].to_string(),
        "DOTMAC_NOTES_SIZE (default): its default is not a whole number, which is a defect of the program; report it; until it is mended, set the key, e.g. to 10"
    );
}
