//! Collectors to export to: the real `rotel-agent`, and ones that misbehave.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};

use super::{Outcome, nameless_file, until};
use crate::Protocol;

/// A running `rotel-agent` that prints what it gets. Ends with the test.
pub(super) struct Rotel {
    process: Child,
    printed: File,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Rotel {
    pub(super) fn start() -> Outcome<Self> {
        let (grpc, http) = (free_address(), free_address());
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

/// The path at which `tests/setup` installs it, by default.
fn binary() -> Outcome<PathBuf> {
    let tools = std::env::var_os("DOTMAC_TEST_TOOLS").map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../target/tools")),
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
pub(super) fn free_address() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, dotmac_testkit::free_port()))
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
    answering_collector("401 Unauthorized", || {}, &[])
}

/// Fake: takes what every HTTP request brings, but each only after a while.
pub(super) fn slow_collector(time: Duration) -> Outcome<String> {
    answering_collector("200 OK", move || std::thread::sleep(time), &[])
}

/// Fake: answers no request before so many are under way.
pub(super) fn collector_of_many(requests: usize) -> Outcome<String> {
    let all_there = Barrier::new(requests);
    answering_collector("200 OK", move || _ = all_there.wait(), &[])
}

/// `partial_success`, in it `rejected_…` and `error_message`.
const ONE_REJECTED: &[u8] = b"\x0a\x06\x08\x01\x12\x02no";

/// Fake: takes what every request brings, and says that it rejected one item of it.
pub(super) fn picky_collector(protocol: Protocol) -> Outcome<String> {
    match protocol {
        Protocol::Http => answering_collector("200 OK", || {}, ONE_REJECTED),
        Protocol::Grpc => {
            let prefix = [0, 0, 0, 0, ONE_REJECTED.len() as u8];
            grpc_collector([&prefix, ONE_REJECTED].concat().into(), "0")
        }
    }
}

/// Fake: answers every call by gRPC with a status and, unless that is an error, a message.
pub(super) fn grpc_collector(message: Bytes, status: &'static str) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listener.set_nonblocking(true)?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            loop {
                let (stream, _) = listener.accept().await?;
                let message = message.clone();
                tokio::spawn(async move {
                    let mut connection = h2::server::handshake(stream).await?;
                    while let Some(call) = connection.accept().await {
                        let (call, answer) = call?;
                        tokio::spawn(answer_call(call, answer, message.clone(), status));
                    }
                    Ok::<_, h2::Error>(())
                });
            }
            #[expect(unreachable_code, reason = "names the type of the errors")]
            Ok::<_, std::io::Error>(())
        })
    });
    Ok(endpoint)
}

async fn answer_call(
    call: Request<h2::RecvStream>,
    mut answer: SendResponse<Bytes>,
    message: Bytes,
    status: &'static str,
) -> Result<(), h2::Error> {
    let mut body = call.into_body();
    while let Some(piece) = body.data().await {
        body.flow_control().release_capacity(piece?.len())?;
    }
    let status = HeaderValue::from_static(status);
    let mut head = Response::new(());
    if status != "0" {
        // An error has no message, and its status comes at once.
        head.headers_mut().insert("grpc-status", status);
        return answer.send_response(head, true).map(drop);
    }
    let mut sending = answer.send_response(head, false)?;
    sending.send_data(message, false)?;
    sending.send_trailers(HeaderMap::from_iter([(
        HeaderName::from_static("grpc-status"),
        status,
    )]))
}

fn answering_collector(
    status: &'static str,
    wait: impl Fn() + Send + Sync + 'static,
    body: &'static [u8],
) -> Outcome<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let endpoint = format!("http://{}", listener.local_addr()?);
    let wait = Arc::new(wait);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let wait = Arc::clone(&wait);
            std::thread::spawn(move || answer(stream, status, &*wait, body));
        }
    });
    Ok(endpoint)
}

/// Like some load balancers it requires the length of a request, of an empty one too.
fn answer(stream: TcpStream, status: &str, wait: impl Fn(), body: &[u8]) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let (mut stream, mut reported) = (stream, None);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 2 {
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            reported = value.trim().parse().ok();
        }
        line.clear();
    }
    let status = reported.map_or("411 Length Required", |_| status);
    let request = &mut reader.take(reported.unwrap_or(0));
    std::io::copy(request, &mut std::io::sink())?;
    wait();
    let length = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n"
    )?;
    stream.write_all(body)
}
