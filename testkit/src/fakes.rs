//! Stand-ins for what the real parts cannot be made to do; each says so in its name.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

/// A server that accepts connections and never answers: a peer whose process hangs.
pub struct FakeSilentServer {
    _listener: TcpListener,
    pub port: u16,
}

impl FakeSilentServer {
    pub fn start() -> Self {
        // The kernel completes the connections; nobody ever reads from them.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        Self {
            _listener: listener,
            port,
        }
    }
}

/// A collector that does what the real one cannot be told to: it refuses, asks for a pause, dawdles.
/// Speaks HTTP; remembers the head of each request. Its threads end with the test process.
pub struct FakeCollector {
    shared: Arc<Shared>,
    pub port: u16,
}

struct Shared {
    answer: Mutex<FakeAnswer>,
    heads: Mutex<Vec<String>>,
}

/// What a [`FakeCollector`] says.
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
    pub fn start(answer: FakeAnswer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            answer: Mutex::new(answer),
            heads: Mutex::default(),
        });
        let served = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = Arc::clone(&served);
                std::thread::spawn(move || serve(stream, &served));
            }
        });
        Self { shared, port }
    }

    pub fn say(&self, answer: FakeAnswer) {
        *self.shared.answer.lock().unwrap() = answer;
    }

    /// The heads of the requests so far, in lower case.
    pub fn heads(&self) -> Vec<String> {
        self.shared.heads.lock().unwrap().clone()
    }
}

fn serve(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line)? == 0 {
                return Ok(());
            }
            if line == "\r\n" {
                break;
            }
            let line = line.to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
        shared.heads.lock().unwrap().push(head);
        let answer = *shared.answer.lock().unwrap();
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
        stream.write_all(format!("HTTP/1.1 {head}\r\ncontent-length: 0\r\n\r\n").as_bytes())?;
    }
}
