//! The daemon with accounts: what docs/services/accounts.md has a reader do in the first minutes, command by command.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

use serde_json::{Value, json};

use crate::{
    page::matches,
    support::{Daemon, built, eventually, files, repository},
};

/// The commands of a section of the page, each with the output below it.
pub fn commands(page: &str, section: &str) -> Vec<(String, String)> {
    let begin = page.find(section).unwrap() + section.len();
    let text = page[begin..].split("\n## ").next().unwrap();
    let mut commands: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        match (line.strip_prefix("$ "), commands.last_mut()) {
            (Some(command), _) => commands.push((command.to_owned(), String::new())),
            (None, Some((command, output))) if output.is_empty() && command.ends_with('\\') => {
                command.pop();
                *command += line;
            }
            (None, Some((_, output))) => *output += &format!("{line}\n"),
            (None, None) => panic!("output without a command: {line}"),
        }
    }
    commands
}

/// The values for `…`: from the output of earlier commands.
#[derive(Default)]
pub struct Seen {
    link: String,
    access_token: String,
    file: String,
    /// The path of a link to a file.
    file_link: String,
    /// The path of an upload in parts.
    upload: String,
}

impl Seen {
    pub fn fill(&self, command: &str) -> String {
        command
            .replace("/files/…", &format!("/files/{}", self.file))
            .replace("/f/…", &self.file_link)
            .replace("/api/v1/files/tus/…", &self.upload)
            .replace("dmo_…", &self.link)
            .replace("Bearer …", &format!("Bearer {}", self.access_token))
    }

    pub fn note(&mut self, shown: &str) {
        if let Some(path) = shown.trim().strip_prefix("location: ") {
            path.clone_into(&mut self.upload);
            // The file that it becomes has its id.
            let id = path.rsplit('/').next().unwrap_or_default();
            id.clone_into(&mut self.file);
        }
        let Ok(shown) = serde_json::from_str::<Value>(shown) else {
            return;
        };
        for (field, place) in [
            ("token", &mut self.link),
            ("access_token", &mut self.access_token),
            ("path", &mut self.file_link),
        ] {
            if let Some(text) = shown[field].as_str() {
                text.clone_into(place);
            }
        }
        if let (Some(id), Some(_)) = (shown["id"].as_str(), shown["sha256"].as_str()) {
            id.clone_into(&mut self.file);
        }
    }
}

pub fn run(line: &str, directory: &Path) -> String {
    let mut path = built("dotmac").parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(line).current_dir(directory).env_clear();
    let done = shell.env("PATH", path).output().unwrap();
    let shown = String::from_utf8_lossy(&done.stdout).replace('\r', "");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{line}: {shown}\n{errors}");
    shown
}

#[tokio::test]
async fn the_first_minutes_are_as_the_page_says() {
    let page = fs::read_to_string(repository().join("docs/services/accounts.md")).unwrap();
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let address = daemon.base.trim_start_matches("http://");
    let mut seen = Seen::default();
    let commands = commands(&page, "## First steps");
    for (command, expected) in &commands {
        let line = seen.fill(command).replace("localhost:8000", address);
        let shown = run(&line, daemon.directory());
        assert!(
            matches(expected, &shown),
            "{line} shows\n{shown}\nand not\n{expected}"
        );
        seen.note(&shown);
    }
    assert!(commands.len() >= 6, "{commands:?}");
}

#[tokio::test]
async fn every_command_that_the_page_names_exists() {
    let page = fs::read_to_string(repository().join("docs/services/accounts.md")).unwrap();
    let quoted = page.split('`').skip(1).step_by(2);
    let commands: Vec<&str> = quoted
        .filter_map(|text| text.strip_prefix("dotmac "))
        .collect();
    for command in &commands {
        let words = command.split(' ');
        let words: Vec<&str> = words.take_while(|word| is_word(word)).collect();
        let help = Daemon::builder()
            .run(&[words.as_slice(), &["--help"]].concat())
            .await;
        assert_eq!(help.code, 0, "{command}: {}", help.text());
    }
    assert!(commands.len() >= 6, "{commands:?}");
}

/// Not an option or an argument.
fn is_word(word: &str) -> bool {
    word.bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'-')
        && !word.starts_with('-')
}

#[tokio::test]
async fn the_events_of_the_page_are_those_of_the_module_and_are_seen_by_its_tenant() {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let made = run(
        "dotmac user create-admin --email admin@example.com --json",
        daemon.directory(),
    );
    let made: Value = serde_json::from_str(&made).unwrap();
    let password = "seven green boxes in a row";
    let post = |path: &str, body: Value| {
        let url = format!("{}/api/v1{path}", daemon.base);
        daemon.client.post(url).json(&body).send()
    };
    let reset = json!({ "token": made["token"], "password": password });
    let reset = post("/auth/password/reset", reset).await.unwrap();
    assert_eq!(reset.status(), 204);
    let login = json!({ "identifier": "admin@example.com", "password": password, "mode": "token" });
    let session: Value = post("/auth/login", login)
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    let token = session["access_token"].as_str().unwrap();
    let get = async |path: &str| -> Value {
        let url = format!("{}/api/v1{path}", daemon.base);
        let answer = daemon.client.get(url).bearer_auth(token).send().await;
        answer.unwrap().json().await.unwrap()
    };

    let types = get("/events/types").await;
    let types: BTreeSet<String> = types["items"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|it| it["module"] == "accounts")
        .map(|it| it["type"].as_str().unwrap().to_owned())
        .collect();
    let page = fs::read_to_string(repository().join("docs/services/accounts.md")).unwrap();
    let section = page.split("\n## Events\n").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let documented = section.split('`').skip(1).step_by(2);
    let documented: BTreeSet<String> = documented
        .filter(|word| word.ends_with(".v1"))
        .map(str::to_owned)
        .collect();
    assert_eq!(types, documented);

    // The password was set on a transaction of the system, which has no tenant of its own.
    for kind in [
        "user.created.v1",
        "role_binding.created.v1",
        "password.changed.v1",
    ] {
        eventually("the event", || async {
            let events = get(&format!("/events?type={kind}")).await;
            let event = events["items"].as_array()?.first()?.clone();
            assert_eq!(event["tenantid"], session["user"]["tenant"]["id"]);
            assert!(!event.to_string().contains("example.com"), "{event}");
            Some(())
        })
        .await;
    }
}

#[test]
fn the_tests_and_files_that_the_table_of_asvs_names_exist() {
    let page = fs::read_to_string(repository().join("docs/services/accounts-asvs.md")).unwrap();
    let folders = [
        "services/accounts/src",
        "services/accounts/tests/accounts",
        "tests/daemon",
    ];
    let sources: String = files(&folders, "rs")
        .iter()
        .map(|file| fs::read_to_string(file).unwrap())
        .collect();
    let held = page.split("\n## ").nth(1).unwrap();
    let rows = held.lines().filter(|line| line.starts_with("| "));
    let mut tests = 0;
    for row in rows.skip(1) {
        let [_, _, place, test, _] = row.split('|').collect::<Vec<_>>()[..] else {
            panic!("{row} has no three columns");
        };
        let name = test.trim().trim_matches('`');
        assert!(sources.contains(&format!("fn {name}()")), "{row}");
        let quoted = place.split('`').skip(1).step_by(2);
        for file in quoted.filter(|word| word.ends_with(".rs")) {
            let file = repository().join("services/accounts/src").join(file);
            assert!(file.is_file(), "{row}");
        }
        tests += 1;
    }
    assert!(tests > 20, "{tests}");
}

/// A scrape of a daemon that has refused a sign-in.
pub async fn measured() -> String {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let login = json!({ "identifier": "ann@example.com", "password": "a", "mode": "token" });
    let tried = daemon
        .client
        .post(format!("{}/api/v1/auth/login", daemon.base))
        .json(&login);
    assert_eq!(tried.send().await.unwrap().status(), 401);
    eventually("the sign-in to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let refused = "dotmac_accounts_sign_ins_total{outcome=\"refused\"} 1\n";
        let age = "dotmac_accounts_changes_age_seconds ";
        (text.contains(refused) && text.contains(age)).then_some(text)
    })
    .await
}
