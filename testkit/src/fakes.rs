//! Stand-ins with behaviour that the real servers lack; the name of each begins with it.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// A server that accepts connections and never answers: a peer whose process hangs.
pub struct FakeSilentServer {
    _listener: TcpListener,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl FakeSilentServer {
    /// Listens from now on.
    pub fn start() -> Self {
        // The kernel completes the connections; no process reads from them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            _listener: listener,
            port,
        }
    }
}

/// A server of HTTP whose answers a test makes up. It remembers what it was asked. Its threads end with the test
/// process.
pub struct FakeHttpServer {
    asked: Arc<Mutex<Vec<FakeRequest>>>,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

/// A request to a [`FakeHttpServer`].
#[derive(Clone, Debug)]
pub struct FakeRequest {
    /// When it had arrived.
    pub at: Instant,
    /// Request line and headers, in lower case.
    pub head: String,
    /// The same as it came.
    pub raw_head: String,
    /// The body; what is not UTF-8 of it is replaced.
    pub body: String,
    /// The body as it came.
    pub bytes: Vec<u8>,
}

impl FakeRequest {
    /// Its path, in lower case.
    pub fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    /// The value of a header as it came; `name` is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.raw_head.lines().skip(1);
        let mut headers = lines.filter_map(|line| line.split_once(':'));
        let (_, value) = headers.find(|(it, _)| it.eq_ignore_ascii_case(name))?;
        Some(value.trim())
    }
}

impl FakeHttpServer {
    /// `answer` writes the whole of an answer.
    pub fn start(
        answer: impl Fn(&FakeRequest, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::<Mutex<Vec<FakeRequest>>>::default();
        let (noted, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || serve(stream, &noted, &*answer));
            }
        });
        Self { asked, port }
    }

    /// Its address, as a setting wants it: `http://127.0.0.1:41234`.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests so far, in the order of their arrival.
    pub fn asked(&self) -> Vec<FakeRequest> {
        self.asked.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    asked: &Mutex<Vec<FakeRequest>>,
    answer: &dyn Fn(&FakeRequest, &mut TcpStream) -> io::Result<()>,
) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut raw_head, mut length) = (String::new(), String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            raw_head.push_str(&line);
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        let mut body = Vec::new();
        reader.by_ref().take(length).read_to_end(&mut body)?;
        let request = FakeRequest {
            at: Instant::now(),
            head,
            raw_head,
            body: String::from_utf8_lossy(&body).into_owned(),
            bytes: body,
        };
        asked.lock().unwrap().push(request.clone());
        answer(&request, &mut stream)?;
    }
}

/// Writes an answer; `head` is the status with its text, and headers of the test's own.
pub fn write_answer(stream: &mut TcpStream, head: &str, body: &str) -> io::Result<()> {
    let length = body.len();
    stream
        .write_all(format!("HTTP/1.1 {head}\r\ncontent-length: {length}\r\n\r\n{body}").as_bytes())
}

/// A collector with behaviour that the real one lacks: it refuses, requests a pause, delays.
/// Speaks HTTP; remembers the head of each request.
pub struct FakeCollector {
    server: FakeHttpServer,
    answer: Arc<Mutex<FakeAnswer>>,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

/// The answer of a [`FakeCollector`].
#[derive(Clone, Copy)]
pub enum FakeAnswer {
    /// 200.
    Taken,
    /// 429 with `Retry-After` in seconds.
    Pause(u32),
    /// 200, after a while.
    Slowly(Duration),
}

impl FakeCollector {
    /// A collector that answers so until [`say`](Self::say) changes it.
    pub fn start(answer: FakeAnswer) -> Self {
        let answer = Arc::new(Mutex::new(answer));
        let said = Arc::clone(&answer);
        let server = FakeHttpServer::start(move |_, stream| {
            let answer = *said.lock().unwrap();
            let head = match answer {
                FakeAnswer::Taken => "200 OK".to_owned(),
                FakeAnswer::Pause(seconds) => {
                    format!("429 Too Many Requests\r\nretry-after: {seconds}")
                }
                FakeAnswer::Slowly(time) => {
                    std::thread::sleep(time);
                    "200 OK".to_owned()
                }
            };
            write_answer(stream, &head, "")
        });
        let port = server.port;
        Self {
            server,
            answer,
            port,
        }
    }

    /// Answers so from now on.
    pub fn say(&self, answer: FakeAnswer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The heads of the requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.server.asked().into_iter().map(|it| it.head).collect()
    }
}
