//! The generated files in the repository are what the code would generate.

use std::collections::BTreeSet;

use super::{Directory, specs};
use crate::settings::Catalogue;
use crate::settings::docs::{assert_generated, env_example, markdown};

#[test]
fn the_documentation_of_the_settings_is_up_to_date() {
    let text = markdown("dotmac", &Catalogue::platform(), None);
    assert_generated(file("docs/settings.md"), &text);
}

#[test]
fn the_example_of_the_environment_is_up_to_date() {
    let text = env_example("dotmac", &Catalogue::platform(), None);
    assert_generated(file("deploy/dotmac.env.example"), &text);
}

fn file(name: &str) -> String {
    format!("{}/../{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_example_changes_nothing_when_it_is_used() {
    let directory = Directory::new();
    let text = env_example("dotmac", &Catalogue::platform(), None);
    directory.write(".env", text);
    assert!(directory.load(&[]).is_ok());
}

#[test]
fn keys_are_unique_and_do_not_look_like_a_file_twin() {
    let keys: Vec<String> = specs().map(|spec| spec.key()).collect();
    assert_eq!(keys.iter().collect::<BTreeSet<_>>().len(), keys.len());
    assert!(keys.iter().all(|key| !key.ends_with("_FILE")));
}

#[test]
fn every_key_is_documented_in_whole_sentences() {
    for spec in specs() {
        let doc = spec.doc();
        assert!(doc.ends_with('.'), "{}: {doc}", spec.key());
    }
}
