//! Pages of the documentation that a reader can follow: what they have him do, and whether it is as they say.

use std::{fs, process::Command};

use crate::support::{
    Daemon, PATIENCE, daemon::Builder, eventually, free_port, process::Process, repository,
};

/// The steps of the page.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Write the same text to each of these files.
    Write(Vec<String>, String),
    /// Run a command; its output, if the page shows one.
    Run(String, Option<String>),
}

/// The steps of a page: a fenced block goes to the files that the paragraph above it names; an indented block has
/// commands, each `$ ` one with its output below it.
pub fn steps(page: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let (mut paragraph, mut after_blank) = (String::new(), true);
    let mut fenced = None::<String>;
    for line in page.lines() {
        if let Some(text) = &mut fenced {
            if line == "```" {
                steps.push(Step::Write(files_in(&paragraph), std::mem::take(text)));
                fenced = None;
            } else {
                *text += &format!("{line}\n");
            }
        } else if line.starts_with("```") {
            fenced = Some(String::new());
        } else if let Some(line) = line.strip_prefix("    ") {
            match (line.strip_prefix("$ "), steps.last_mut()) {
                (Some(command), _) => steps.push(Step::Run(command.into(), Some(String::new()))),
                (None, Some(Step::Run(_, Some(output)))) if !after_blank => {
                    *output += &format!("{line}\n");
                }
                (None, _) => steps.push(Step::Run(line.into(), None)),
            }
        } else if !line.is_empty() {
            if after_blank {
                paragraph.clear();
            }
            paragraph += &format!("{line}\n");
        }
        after_blank = line.is_empty() && fenced.is_none();
    }
    steps
}

/// The files that a paragraph names in backticks.
fn files_in(paragraph: &str) -> Vec<String> {
    let quoted = paragraph.split('`').skip(1).step_by(2);
    let is_file = |name: &&str| [".toml", ".sql", ".rs"].iter().any(|it| name.ends_with(it));
    quoted.filter(is_file).map(str::to_owned).collect()
}

/// Whether `text` is `pattern`, in which `…` stands for anything. White space is not compared: pages break long lines.
pub fn matches(pattern: &str, text: &str) -> bool {
    let dense = |text: &str| text.split_whitespace().collect::<String>();
    let (pattern, text) = (dense(pattern), dense(text));
    let mut rest = &*text;
    let parts: Vec<&str> = pattern.split('…').collect();
    let last = parts.len() - 1;
    for (place, part) in parts.iter().enumerate() {
        let found = match place {
            0 => rest.starts_with(part).then_some(0),
            _ if place == last => rest.ends_with(part).then(|| rest.len() - part.len()),
            _ => rest.find(part),
        };
        match found {
            Some(start) => rest = &rest[start + part.len()..],
            None => return false,
        }
    }
    last > 0 || rest.is_empty()
}

/// A command of a page that runs one of the repository's programs: `KEY=value … cargo run -q --bin name -- arguments`.
struct CargoRun<'p> {
    variables: Vec<(&'p str, &'p str)>,
    /// The name behind `--bin` or `--example`; `dotmac` without one.
    program: &'p str,
    /// A command whose output is shown, which `-q` says; else the program that the others ask.
    is_shown: bool,
    arguments: Vec<&'p str>,
}

impl<'p> CargoRun<'p> {
    fn parse(line: &'p str) -> Option<Self> {
        let (before, after) = line.split_once("cargo run")?;
        let variables = before.split_whitespace().map(|word| word.split_once('='));
        let variables = variables.collect::<Option<_>>()?;
        let (options, arguments) = after.split_once(" -- ").unwrap_or((after, ""));
        let options: Vec<&str> = options.split_whitespace().collect();
        let named = options
            .iter()
            .position(|it| ["--bin", "--example"].contains(it));
        Some(Self {
            variables,
            program: named.map_or("dotmac", |place| options[place + 1]),
            is_shown: options.contains(&"-q"),
            arguments: arguments.split_whitespace().collect(),
        })
    }
}

/// Carries out the tour of a page, which is its section `heading`, on the program that the first command of the tour starts;
/// how many outputs were compared. `program` has what a reader has set for the program of that name. What is shown of a
/// question may come a moment later; what changes something is done once. A command that ends in ` &` runs in the
/// background until the end of the tour; the port 9000, which it may listen on, stands for a free one.
pub async fn tour(page: &str, heading: &str, program: impl Fn(&str) -> Builder) -> usize {
    let text = fs::read_to_string(repository().join(page)).unwrap();
    let section = text.split(&format!("\n## {heading}\n")).nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let mut daemon = None::<Daemon>;
    let (mut compared, mut background) = (0, Vec::new());
    let port = free_port().to_string();
    for step in steps(section) {
        let (line, output) = match step {
            Step::Run(line, output) => (line, output),
            Step::Write(files, text) => {
                assert!(files.is_empty(), "a tour writes no files: {text}");
                continue;
            }
        };
        let line = line.replace("9000", &port);
        if let Some(line) = line.strip_suffix(" &") {
            let listens = line.contains(&port);
            let mut shell = Command::new("sh");
            shell.arg("-c").arg(format!("exec {line}"));
            background.push(Process::spawn(&mut shell));
            if listens {
                let address = format!("127.0.0.1:{port}");
                eventually("the port of the tour to be listened on", || async {
                    tokio::net::TcpStream::connect(&address).await.ok()
                })
                .await;
            }
            continue;
        }
        let run = CargoRun::parse(&line);
        if let Some(run) = run.as_ref().filter(|run| !run.is_shown) {
            let started = run.builder(&program).spawn().await;
            started.until("/ready", 200).await;
            daemon = Some(started);
            continue;
        }
        let daemon = daemon.as_ref().unwrap();
        let output = output.unwrap_or_else(|| "…".to_owned());
        let output = output.replace("9000", &port);
        let begun = std::time::Instant::now();
        loop {
            let shown = match &run {
                Some(run) => {
                    let builder = run.builder(&program);
                    builder
                        .run_in(daemon.directory(), &run.arguments)
                        .await
                        .text()
                }
                None => shown(daemon, &line),
            };
            if matches(&output, &shown) {
                break;
            }
            let is_question = ![" -d ", " -X "].iter().any(|it| line.contains(it));
            assert!(
                is_question && begun.elapsed() < PATIENCE,
                "{line} shows\n{shown}\nand not\n{output}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        compared += 1;
    }
    compared
}

impl CargoRun<'_> {
    fn builder(&self, program: &impl Fn(&str) -> Builder) -> Builder {
        let set = self.variables.iter();
        set.fold(program(self.program), |builder, (key, value)| {
            builder.env(key, value)
        })
    }
}

/// The output of a shell command.
fn shown(daemon: &Daemon, line: &str) -> String {
    let address = daemon.base.trim_start_matches("http://");
    let line = line.replace("localhost:8000", address);
    let run = Command::new("sh").arg("-c").arg(line).output().unwrap();
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn steps_are_found_and_outputs_compared() {
    let page = "# A\n\n    make it\n\n`a/b.rs` and `c.toml`, not `d`:\n\n```rust\nfn main() {}\n```\n\nThen:\n\n    $ one two\n    1\n\n    $ three\n";
    assert_eq!(
        steps(page),
        [
            Step::Run("make it".into(), None),
            Step::Write(
                vec!["a/b.rs".into(), "c.toml".into()],
                "fn main() {}\n".into()
            ),
            Step::Run("one two".into(), Some("1\n".into())),
            Step::Run("three".into(), Some(String::new())),
        ]
    );
    for (pattern, text, is_right) in [
        ("a…c…", "abcd\n", true),
        ("a…", "b", false),
        ("…b…", "abc", true),
        ("abc", "abc\n", true),
        ("abc", "abcd", false),
        ("a\n  b", "ab", true),
        ("a…d", "abc", false),
    ] {
        assert_eq!(matches(pattern, text), is_right, "{pattern} {text}");
    }
}
