//! Checks the list of absent things in docs/ARCHITECTURE.md.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

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
fn no_code_outside_supervision_holds_the_address_of_an_actor() {
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
fn a_probe_never_waits() {
    for place in [
        "platform/src/http/probes/mod.rs",
        "platform/src/http/probes/bodies.rs",
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
pub fn selected(edges: &str) -> BTreeSet<String> {
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

/// The names that stand directly behind `crate::` in the code: one, or several in braces.
fn names_of_crate(code: &str) -> Vec<String> {
    let first_word = |text: &str| -> String {
        let text = text.trim_start();
        text.chars()
            .take_while(|letter| letter.is_alphanumeric() || *letter == '_')
            .collect()
    };
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            names.push(first_word(rest));
            continue;
        };
        let (mut depth, mut item) = (0, String::new());
        for letter in list.chars() {
            match letter {
                ',' if depth == 0 => {
                    names.push(first_word(&std::mem::take(&mut item)));
                    continue;
                }
                '}' if depth == 0 => break,
                '{' => depth += 1,
                '}' => depth -= 1,
                _ => {}
            }
            item.push(letter);
        }
        names.push(first_word(&item));
    }
    names
}

/// A way from `room` over others back to it.
fn circle<'a>(
    rooms: &'a BTreeMap<String, BTreeSet<String>>,
    way: &mut Vec<&'a str>,
    room: &'a str,
) -> bool {
    if way.contains(&room) {
        way.push(room);
        return true;
    }
    way.push(room);
    let found = rooms[room].iter().any(|next| circle(rooms, way, next));
    if !found {
        way.pop();
    }
    found
}

#[test]
fn no_room_of_the_platform_leads_back_to_itself() {
    let source = repository().join("platform/src");
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for file in files(&["platform/src"], "rs") {
        let name = file.strip_prefix(&source).unwrap().display().to_string();
        let is_test = name.contains("/tests/")
            || name.ends_with("/tests.rs")
            || name.ends_with("/testing.rs");
        if is_test || name == "lib.rs" || name == "prelude.rs" {
            continue;
        }
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().map(|line| line.split("//").next().unwrap());
        let code: String = lines.collect::<Vec<_>>().join("\n");
        let room = name.split(['/', '.']).next().unwrap().to_owned();
        rooms.entry(room).or_default().extend(names_of_crate(&code));
    }
    let known: BTreeSet<_> = rooms.keys().cloned().collect();
    for (room, used) in &mut rooms {
        used.retain(|it| known.contains(it) && it != room);
    }
    assert!(rooms["routing"].contains("http") && rooms["cli"].contains("module"));
    for room in rooms.keys() {
        let mut way = Vec::new();
        assert!(!circle(&rooms, &mut way, room), "{}", way.join(" -> "));
    }
}

/// Transactions of routes that need no audit entry, and why. What else changes something is an act (`Acts`, `AcrossActs`),
/// which does not compile without its entry.
const UNRECORDED: [(&str, &str); 10] = [
    ("refresh session", "the next token of the same session"),
    ("log out", "has no entry if the session has ended already"),
    ("end own session", "has no entry if it has ended already"),
    ("report API key", "has no entry if there is no such key"),
    ("change tenant", "has no entry if nothing is changed"),
    (
        "begin resumable upload",
        "the end of the upload is recorded",
    ),
    ("begin direct upload", "the end of the upload is recorded"),
    ("count download", "reads a file"),
    ("read all items", "what a user has read in the inbox"),
    ("change item", "what a user has read in the inbox"),
];

#[test]
fn what_a_route_changes_is_an_act_unless_it_is_listed() {
    let mut found = BTreeSet::new();
    for file in files(&["services"], "rs") {
        let name = file.display().to_string();
        if !name.contains("/src/routes") {
            continue;
        }
        let code = fs::read_to_string(&file).unwrap();
        for begun in ["transaction(", "transaction_across("] {
            for (_, rest) in code.match_indices(begun).map(|(at, _)| code.split_at(at)) {
                let operation = rest.split('"').nth(1).unwrap();
                found.insert(operation.to_owned());
            }
        }
    }
    let listed = UNRECORDED.map(|(operation, _)| operation.to_owned());
    assert_eq!(found, BTreeSet::from(listed));
}
