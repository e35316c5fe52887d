//! The daemon as an operator runs it: the real binary, its environment, its directory, its log.

use std::{
    collections::BTreeMap,
    fmt,
    io::{Seek as _, Write as _},
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
    time::{Duration, Instant},
};

use reqwest::{Method, Response};
use serde_json::Value;

use super::{
    PATIENCE, built,
    dns::FakeDns,
    eventually,
    process::{Process, give_away, unprivileged},
};

/// The series that counts writes of the runtime journal: the first work of every database.
pub const JOURNALED: &str =
    r#"dotmac_database_work_duration_seconds_count{outcome="ok",work="write runtime journal"}"#;

/// A running daemon. Port 0, its own working directory and, by default, its own SQLite file.
pub struct Daemon {
    process: Process,
    directory: tempfile::TempDir,
    environment: BTreeMap<String, String>,
    /// Scheme, address and port that it listens on, as `http://127.0.0.1:41234`.
    pub base: String,
    /// Sends requests, each with a time-out of [`PATIENCE`].
    pub client: reqwest::Client,
}

/// A daemon that has ended.
#[derive(Debug)]
pub struct Stopped {
    /// The exit code; 128 + n after signal n.
    pub code: i32,
    /// Its output, line by line, from both streams.
    pub lines: Vec<String>,
    /// From the start of the command, or from the signal to stop, to the end.
    pub took: Duration,
}

/// A daemon to be.
pub struct Builder {
    program: PathBuf,
    unprivileged: bool,
    open_files: Option<(u32, u32)>,
    resolv_conf: Option<PathBuf>,
    environment: BTreeMap<String, String>,
}

impl Builder {
    /// Sets a variable. The environment of the test is not passed on, but for `PATH`.
    pub fn env(mut self, key: &str, value: impl ToString) -> Self {
        self.environment.insert(key.to_owned(), value.to_string());
        self
    }

    /// Not as root, as it should be.
    pub fn unprivileged(mut self) -> Self {
        self.unprivileged = true;
        self
    }

    /// With limits on the files that it may have open at once: the soft one and the hard one.
    pub fn open_files(mut self, soft: u32, hard: u32) -> Self {
        self.open_files = Some((soft, hard));
        self
    }

    /// With these modules switched off: in production some need more settings than a test of something else gives.
    pub fn without(mut self, modules: &[&str]) -> Self {
        for module in modules {
            let key = format!("DOTMAC_{}_ENABLED", module.to_uppercase());
            self = self.env(&key, "false");
        }
        self
    }

    /// Asking `dns` for names in place of the system's servers.
    pub fn resolver(mut self, dns: &FakeDns) -> Self {
        self.resolv_conf = Some(dns.resolv_conf());
        self
    }

    fn command(&self, directory: &Path) -> Command {
        let mut command = match (self.unprivileged, self.open_files) {
            (true, _) => {
                give_away(directory);
                unprivileged(&self.program)
            }
            (false, None) if self.resolv_conf.is_some() => {
                // A file system of its own, in which one file is another.
                let mounted = r#"mount --bind "$0" /etc/resolv.conf && exec "$@""#;
                let mut unshared = Command::new("unshare");
                unshared.args(["--mount", "sh", "-c", mounted]);
                unshared.args(&self.resolv_conf).arg(&self.program);
                unshared
            }
            (false, None) => Command::new(&self.program),
            (false, Some((soft, hard))) => {
                let mut shell = Command::new("sh");
                let limited = format!(r#"ulimit -Sn {soft}; ulimit -Hn {hard}; exec "$0" "$@""#);
                shell.arg("-c").arg(limited).arg(&self.program);
                shell
            }
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        command
            .current_dir(directory)
            .env_clear()
            .env("PATH", path)
            .envs(&self.environment);
        command
    }

    /// Starts it and waits until it listens.
    pub async fn spawn(self) -> Daemon {
        self.spawn_in(tempfile::tempdir().unwrap()).await
    }

    /// The same in a directory that exists already.
    pub async fn spawn_in(self, directory: tempfile::TempDir) -> Daemon {
        let mut daemon = self.begin_in(directory);
        daemon.find_address().await;
        daemon
    }

    /// The same without a wait: it may not listen yet. [`Daemon::listens`] waits for that.
    pub fn begin_in(self, directory: tempfile::TempDir) -> Daemon {
        let process = Process::spawn(&mut self.command(directory.path()));
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .no_proxy()
            .build()
            .unwrap();
        Daemon {
            process,
            directory,
            environment: self.environment,
            base: String::new(),
            client,
        }
    }

    /// Starts it with arguments in a directory that exists already, and waits for nothing.
    pub fn start_in(self, directory: &Path, arguments: &[&str]) -> Process {
        Process::spawn(self.command(directory).args(arguments))
    }

    /// Runs it to an end that is expected to come by itself.
    pub async fn run(self, arguments: &[&str]) -> Stopped {
        let directory = tempfile::tempdir().unwrap();
        self.run_in(directory.path(), arguments).await
    }

    /// The same in a directory that exists already.
    pub async fn run_in(self, directory: &Path, arguments: &[&str]) -> Stopped {
        self.run_reading(directory, arguments, "").await
    }

    /// The same with that text as its input.
    pub async fn run_reading(self, directory: &Path, arguments: &[&str], input: &str) -> Stopped {
        let begun = Instant::now();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(input.as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut command = self.command(directory);
        let mut process = Process::spawn_reading(command.args(arguments), file.into());
        let code = wait(&mut process).await;
        Stopped {
            code,
            lines: process.lines(),
            took: begun.elapsed(),
        }
    }
}

async fn wait(process: &mut Process) -> i32 {
    let begun = Instant::now();
    loop {
        if let Some(code) = process.try_exit() {
            // Its last lines may still be in the pipe.
            eventually("its output to be read", || async {
                process.is_read().then_some(())
            })
            .await;
            return code;
        }
        assert!(
            begun.elapsed() < PATIENCE,
            "still running after {PATIENCE:?}; its log: {:#?}",
            process.lines()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

impl Daemon {
    /// The daemon `dotmac`.
    pub fn builder() -> Builder {
        Self::program(built("dotmac"))
    }

    /// A program of `examples/` instead of the daemon itself.
    pub fn example(name: &str) -> Builder {
        Self::program(built("examples").join(name))
    }

    /// Any program that serves on the platform, by its path.
    pub fn program(program: PathBuf) -> Builder {
        let environment = [
            ("DOTMAC_PORT", "0"),
            ("DOTMAC_TELEMETRY_LOG_FORMAT", "json"),
        ];
        let environment = environment
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        Builder {
            program,
            unprivileged: false,
            open_files: None,
            resolv_conf: None,
            environment,
        }
    }

    /// A running `dotmac` with no settings but a free port.
    pub async fn spawn() -> Self {
        Self::builder().spawn().await
    }

    /// Waits until it listens, after [`Builder::begin_in`].
    pub async fn listens(&mut self) {
        self.find_address().await;
    }

    async fn find_address(&mut self) {
        let begun = Instant::now();
        loop {
            if let Some(address) = self.listening("listening on") {
                let scheme = if self.environment.contains_key("DOTMAC_TLS_CERT") {
                    "https"
                } else {
                    "http"
                };
                self.base = format!("{scheme}://{address}");
                return;
            }
            let ended = self.process.try_exit();
            assert!(
                ended.is_none() && begun.elapsed() < PATIENCE,
                "no address; exit {ended:?}; {:#?}",
                self.process.lines()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The address in the log line that begins with `what`.
    fn listening(&self, what: &str) -> Option<String> {
        self.log().iter().find_map(|line| {
            let is_it = line["message"].as_str()?.starts_with(what);
            let address = line["address"].as_str()?;
            is_it.then(|| address.to_owned())
        })
    }

    /// Where the management listener is, as `http://address`; it needs `DOTMAC_MANAGEMENT_PORT`.
    pub async fn management(&self) -> String {
        eventually("the management listener", || async {
            Some(format!(
                "http://{}",
                self.listening("probes and metrics on")?
            ))
        })
        .await
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Its working directory, removed when it is dropped.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Its output so far, line by line.
    pub fn lines(&self) -> Vec<String> {
        self.process.lines()
    }

    /// The lines of the log so far.
    pub fn log(&self) -> Vec<Value> {
        self.process
            .lines()
            .iter()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits for a log line whose message contains `text`.
    pub async fn logged(&self, text: &str) -> Value {
        let found = || async {
            self.log().into_iter().find(|line| {
                line["message"]
                    .as_str()
                    .is_some_and(|message| message.contains(text))
            })
        };
        let begun = Instant::now();
        loop {
            if let Some(line) = found().await {
                return line;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "no log line with {text:?} in {:#?}",
                self.lines()
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends a request without a body to `path`.
    pub async fn request(&self, method: Method, path: &str) -> Response {
        self.client
            .request(method, format!("{}{path}", self.base))
            .send()
            .await
            .unwrap()
    }

    /// Sends a GET to `path`.
    pub async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).await
    }

    /// A GET from a caller that traces, and whose trace is `trace`.
    pub async fn traced(&self, path: &str, trace: &str) -> Response {
        let request = self.client.get(format!("{}{path}", self.base));
        let parent = format!("00-{trace}-00f067aa0ba902b7-01");
        request.header("traceparent", parent).send().await.unwrap()
    }

    /// Status and JSON body of a GET.
    pub async fn json(&self, path: &str) -> (u16, Value) {
        let response = self.get(path).await;
        (
            response.status().as_u16(),
            response.json().await.unwrap_or(Value::Null),
        )
    }

    /// Asks until `path` answers with `status`; the body of that answer.
    pub async fn until(&self, path: &str, status: u16) -> Value {
        eventually(format_args!("{path} to answer {status}"), || async {
            let response = self
                .client
                .get(format!("{}{path}", self.base))
                .send()
                .await
                .ok()?;
            if response.status().as_u16() != status {
                return None;
            }
            Some(response.json().await.unwrap_or(Value::Null))
        })
        .await
    }

    /// Asks `/ready` until one component is in `state` for `reason`; the whole body.
    pub async fn until_component(
        &self,
        component: &str,
        state: &str,
        reason: Option<&str>,
    ) -> Value {
        let seen = Mutex::new(Value::Null);
        let what = fmt::from_fn(|f| {
            let seen = seen.lock().unwrap();
            write!(f, "{component} to be {state} ({reason:?}); it is {seen}")
        });
        eventually(what, || async {
            let body: Value = self.get("/ready").await.json().await.ok()?;
            let now = &body["components"][component];
            let is_it =
                now["state"] == state && (reason.is_none() || now["reason"].as_str() == reason);
            seen.lock().unwrap().clone_from(now);
            is_it.then_some(body)
        })
        .await
    }

    /// The value of one series of `/metrics`, written as it stands there.
    pub async fn metric(&self, series: &str) -> Option<f64> {
        let text = self.get("/metrics").await.text().await.unwrap();
        text.lines().find_map(|line| {
            line.strip_prefix(series)?
                .strip_prefix(' ')?
                .trim()
                .parse()
                .ok()
        })
    }

    /// Sends a signal by name, such as `HUP`.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Ends it with SIGTERM, in good order.
    pub async fn stop(self) -> Stopped {
        self.signal("TERM");
        self.ended().await
    }

    /// Waits for the end that something has caused.
    pub async fn ended(mut self) -> Stopped {
        let begun = Instant::now();
        let code = wait(&mut self.process).await;
        Stopped {
            code,
            lines: self.process.lines(),
            took: begun.elapsed(),
        }
    }

    /// Kills it without a warning, and gives back its directory for the next.
    pub fn kill(self) -> tempfile::TempDir {
        let Self {
            mut process,
            directory,
            ..
        } = self;
        process.kill();
        directory
    }
}

impl Stopped {
    /// Its output, as one text.
    pub fn text(&self) -> String {
        self.lines.join("\n")
    }

    fn log(&self) -> impl DoubleEndedIterator<Item = Value> {
        let parsed = |line: &String| serde_json::from_str::<Value>(line).ok();
        self.lines.iter().filter_map(parsed)
    }

    /// The log line whose message is `message`.
    pub fn line(&self, message: &str) -> Value {
        self.log()
            .find(|line| line["message"] == message)
            .unwrap_or_else(|| panic!("no line {message:?} in {}", self.text()))
    }

    /// The last log line of an error.
    pub fn last_error(&self) -> Value {
        self.log()
            .rfind(|line| line["level"] == "ERROR")
            .unwrap_or_else(|| panic!("no error in {}", self.text()))
    }
}
