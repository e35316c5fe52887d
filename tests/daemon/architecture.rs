//! What docs/ARCHITECTURE.md says is absent is absent.

use std::{collections::BTreeSet, fs, process::Command};

use crate::support::{files, repository};

/// Fails for each line of code below `place` that has one of `words` in it; comments and tests may.
fn is_absent(place: &str, words: &[&str], except: &[&str]) {
    let root = repository();
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
    is_absent("src", &words, &[]);
    is_absent("platform/src", &words, &["platform/src/settings/"]);
    is_absent("actors", &words, &[]);
}

#[test]
fn nobody_outside_supervision_holds_the_address_of_an_actor() {
    let words = ["actix::Addr", " Addr<", "(Addr<", "<Addr<", "Recipient<"];
    for place in ["src", "platform/src", "examples", "actors"] {
        is_absent(place, &words, &["actors/supervision/src/"]);
    }
}

#[test]
fn supervision_knows_neither_secrets_nor_databases_nor_http() {
    let words = [
        "dotmac_secrets",
        "dotmac_db",
        "dotmac_telemetry",
        "actix_web",
        "diesel",
        "opentelemetry",
    ];
    is_absent("actors/supervision/src", &words, &[]);
}

#[test]
fn actors_serve_no_http() {
    is_absent("actors", &["actix_web::", "actix_http::"], &[]);
}

#[test]
fn the_platform_has_no_sql() {
    let words = ["diesel::", "diesel_async", "sql_query", "tokio_postgres"];
    is_absent("src", &words, &[]);
    is_absent("platform/src", &words, &[]);
}

#[test]
fn nothing_but_authentication_makes_the_scope_of_a_tenant_without_a_reason() {
    for place in ["src", "platform/src", "actors", "examples"] {
        let makes_it = ["platform/src/access/", "actors/db/src/authentication.rs"];
        is_absent(
            place,
            &["authenticated_scope", "TenantScope::authenticated"],
            &makes_it,
        );
    }
}

#[test]
fn a_probe_waits_for_nobody() {
    for place in [
        "platform/src/http/probes/mod.rs",
        "actors/supervision/src/state/board.rs",
    ] {
        let text = fs::read_to_string(repository().join(place)).unwrap();
        for word in [
            "Mutex", "RwLock", ".lock()", ".await\n", ".await;", ".call(",
        ] {
            assert!(!text.contains(word), "`{word}` is in {place}");
        }
    }
    let workers = fs::read_to_string(repository().join("platform/src/http/workers.rs")).unwrap();
    for word in ["Mutex", "RwLock", ".lock()"] {
        assert!(!workers.contains(word), "`{word}` is in workers.rs");
    }
}

/// The dependencies and features that a build of the workspace selects for these kinds of edges.
fn selected(edges: &str) -> BTreeSet<String> {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--locked",
            "--offline",
            "--prefix",
            "none",
            "--no-dedupe",
        ])
        .args(["--edges", edges, "--format", "{p} with {f}"])
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    tree.lines().map(str::to_owned).collect()
}

/// Else `cargo run` after `cargo test` compiles the dependency, and all that stand on it, once more.
#[test]
fn tests_turn_on_no_feature_that_other_builds_of_the_workspace_lack() {
    let (tests, others) = (selected("normal,build,dev"), selected("normal,build"));
    assert!(others.len() > 100, "{others:?}");
    let missing: Vec<_> = others.difference(&tests).collect();
    assert!(
        missing.is_empty(),
        "tests have other features of these; add them to tests/features/Cargo.toml: {missing:#?}"
    );
}
