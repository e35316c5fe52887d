//! What the documents say is so.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use dotmac_platform::Exit;

use crate::support::{Daemon, eventually};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn operations() -> String {
    fs::read_to_string(root().join("docs/operations.md")).unwrap()
}

/// All files with the extension below the directories.
fn files(directories: &[&str], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left: Vec<PathBuf> = directories
        .iter()
        .map(|directory| root().join(directory))
        .collect();
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                found.push(path);
            }
        }
    }
    found
}

#[test]
fn every_reason_in_the_code_is_explained_and_no_other() {
    let mut reasons = BTreeSet::new();
    for file in files(&["actors/src"], "rs") {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        let own = if file.ends_with("supervision/reason.rs") {
            "Self(\""
        } else {
            "Reason::new(\""
        };
        for line in code.lines().filter(|line| line.contains("const ")) {
            if let Some((_, word)) = line.split_once(own) {
                reasons.insert(word.split('"').next().unwrap().to_owned());
            }
        }
    }
    let document = operations();
    let table = document
        .split("## Reasons")
        .nth(1)
        .unwrap()
        .split("\n## ")
        .next()
        .unwrap();
    let explained: BTreeSet<String> = table
        .lines()
        .filter_map(|line| Some(line.strip_prefix("| `")?.split('`').next()?.to_owned()))
        .collect();
    assert!(reasons.len() > 20, "{reasons:?}");
    assert_eq!(explained, reasons);
}

#[tokio::test]
async fn every_metric_of_ours_is_explained() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    daemon.get("/").await;
    let document = operations();
    let names = eventually("the journal to be written", || async {
        let text = daemon.get("/metrics").await.text().await.unwrap();
        let names: Vec<String> = text
            .lines()
            .filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned()))
            .collect();
        names
            .iter()
            .any(|name| name.starts_with("db_client_operation"))
            .then_some(names)
    })
    .await;
    for name in names.iter().filter(|name| !name.starts_with("process_")) {
        assert!(
            document.contains(&format!("`{name}`")),
            "{name} is not in docs/operations.md"
        );
    }
}

#[test]
fn every_exit_code_is_explained() {
    let document = operations();
    for exit in [
        Exit::Success,
        Exit::Failure,
        Exit::Usage,
        Exit::Unavailable,
        Exit::Escalation,
        Exit::Overrun,
        Exit::Settings,
        Exit::Interrupted,
    ] {
        assert!(
            document.contains(&format!("\n| {} | ", exit.code())),
            "{exit:?}"
        );
    }
}

#[test]
fn every_link_leads_to_a_file() {
    let mut documents = files(&["docs", "deploy", "migrations"], "md");
    documents
        .extend(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name)));
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split([')', '#']).next())
        {
            if !target.is_empty() && !target.contains("://") {
                let file = document.parent().unwrap().join(target);
                assert!(file.exists(), "{} links to {target}", document.display());
            }
        }
    }
}

#[test]
fn the_example_that_the_readme_praises_is_as_short_as_it_says() {
    let greeter = fs::read_to_string(root().join("examples/greeter.rs")).unwrap();
    assert!(greeter.lines().count() < 40, "{}", greeter.lines().count());
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let shown = readme
        .split("```rust\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    assert!(greeter.contains(shown), "the README shows another `main`");
}
