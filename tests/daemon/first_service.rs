//! docs/first-service.md, step by step: writes each file of the page, runs each command, compares each output. It does so
//! in a folder outside the repository, with the third-party crates that the repository's own build has compiled.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    architecture::selected,
    page::{Step, matches, steps},
    support::{built, eventually, free_port, process::Process, repository},
};

/// An empty folder, gone when dropped. It has the same name each time, since cargo keeps what it built by the path.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let repository = repository().display().to_string().replace('/', "-");
        let folder = Self(std::env::temp_dir().join(format!("first-service{repository}")));
        fs::remove_dir_all(&folder.0).ok();
        fs::create_dir_all(&folder.0).unwrap();
        folder
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A reader of the page at work.
struct Reader {
    directory: PathBuf,
    port: u16,
    running: Option<Process>,
}

impl Reader {
    /// The command as the page has it, but on a free port, without the network, and with the repository's own target.
    fn command(&self, line: &str) -> Command {
        let line = line.replace("localhost:8000", &format!("127.0.0.1:{}", self.port));
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(line).current_dir(&self.directory);
        let profile = built("dotmac");
        let target = profile.ancestors().nth(2).unwrap();
        shell
            .env("CARGO_TARGET_DIR", target)
            .env("CARGO_NET_OFFLINE", "true")
            .env("DOTMAC_PORT", self.port.to_string());
        shell
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let text = match name {
            "Cargo.toml" => {
                let lock = path.with_file_name("Cargo.lock");
                fs::copy(repository().join("Cargo.lock"), lock).unwrap();
                manifest(text)
            }
            _ => text.to_owned(),
        };
        fs::write(path, text).unwrap();
    }

    async fn run(&mut self, line: &str, output: Option<&str>) {
        if let Some(directory) = line.strip_prefix("cd ") {
            self.directory.push(directory);
        } else if line == "cargo run" {
            // Built first: that may take longer than a start has.
            let built = self.command("cargo build --quiet").status().unwrap();
            assert!(built.success());
            let running = Process::spawn(&mut self.command("exec cargo run"));
            let asked = format!("http://127.0.0.1:{}/ready", self.port);
            let client = reqwest::Client::builder().no_proxy().build().unwrap();
            eventually("the service to be ready", || async {
                assert!(!running.is_read(), "it has ended: {:#?}", running.lines());
                let answer = client.get(&asked).send().await.ok()?;
                answer.status().is_success().then_some(())
            })
            .await;
            self.running = Some(running);
        } else {
            let done = self.command(line).output().unwrap();
            let shown = String::from_utf8_lossy(&done.stdout);
            let errors = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{line}: {shown}\n{errors}");
            let expected = output.unwrap_or("…");
            assert!(
                matches(expected, &shown),
                "{line} shows\n{shown}\nand not\n{expected}\n{errors}"
            );
        }
    }
}

/// The page's manifest with the path of the repository, and with the features and profiles of its workspace: so no crate
/// but the repository's own is compiled once more.
fn manifest(text: &str) -> String {
    let repository = repository().display();
    let text = text.replace("../dotmac-platform", &repository.to_string());
    let workspace = fs::read_to_string(format!("{repository}/Cargo.toml")).unwrap();
    let profiles = &workspace[workspace.find("[profile.").unwrap()..];
    format!("{text}\n[dependencies.third-party]\npath = \"../third-party\"\n\n{profiles}")
}

/// Writes a package without code that turns on, in all crates that the workspace links, the features that the workspace does.
fn write_third_party(directory: &Path) {
    let mut manifest =
        "[package]\nname = \"third-party\"\nversion = \"0.0.0\"\nedition = \"2024\"\n".to_owned();
    for (number, ((name, version), features)) in third_party().iter().enumerate() {
        let features: Vec<_> = features.iter().collect();
        manifest.push_str(&format!(
            "\n[dependencies.crate-{number}]\npackage = \"{name}\"\nversion = \"={version}\"\n\
             default-features = false\nfeatures = {features:?}\n"
        ));
    }
    fs::create_dir_all(directory.join("src")).unwrap();
    fs::write(directory.join("Cargo.toml"), manifest).unwrap();
    fs::write(directory.join("src/lib.rs"), "").unwrap();
}

/// Each third-party crate that the workspace links, by name and version, with its features.
fn third_party() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut crates = BTreeMap::<_, BTreeSet<_>>::new();
    for line in selected("normal") {
        // An empty line stands between the packages of the workspace.
        let Some((package, features)) = line.split_once(" with ") else {
            continue;
        };
        let mut words = package.split(' ');
        let (name, version) = (words.next().unwrap(), words.next().unwrap());
        // What follows is a path, or says that it is compiled for the compiler.
        if words.next().is_none() {
            let version = version.trim_start_matches('v').split('+').next().unwrap();
            let features = features.split(',').filter(|it| !it.is_empty());
            crates
                .entry((name.to_owned(), version.to_owned()))
                .or_default()
                .extend(features.map(str::to_owned));
        }
    }
    crates
}

#[tokio::test]
async fn every_step_of_the_page_works_as_it_says() {
    let page = fs::read_to_string(repository().join("docs/first-service.md")).unwrap();
    let folder = Folder::new();
    assert!(!folder.0.starts_with(repository()));
    write_third_party(&folder.0.join("third-party"));
    let mut reader = Reader {
        directory: folder.0.clone(),
        port: free_port(),
        running: None,
    };
    let (mut written, mut compared) = (0, 0);
    for step in steps(&page) {
        match step {
            Step::Write(names, text) => {
                assert!(!names.is_empty(), "no file is named above\n{text}");
                names.iter().for_each(|name| reader.write(name, &text));
                written += names.len();
            }
            Step::Run(line, output) => {
                reader.run(&line, output.as_deref()).await;
                compared += usize::from(output.is_some());
            }
        }
    }
    assert!(
        written >= 8 && compared >= 7,
        "{written} files, {compared} outputs"
    );
    let mut running = reader.running.take().unwrap();
    running.signal("TERM");
    let code = eventually("the service to end", || {
        let code = running.try_exit();
        async move { code }
    })
    .await;
    assert_eq!(code, 0, "{:#?}", running.lines());
}
