//! A server of NATS with JetStream, of a test's own.

use std::{net::TcpStream, path::Path, process::Command};

use super::{eventually, free_port, process::Process, tool};

/// A running server, which keeps its streams over restarts.
pub struct Nats {
    process: Process,
    directory: tempfile::TempDir,
    arguments: Vec<String>,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Nats {
    /// One that takes everything from any client, in the clear.
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// One with these further arguments, such as `--auth`.
    pub async fn with(arguments: &[&str]) -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let arguments: Vec<_> = arguments.iter().map(|&it| it.to_owned()).collect();
        let server = Self {
            process: launch(directory.path(), port, &arguments),
            directory,
            arguments,
            port,
        };
        server.accepts().await;
        server
    }

    /// The URL of it, without TLS.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it if it runs, and starts it again on what it has kept.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.directory.path(), self.port, &self.arguments);
        self.accepts().await;
    }

    /// Stops it where it is, connections open.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    async fn accepts(&self) {
        eventually("nats-server", || async {
            TcpStream::connect(("127.0.0.1", self.port)).ok()
        })
        .await;
    }
}

fn launch(directory: &Path, port: u16, arguments: &[String]) -> Process {
    let mut command = Command::new(tool("nats-server"));
    command
        .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
        .arg(directory)
        .args(arguments);
    Process::spawn(&mut command)
}
