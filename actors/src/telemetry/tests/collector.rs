//! Collectors to export to: the real `rotel-agent`, and ones that misbehave.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{Outcome, nameless_file, until};
use crate::telemetry::Protocol;

/// A running `rotel-agent` that prints what it gets. Ends with the test.
pub(super) struct Rotel {
    process: Child,
    printed: File,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Rotel {
    pub(super) fn start() -> Outcome<Self> {
        let (grpc, http) = (free_address()?, free_address()?);
        let printed = nameless_file()?;
        let process = Self::spawn(grpc, http, &printed)?;
        let rotel = Self {
            process,
            printed,
            grpc,
            http,
        };
        rotel.until_listening()?;
        Ok(rotel)
    }

    pub(super) fn stop(&mut self) {
        // Fails only if it has ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
    }

    /// On the same ports as before.
    pub(super) fn restart(&mut self) -> Outcome {
        self.stop();
        self.process = Self::spawn(self.grpc, self.http, &self.printed)?;
        self.until_listening()
    }

    fn until_listening(&self) -> Outcome {
        until("rotel-agent listens", || {
            TcpStream::connect(self.grpc).is_ok() && TcpStream::connect(self.http).is_ok()
        })
    }

    fn spawn(grpc: SocketAddr, http: SocketAddr, printed: &File) -> Outcome<Child> {
        let process = Command::new(binary()?)
            .args([
                "start",
                "--exporter",
                "blackhole",
                "--debug-log-verbosity",
                "detailed",
            ])
            .args([
                "--debug-log",
                "traces",
                "--debug-log",
                "metrics",
                "--debug-log",
                "logs",
            ])
            .args([
                "--otlp-grpc-endpoint",
                &grpc.to_string(),
                "--otlp-http-endpoint",
                &http.to_string(),
            ])
            .stdin(Stdio::null())
            .stdout(printed.try_clone()?)
            .stderr(printed.try_clone()?)
            .spawn()?;
        Ok(process)
    }

    pub(super) fn endpoint(&self, protocol: Protocol) -> String {
        match protocol {
            Protocol::Grpc => format!("http://{}", self.grpc),
            Protocol::Http => format!("http://{}", self.http),
        }
    }

    pub(super) fn printed(&mut self) -> Outcome<String> {
        let mut text = String::new();
        self.printed.seek(SeekFrom::Start(0))?;
        self.printed.read_to_string(&mut text)?;
        Ok(text)
    }
}

impl Drop for Rotel {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Where `tests/setup` puts it, unless told otherwise.
fn binary() -> Outcome<PathBuf> {
    let tools = std::env::var_os("DOTMAC_TEST_TOOLS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/tools")),
        PathBuf::from,
    );
    let path =
        std::env::var_os("ROTEL").map_or_else(|| tools.join("bin/rotel-agent"), PathBuf::from);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} is missing: run tests/setup", path.display()).into())
    }
}

/// Free a moment ago; the agent cannot be asked which port it chose.
pub(super) fn free_address() -> Outcome<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Fake: accepts connections and never says anything.
pub(super) fn silent_collector() -> Outcome<(TcpListener, String)> {
    // Not even accepted by us: the kernel completes the connection and takes what fits its buffers.
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    Ok((listener, endpoint))
}

/// Fake: answers every HTTP request with 401. Its thread ends with the test process.
pub(super) fn refusing_collector() -> Outcome<String> {
    answering_collector("401 Unauthorized", Duration::ZERO, &[])
}

/// Fake: takes what every HTTP request brings, but each only after a while.
pub(super) fn slow_collector(time: Duration) -> Outcome<String> {
    answering_collector("200 OK", time, &[])
}

/// Fake: takes what every HTTP request brings, and says that it rejected one item of it.
pub(super) fn picky_collector() -> Outcome<String> {
    // `partial_success`, in it `rejected_…` and `error_message`.
    const ONE_REJECTED: &[u8] = b"\x0a\x06\x08\x01\x12\x02no";
    answering_collector("200 OK", Duration::ZERO, ONE_REJECTED)
}

fn answering_collector(
    status: &'static str,
    after: Duration,
    body: &'static [u8],
) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || answer(stream, status, after, body));
        }
    });
    Ok(endpoint)
}

fn answer(stream: TcpStream, status: &str, after: Duration, body: &[u8]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut stream, mut length) = (stream, 0);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
        line.clear();
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    std::thread::sleep(after);
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
