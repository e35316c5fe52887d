//! A relay for mail: aiosmtpd, which can also be made to answer what a real relay seldom does.

use std::{fs, path::PathBuf, process::Command, time::SystemTime};

use serde_json::{Value, json};

use crate::{eventually, free_port, process::Process, repository};

/// A relay on the loopback interface; it keeps what it takes.
pub struct Smtp {
    process: Process,
    directory: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
    arguments: Vec<String>,
}

/// A mail that a relay has taken.
#[derive(Clone, Debug)]
pub struct TakenMail {
    /// Its sender.
    pub from: String,
    /// Its recipients.
    pub to: Vec<String>,
    /// Headers and body, as they came.
    pub content: String,
    /// Whether it came by TLS.
    pub is_tls: bool,
    /// The user who gave it.
    pub user: Option<String>,
}

impl TakenMail {
    /// The value of a header, unfolded; its name in any case.
    pub fn header(&self, name: &str) -> Option<String> {
        let unfolded = self.content.replace("\r\n ", " ").replace("\r\n\t", " ");
        let head = unfolded.split("\r\n\r\n").next()?.to_owned();
        head.split("\r\n").find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found
                .eq_ignore_ascii_case(name)
                .then(|| value.trim().to_owned())
        })
    }
}

impl Smtp {
    /// One that takes everything from any client, in the clear.
    pub async fn start() -> Self {
        Self::with(Vec::new(), None).await
    }

    /// One that takes mail by STARTTLS, with the certificate and key in these files.
    pub async fn with_tls(certificate: &str, key: &str, login: Option<(&str, &str)>) -> Self {
        let arguments = ["--tls", certificate, key].map(str::to_owned);
        Self::with(arguments.to_vec(), login).await
    }

    /// One that takes mail in the clear from this user alone.
    pub async fn with_user(user: &str, password: &str) -> Self {
        Self::with(Vec::new(), Some((user, password))).await
    }

    async fn with(mut arguments: Vec<String>, login: Option<(&str, &str)>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        if let Some((user, password)) = login {
            arguments.extend(["--user".to_owned(), user.to_owned()]);
            fs::write(directory.path().join("password"), password).unwrap();
        }
        let port = free_port();
        let process = spawn(&directory, port, &arguments);
        let smtp = Self {
            process,
            directory,
            port,
            arguments,
        };
        smtp.until_it_listens().await;
        smtp
    }

    async fn until_it_listens(&self) {
        eventually("the relay to listen", || async {
            let lines = self.process.lines();
            lines.iter().any(|line| line == "listening").then_some(())
        })
        .await;
    }

    /// Has it answer `answer` to each `verb` (`connect`, `ehlo`, `auth`, `mail`, `rcpt`, `data`, `content`) from now on, in place
    /// of what it said before: `451 4.3.0 later`; `drop` closes the connection without an answer, `drop-taken` takes the mail
    /// first, and `hang` leaves its content without an answer.
    pub fn answer(&self, verb: &str, answer: &str) {
        self.control(&json!({ verb: answer }));
    }

    /// Has it answer as it would by itself.
    pub fn behave(&self) {
        self.control(&json!({}));
    }

    fn control(&self, control: &Value) {
        let (part, whole) = (
            self.directory.path().join("control.part"),
            self.directory.path().join("control"),
        );
        fs::write(&part, control.to_string()).unwrap();
        fs::rename(part, whole).unwrap();
    }

    /// Changes the password that it wants.
    pub fn set_password(&self, password: &str) {
        fs::write(self.directory.path().join("password"), password).unwrap();
    }

    /// All mails that it has taken, in their order.
    pub fn taken(&self) -> Vec<TakenMail> {
        let mut files: Vec<(SystemTime, PathBuf)> = fs::read_dir(self.directory.path())
            .unwrap()
            .map(|it| it.unwrap().path())
            .filter(|it| it.extension().is_some_and(|it| it == "json"))
            .map(|it| (fs::metadata(&it).unwrap().modified().unwrap(), it))
            .collect();
        files.sort();
        files.into_iter().map(|(_, path)| read(&path)).collect()
    }

    /// Waits until it has taken `count` mails.
    pub async fn until_taken(&self, count: usize) -> Vec<TakenMail> {
        eventually(&format!("{count} mails to be taken"), || async {
            let taken = self.taken();
            (taken.len() >= count).then_some(taken)
        })
        .await
    }

    /// Ends it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with what it has taken.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.directory, self.port, &self.arguments);
        self.until_it_listens().await;
    }
}

fn spawn(directory: &tempfile::TempDir, port: u16, arguments: &[String]) -> Process {
    let python = repository().join("target/tools/smtp/bin/python");
    assert!(python.exists(), "aiosmtpd is missing: run tests/setup");
    let server = repository().join("testkit/src/smtp_server.py");
    let mut command = Command::new(python);
    command
        .arg(server)
        .arg(directory.path())
        .arg(port.to_string());
    Process::spawn(command.args(arguments))
}

fn read(path: &PathBuf) -> TakenMail {
    let mail: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
    let to = mail["to"].as_array().unwrap();
    TakenMail {
        from: text(&mail["from"]),
        to: to.iter().map(text).collect(),
        content: text(&mail["content"]),
        is_tls: mail["tls"] == true,
        user: mail["user"].as_str().map(str::to_owned),
    }
}
