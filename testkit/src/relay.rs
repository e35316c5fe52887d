//! A relay for mail within the test itself, for what a real one cannot do: it says how far each mail is while it is there, so
//! that a test can break something at that very step.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

/// How far a mail has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelayStep {
    /// There is a connection, and nothing was said.
    Connect,
    /// `EHLO` has come.
    Ehlo,
    /// `MAIL FROM` has come.
    Mail,
    /// `RCPT TO` has come.
    Rcpt,
    /// `DATA` has come.
    Data,
    /// All of the content has come, and the mail is taken. Nothing was answered.
    Content,
    /// The answer to the content was sent.
    Answered,
}

/// A relay that takes everything. Its threads end with the test process.
pub struct FakeRelay {
    taken: Arc<Mutex<BTreeMap<String, usize>>>,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl FakeRelay {
    /// Calls `pass` at each step, before it answers.
    pub fn start(pass: impl Fn(RelayStep) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let taken = Arc::<Mutex<BTreeMap<_, _>>>::default();
        let (kept, pass) = (Arc::clone(&taken), Arc::new(pass));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (kept, pass) = (Arc::clone(&kept), Arc::clone(&pass));
                std::thread::spawn(move || serve(stream, &kept, &*pass));
            }
        });
        Self { taken, port }
    }

    /// How often it took the mail with each `Message-ID`: what stands before its `@`.
    pub fn taken(&self) -> BTreeMap<String, usize> {
        self.taken.lock().unwrap().clone()
    }
}

fn serve(
    mut stream: TcpStream,
    taken: &Mutex<BTreeMap<String, usize>>,
    pass: &dyn Fn(RelayStep),
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream.try_clone()?);
    pass(RelayStep::Connect);
    stream.write_all(b"220 relay ESMTP\r\n")?;
    let mut line = String::new();
    loop {
        line.clear();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let verb = line.split([' ', ':', '\r']).next().unwrap_or_default();
        let answer = match &*verb.to_ascii_uppercase() {
            "EHLO" => {
                pass(RelayStep::Ehlo);
                "250-relay\r\n250-8BITMIME\r\n250 ENHANCEDSTATUSCODES\r\n"
            }
            "MAIL" => {
                pass(RelayStep::Mail);
                "250 2.1.0 Ok\r\n"
            }
            "RCPT" => {
                pass(RelayStep::Rcpt);
                "250 2.1.5 Ok\r\n"
            }
            "DATA" => {
                pass(RelayStep::Data);
                stream.write_all(b"354 go on\r\n")?;
                let Some(id) = content(&mut lines)? else {
                    return Ok(());
                };
                *taken.lock().unwrap().entry(id).or_default() += 1;
                pass(RelayStep::Content);
                stream.write_all(b"250 2.0.0 Ok: queued\r\n")?;
                pass(RelayStep::Answered);
                continue;
            }
            "RSET" | "NOOP" => "250 2.0.0 Ok\r\n",
            "QUIT" => {
                stream.write_all(b"221 2.0.0 Bye\r\n")?;
                return Ok(());
            }
            _ => "502 5.5.2 not known\r\n",
        };
        stream.write_all(answer.as_bytes())?;
    }
}

/// Reads a content up to its end: what its `Message-ID` begins with; `None` if the connection ends before.
fn content(lines: &mut impl BufRead) -> io::Result<Option<String>> {
    let (mut line, mut id) = (Vec::new(), None);
    loop {
        line.clear();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        if line == b".\r\n" {
            return Ok(Some(id.unwrap_or_default()));
        }
        let text = String::from_utf8_lossy(&line);
        if let Some((name, value)) = text.split_once(':')
            && id.is_none()
            && name.eq_ignore_ascii_case("message-id")
        {
            let value = value.trim().trim_matches(['<', '>']);
            id = Some(value.split('@').next().unwrap_or_default().to_owned());
        }
    }
}
