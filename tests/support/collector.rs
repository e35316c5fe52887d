//! An OTLP collector of a test's own, which prints what it got.

use std::process::Command;

use super::{eventually, free_port, process::Process, tool};

pub struct Collector {
    process: Process,
    pub grpc: u16,
    pub http: u16,
}

impl Collector {
    pub async fn start() -> Self {
        let (grpc, http) = (free_port(), free_port());
        let collector = Self {
            process: Self::spawn(grpc, http),
            grpc,
            http,
        };
        collector.listening().await;
        collector
    }

    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// On the same ports as before; what it had printed is forgotten.
    pub async fn restart(&mut self) {
        self.stop();
        self.process = Self::spawn(self.grpc, self.http);
        self.listening().await;
    }

    fn spawn(grpc: u16, http: u16) -> Process {
        let mut rotel = Command::new(tool("rotel-agent"));
        rotel.args([
            "start",
            "--exporter",
            "blackhole",
            "--debug-log-verbosity",
            "detailed",
        ]);
        rotel.args([
            "--debug-log",
            "traces",
            "--debug-log",
            "metrics",
            "--debug-log",
            "logs",
        ]);
        rotel.args([
            "--otlp-grpc-endpoint",
            &format!("127.0.0.1:{grpc}"),
            "--otlp-http-endpoint",
            &format!("127.0.0.1:{http}"),
        ]);
        Process::spawn(&mut rotel)
    }

    async fn listening(&self) {
        eventually("the collector to listen", || async {
            tokio::net::TcpStream::connect(("127.0.0.1", self.grpc))
                .await
                .ok()
        })
        .await;
    }

    /// Everything it has printed.
    pub fn text(&self) -> String {
        self.process.lines().join("\n")
    }

    /// Waits until it has printed `text`.
    pub async fn got(&self, text: &str) {
        eventually(
            &format!("the collector to get {text:?}; it got: {}", self.text()),
            || async { self.text().contains(text).then_some(()) },
        )
        .await;
    }
}
