//! The generated documents of a program with modules.

use std::path::Path;

use super::{NotesSettings, catalogue};
use crate::settings::docs::{assert_documented, assert_example, env_example, in_step, markdown};
use crate::settings::tests::Directory;

#[test]
fn modules_come_after_the_platform_and_each_can_be_had_alone() {
    let all = markdown("shop", &catalogue(), None);
    let place = |text: &str| all.find(text).unwrap();
    assert!(place("`shop check` checks") < place("## Application"));
    assert!(place("## CORS") < place("## Notes\n\nShort texts with tags.\n"));
    assert!(place("## Notes") < place("## mirror"));
    for row in [
        "| `DOTMAC_NOTES_ENABLED` | `true` |",
        "| `DOTMAC_NOTES_OWNER` | needed | Who notes are from. It has no default. | text without control characters | – | restart |",
        "| `DOTMAC_NOTES_PAGE_SIZE` | `50` | Notes on a page at most. | a whole number from 1 to 200 | – | live |",
        "| `DOTMAC_NOTES_STORE` | `s3` if a host is given, else `local` | Where notes are kept. | `local`, `s3` | – | restart |",
        "| `DOTMAC_NOTES_HOST` | – | Host of the object store. | text without control characters | `S3_HOST` | restart |",
        "| `DOTMAC_NOTES_SIGNING_KEY` | needed | Signs the links to shared notes. | a secret or vault:PATH#FIELD | Vault: `notes/signing_key` | live |",
        "| `DOTMAC_NOTES_ACCESS_KEY` | – | Who logs in to the object store. |",
        "The module `mirror` has no settings of its own.",
    ] {
        assert!(all.contains(row), "{row} in {all}");
    }
    let alone = markdown("shop", &catalogue(), Some("notes"));
    assert!(alone.starts_with("## Notes\n\nShort texts"), "{alone}");
    assert!(all.contains(&alone) && !alone.contains("mirror"));
    assert_eq!(markdown("shop", &catalogue(), Some("nobody")), "");
}

#[test]
fn the_example_has_every_key_and_changes_nothing() {
    let example = env_example("shop", &catalogue(), None);
    for line in [
        "# Every setting of shop, with its default.",
        "\n\n# ---- Notes: Short texts with tags.\n",
        "\n# Who notes are from. It has no default. Needed.\n#DOTMAC_NOTES_OWNER=\n",
        "\n#DOTMAC_NOTES_PAGE_SIZE=50\n",
        "\n#DOTMAC_MIRROR_ENABLED=true\n",
    ] {
        assert!(example.contains(line), "{line} in {example}");
    }
    let alone = env_example("shop", &catalogue(), Some("notes"));
    assert!(alone.starts_with("# ---- Notes: Short texts"), "{alone}");
    let directory = Directory::new();
    directory.write(".env", example);
    assert!(directory.load_all(&catalogue(), &super::RIGHT).is_ok());
}

#[test]
fn a_service_keeps_its_documents_in_step() {
    let directory = Directory::new();
    let text = markdown("notes", &catalogue(), Some("notes"));
    let right = directory.write("SETTINGS.md", &text);
    assert_documented::<NotesSettings>("notes", &right);
    let marks = |text: &str| {
        format!(
            "# Notes\n\n<!-- settings: generated -->\n\n{text}\n\n<!-- settings: end -->\n\nMore.\n"
        )
    };
    let within = directory.write("README.md", marks(text.trim()));
    assert_documented::<NotesSettings>("notes", &within);
    let example = env_example("notes", &catalogue(), Some("notes"));
    let example = directory.write("notes.env.example", &example);
    assert_example::<NotesSettings>("notes", &example);

    let stale = directory.write("README.md", marks("old"));
    let stale = Path::new(&stale);
    let reported = in_step(stale, &text, false).unwrap_err();
    assert!(
        reported.contains("README.md is not up to date"),
        "{reported}"
    );
    assert!(reported.contains("UPDATE_GENERATED=1"), "{reported}");
    in_step(stale, &text, true).unwrap();
    in_step(stale, &text, false).unwrap();
    assert_eq!(std::fs::read_to_string(stale).unwrap(), marks(text.trim()));
}
