//! What docs/ARCHITECTURE.md says is absent is absent.

use std::{fs, path::Path};

use crate::support::files;

/// Fails for each line of code below `place` that has one of `words` in it; comments and tests may.
fn is_absent(place: &str, words: &[&str], except: &[&str]) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    for file in files(&[place], "rs") {
        let name = file.strip_prefix(root).unwrap().display().to_string();
        if name.contains("/tests/") || except.iter().any(|allowed| name.starts_with(allowed)) {
            continue;
        }
        seen += 1;
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        for line in code.lines() {
            let code = line.split("//").next().unwrap();
            if let Some(word) = words.iter().find(|word| code.contains(**word)) {
                panic!("`{word}` must not be in {name}: {line}");
            }
        }
    }
    assert!(seen > 0, "{place} has no file to look at");
}

#[test]
fn nothing_but_settings_reads_the_environment() {
    let words = ["env::var", "env::vars", "env::args", "current_dir()"];
    is_absent("src", &words, &["src/settings/"]);
    is_absent("actors/src", &words, &[]);
}

#[test]
fn nobody_outside_supervision_holds_the_address_of_an_actor() {
    let words = ["actix::Addr", " Addr<", "(Addr<", "<Addr<", "Recipient<"];
    for place in ["src", "examples", "actors/src"] {
        is_absent(place, &words, &["actors/src/supervision/"]);
    }
}

#[test]
fn supervision_knows_neither_secrets_nor_databases_nor_http() {
    let words = [
        "crate::secrets",
        "crate::db",
        "crate::telemetry",
        "actix_web",
        "diesel",
        "opentelemetry",
    ];
    is_absent("actors/src/supervision", &words, &[]);
}

#[test]
fn actors_serve_no_http() {
    is_absent("actors/src", &["actix_web::", "actix_http::"], &[]);
}

#[test]
fn the_platform_has_no_sql() {
    let words = ["diesel::", "diesel_async", "sql_query", "tokio_postgres"];
    is_absent("src", &words, &[]);
}

#[test]
fn a_probe_waits_for_nobody() {
    for place in ["src/http/probes.rs", "actors/src/supervision/board.rs"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(place)).unwrap();
        for word in [
            "Mutex", "RwLock", ".lock()", ".await\n", ".await;", ".call(",
        ] {
            assert!(!text.contains(word), "`{word}` is in {place}");
        }
    }
}
