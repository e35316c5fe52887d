//! Plain requests by HTTP/1.1, the same for all programs that are measured.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    thread,
    time::Instant,
};

pub const MIB: usize = 1024 * 1024;

/// Bytes that are read at once.
const PACKET: usize = 256 * 1024;

/// What a request has as its body: a block, so many times.
#[derive(Clone, Copy)]
pub struct Body<'b>(pub &'b [u8], pub usize);

impl Body<'_> {
    pub const NONE: Self = Self(b"", 0);
}

/// A connection that is kept.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// What a request was answered with; of its body only the size is kept.
pub struct Answer {
    pub status: u16,
    pub size: u64,
    head: String,
}

impl Answer {
    /// The path of `Location`, without a scheme and a host.
    pub fn path(&self) -> String {
        let location = header(&self.head, "location").unwrap();
        let path = location.split_once("://").map(|(_, rest)| rest);
        let path = path.and_then(|rest| rest.find('/').map(|at| &rest[at..]));
        path.unwrap_or(location).to_owned()
    }
}

impl Connection {
    pub fn open(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffer: vec![0; PACKET],
        }
    }

    /// Sends a request; `head` is its first line and its headers, each with its end.
    pub fn exchange(&mut self, head: &str, Body(block, times): Body<'_>) -> Answer {
        self.begin(head, block.len() * times);
        for _ in 0..times {
            self.send(block);
        }
        self.answer()
    }

    /// Sends the head of a request whose body has so many bytes.
    pub fn begin(&mut self, head: &str, size: usize) {
        let length = match head.starts_with("GET ") {
            true => String::new(),
            false => format!("content-length: {size}\r\n"),
        };
        let head = format!("{head}host: 127.0.0.1\r\n{length}\r\n");
        self.stream.write_all(head.as_bytes()).unwrap();
    }

    /// Sends a part of a body.
    pub fn send(&mut self, block: &[u8]) {
        self.stream.write_all(block).unwrap();
    }

    /// Reads the answer to a request that was sent whole.
    pub fn answer(&mut self) -> Answer {
        let mut filled = 0;
        let end = loop {
            filled += self.read(filled);
            if let Some(end) = end_of_head(&self.buffer[..filled]) {
                break end;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        let status = head[9..12].parse().unwrap();
        let mut size = (filled - end) as u64;
        if header(&head, "transfer-encoding").is_some() {
            // Such an answer is small.
            while !self.buffer[..filled].ends_with(b"0\r\n\r\n") {
                filled += self.read(filled);
            }
            size = (filled - end) as u64;
        } else {
            let length = header(&head, "content-length").map_or(0, |it| it.parse().unwrap());
            while size < length {
                size += self.read(0) as u64;
            }
            assert_eq!(size, length, "{head}");
        }
        Answer { status, size, head }
    }

    fn read(&mut self, from: usize) -> usize {
        let read = self.stream.read(&mut self.buffer[from..]).unwrap();
        assert!(read > 0, "the connection was ended");
        read
    }
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|it| it == b"\r\n\r\n")?;
    Some(at + 4)
}

fn header<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    let found = lines.find(|(it, _)| it.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim())
}

/// Has `ask` called `each` times, one after another, on each of some connections, with a number of its own each time. It gives
/// the bytes that have passed; MiB of all in a second.
pub fn in_parallel(
    port: u16,
    (connections, each): (usize, usize),
    ask: impl Fn(&mut Connection, usize) -> u64 + Sync,
) -> f64 {
    let began = Instant::now();
    let bytes: u64 = thread::scope(|scope| {
        let ask = &ask;
        let clients = (0..connections).map(|client| {
            scope.spawn(move || {
                let mut connection = Connection::open(port);
                let asked = (0..each).map(|number| ask(&mut connection, client * each + number));
                asked.sum::<u64>()
            })
        });
        let clients: Vec<_> = clients.collect();
        clients.into_iter().map(|it| it.join().unwrap()).sum()
    });
    bytes as f64 / MIB as f64 / began.elapsed().as_secs_f64()
}
