//! An OTLP collector of a test's own, which prints what it got.

use std::process::Command;

use super::{eventually, free_port, process::Process, tool};

/// A running collector (rotel) that takes OTLP over gRPC and HTTP. Killed when dropped.
pub struct Collector {
    process: Process,
    prints: bool,
    /// The port of OTLP over gRPC.
    pub grpc: u16,
    /// The port of OTLP over HTTP.
    pub http: u16,
}

impl Collector {
    /// A collector that prints what it gets, once it listens.
    pub async fn start() -> Self {
        Self::new(true).await
    }

    /// One that prints nothing of what it gets, for load.
    pub async fn quiet() -> Self {
        Self::new(false).await
    }

    async fn new(prints: bool) -> Self {
        let (grpc, http) = (free_port(), free_port());
        let collector = Self {
            process: Self::spawn(prints, grpc, http),
            prints,
            grpc,
            http,
        };
        collector.listening().await;
        collector
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it speaks `protocol`, as `DOTMAC_TELEMETRY_OTLP_PROTOCOL` names them.
    pub fn port(&self, protocol: &str) -> u16 {
        match protocol {
            "grpc" => self.grpc,
            _ => self.http,
        }
    }

    /// Where it takes OTLP by gRPC, as `DOTMAC_TELEMETRY_OTLP_ENDPOINT` wants it.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// Kills it.
    pub fn stop(&mut self) {
        self.process.kill();
    }

    /// On the same ports as before; what it had printed is forgotten.
    pub async fn restart(&mut self) {
        self.stop();
        self.process = Self::spawn(self.prints, self.grpc, self.http);
        self.listening().await;
    }

    fn spawn(prints: bool, grpc: u16, http: u16) -> Process {
        let mut rotel = Command::new(tool("rotel-agent"));
        rotel.args(["start", "--exporter", "blackhole"]);
        if prints {
            rotel.args(["--debug-log-verbosity", "detailed"]);
            for signal in ["traces", "metrics", "logs"] {
                rotel.args(["--debug-log", signal]);
            }
        }
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

    /// Stops its process (SIGSTOP) until [`thaw`](Self::thaw): connections are taken, and nothing is answered.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets a frozen process run on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
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

/// A span as the collector printed it.
#[derive(Debug, Clone)]
pub struct Span {
    /// The id of its trace, in hexadecimal.
    pub trace: String,
    /// The id of the span above it; empty for the root of a trace.
    pub parent: String,
    /// Its own id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// `Server`, `Client` or `Internal`.
    pub kind: String,
    /// How long it took, in nanoseconds.
    pub nanos: u64,
    /// Its attributes and other printed fields.
    pub text: String,
}

impl Collector {
    /// The spans that arrived so far.
    pub fn spans(&self) -> Vec<Span> {
        let text = self.text();
        let blocks = text.split("\nSpan #").skip(1);
        let blocks = blocks.filter_map(|block| block.split("\nResourceSpans").next());
        blocks.map(Span::read).collect()
    }

    /// Waits for a span of that name, in any trace.
    pub async fn span(&self, name: &str) -> Span {
        eventually(
            &format!("a span {name:?}; there are: {:#?}", self.spans()),
            || async { self.spans().into_iter().find(|span| span.name == name) },
        )
        .await
    }
}

impl Span {
    fn read(block: &str) -> Self {
        let value = |key: &str| {
            let mut lines = block.lines().filter_map(|line| line.split_once(':'));
            let found = lines.find(|(name, _)| name.trim() == key);
            found
                .map(|(_, value)| value.trim().to_owned())
                .unwrap_or_default()
        };
        let time = |key: &str| value(key).parse::<u64>().unwrap_or_default();
        Self {
            trace: value("Trace ID"),
            parent: value("Parent ID"),
            id: value("ID"),
            name: value("Name"),
            kind: value("Kind"),
            nanos: time("End time").saturating_sub(time("Start time")),
            text: block.to_owned(),
        }
    }
}
