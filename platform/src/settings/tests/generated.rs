//! The generated files in the repository are what the code would generate.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::Directory;
use crate::settings::engine::load::specs;
use crate::settings::{env_example, settings_markdown};

fn assert_generated(file: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        fs::write(&path, content).unwrap();
    }
    let found = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        found == content,
        "{file} is not up to date: run `UPDATE_GENERATED=1 cargo test --workspace --lib settings::`"
    );
}

#[test]
fn the_documentation_of_the_settings_is_up_to_date() {
    assert_generated("docs/settings.md", &settings_markdown());
}

#[test]
fn the_example_of_the_environment_is_up_to_date() {
    assert_generated("deploy/dotmac.env.example", &env_example());
}

#[test]
fn the_example_changes_nothing_when_it_is_used() {
    let directory = Directory::new();
    directory.write(".env", env_example());
    assert!(directory.load(&[]).is_ok());
}

#[test]
fn keys_are_unique_and_do_not_look_like_a_file_twin() {
    let keys: Vec<String> = specs()
        .map(crate::settings::engine::group::KeySpec::key)
        .collect();
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
