//! Programs to be measured: started quietly on a port, asked with as little ceremony as possible.

use std::{
    io::{Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::support::{PATIENCE, free_port};

pub struct Measured {
    child: Child,
    pub port: u16,
    started: Instant,
}

impl Measured {
    /// The daemon, logging warnings only, as its output is not read.
    pub fn daemon(directory: &Path, settings: &[(&str, String)]) -> Self {
        Self::platform(
            Command::new(env!("CARGO_BIN_EXE_dotmac")),
            directory,
            settings,
        )
    }

    /// This program as a platform, by the variable `asked`.
    pub fn this_program(directory: &Path, asked: &str, settings: &[(&str, String)]) -> Self {
        let variables = [&[(asked, "yes".to_owned())], settings].concat();
        Self::platform(
            Command::new(std::env::current_exe().unwrap()),
            directory,
            &variables,
        )
    }

    fn platform(mut command: Command, directory: &Path, settings: &[(&str, String)]) -> Self {
        let port = free_port();
        command
            .current_dir(directory)
            .env_clear()
            .env("DOTMAC_TELEMETRY_LOG_LEVEL", "warn")
            .envs(settings.iter().map(|(key, value)| (key, value)));
        command
            .env("DOTMAC_PORT", port.to_string())
            .env("DOTMAC_WORKERS", "2");
        Self::spawn(command, port)
    }

    /// A bare actix-web server: this program in that role.
    pub fn bare(body: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .env(crate::bare::PORT, port.to_string())
            .env(crate::bare::BODY, body);
        Self::spawn(command, port)
    }

    fn spawn(mut command: Command, port: u16) -> Self {
        let started = Instant::now();
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            child,
            port,
            started,
        }
    }

    /// From its start to the first 200 on `path`.
    pub fn until(&self, path: &str) -> Duration {
        while self.get(path).is_none_or(|(status, _)| status != 200) {
            assert!(
                self.started.elapsed() < PATIENCE,
                "{path} does not answer 200"
            );
            std::thread::sleep(Duration::from_micros(200));
        }
        self.started.elapsed()
    }

    /// As [`get`] at its port.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.port, path)
    }

    /// Resident memory in MiB.
    pub fn memory(&self) -> f64 {
        self.mebibytes("VmRSS:")
    }

    /// The most resident memory that it has ever had, in MiB.
    pub fn peak_memory(&self) -> f64 {
        self.mebibytes("VmHWM:")
    }

    /// Has [`peak_memory`](Self::peak_memory) begin at what is resident now.
    pub fn forget_peak(&self) {
        // 5: see proc_pid_clear_refs(5).
        std::fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5").unwrap();
    }

    fn mebibytes(&self, field: &str) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(field))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
    }

    /// The time for which its threads have run.
    pub fn cpu_time(&self) -> Duration {
        let threads = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        let ran = threads.flatten().filter_map(|thread| {
            // A thread may have ended meanwhile.
            let statistics = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
            statistics.split(' ').next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(ran.sum())
    }

    /// How many entries a directory of its below `/proc` has: `fd` for descriptors, `task` for threads.
    pub fn count(&self, what: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{what}", self.child.id()))
            .unwrap()
            .count()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        crate::support::process::signal(self.child.id(), name);
    }

    /// Waits for it to end; its exit code.
    pub fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

/// Lets all threads of a process run on one core only.
pub fn pin(pid: u32, core: usize) {
    let pinned = Command::new("taskset")
        .args(["-a", "-c", "-p", &core.to_string(), &pid.to_string()])
        .stdout(Stdio::null())
        .status();
    assert!(pinned.unwrap().success());
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Status and body of a GET on its own connection, or `None` if there is no answer within a second.
pub fn get(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(1))).ok()?;
    stream
        .write_all(
            format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.get(9..12)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}
