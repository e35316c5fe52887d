//! Has clamd scan files, by its command `INSTREAM`.
//!
//! A file is clean only if clamd reports so after all of it: one that is longer than clamd takes is not.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use dotmac_platform::supervision::Reason;
use futures_util::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
    time::timeout,
};

use crate::storage::StorageError;

/// clamd does not answer.
pub(crate) const UNAVAILABLE: Reason = Reason::new("scanner_unavailable");

/// How long a connection and an answer to `PING` may take.
const PING: Duration = Duration::from_secs(5);

/// The longest answer, in bytes.
const LONGEST_ANSWER: u64 = 4096;

/// The most that is sent at once.
const PIECE: usize = 64 * 1024;

/// Where clamd listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// A host and a port.
    Tcp(String),
    /// A socket of this machine.
    Unix(PathBuf),
}

impl Address {
    /// Reads `tcp://HOST:PORT` and `unix:/PATH`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = PathBuf::from(path.strip_prefix("//").unwrap_or(path));
            return path.is_absolute().then_some(Self::Unix(path));
        }
        let place = text.strip_prefix("tcp://")?;
        let (host, port) = place.rsplit_once(':')?;
        let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
        (is_port && !host.is_empty() && !host.contains('/')).then(|| Self::Tcp(place.to_owned()))
    }
}

/// The result of a scan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Clean,
    /// The name of what it found.
    Infected(String),
    /// clamd did not take all of it; the reason.
    Incomplete(String),
}

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ScanError {
    #[error("failed to reach clamd")]
    Away(#[from] io::Error),
    #[error("clamd did not answer within {0:?}")]
    TimedOut(Duration),
    /// What it said, up to a length.
    #[error("clamd answered `{0}`")]
    Answer(String),
    /// The store did not give the file.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A clamd. Clones are the same.
#[derive(Clone)]
pub(crate) struct Scanner(Arc<(Address, Duration)>);

trait Connection: AsyncRead + AsyncWrite + Unpin + Send {}

impl<C: AsyncRead + AsyncWrite + Unpin + Send> Connection for C {}

impl Scanner {
    pub(crate) fn new(address: Address, longest: Duration) -> Self {
        Self(Arc::new((address, longest)))
    }

    /// Whether it answers.
    ///
    /// # Errors
    ///
    /// [`ScanError`], also after 5 s.
    pub(crate) async fn ping(&self) -> Result<(), ScanError> {
        let asked = async {
            let mut clamd = self.connect().await?;
            clamd.write_all(b"zPING\0").await?;
            answer(&mut clamd).await
        };
        let said = timeout(PING, asked)
            .await
            .map_err(|_| ScanError::TimedOut(PING))??;
        match said.as_str() {
            "PONG" => Ok(()),
            _ => Err(ScanError::Answer(said)),
        }
    }

    /// Has it read a file of so many bytes.
    ///
    /// # Errors
    ///
    /// [`ScanError`].
    pub(crate) async fn scan(
        &self,
        pieces: impl Stream<Item = Result<Bytes, StorageError>> + Unpin + Send,
        size: u64,
    ) -> Result<Verdict, ScanError> {
        let longest = self.0.1;
        let scanned = timeout(longest, self.send(pieces, size)).await;
        scanned.map_err(|_| ScanError::TimedOut(longest))?
    }

    async fn send(
        &self,
        mut pieces: impl Stream<Item = Result<Bytes, StorageError>> + Unpin + Send,
        mut left: u64,
    ) -> Result<Verdict, ScanError> {
        let mut clamd = timeout(PING, self.connect())
            .await
            .map_err(|_| ScanError::TimedOut(PING))??;
        clamd.write_all(b"zINSTREAM\0").await?;
        let mut sent = Ok(());
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            left = left.saturating_sub(piece.len() as u64);
            sent = send(&mut clamd, &piece).await;
            if sent.is_err() {
                break;
            }
        }
        // A verdict on less than the file is none.
        if sent.is_ok() && left > 0 {
            return Err(StorageError::Changed.into());
        }
        if sent.is_ok() {
            sent = clamd.write_all(&[0; 4]).await;
        }
        // It says why it reads no further, if it does.
        match answer(&mut clamd).await {
            Ok(said) => verdict(&said),
            Err(error) => Err(sent.err().unwrap_or(error).into()),
        }
    }

    async fn connect(&self) -> io::Result<Box<dyn Connection>> {
        Ok(match &self.0.0 {
            Address::Tcp(place) => Box::new(TcpStream::connect(place).await?),
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

async fn send(clamd: &mut Box<dyn Connection>, bytes: &[u8]) -> io::Result<()> {
    for piece in bytes.chunks(PIECE) {
        let size = u32::try_from(piece.len()).unwrap_or_default();
        clamd.write_all(&size.to_be_bytes()).await?;
        clamd.write_all(piece).await?;
    }
    Ok(())
}

async fn answer(clamd: &mut Box<dyn Connection>) -> io::Result<String> {
    let mut said = Vec::new();
    let read = clamd.take(LONGEST_ANSWER).read_to_end(&mut said).await;
    // One that reads no further may reset the connection after its answer.
    if said.is_empty() {
        read?;
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let said = String::from_utf8_lossy(&said);
    let said = said.trim_end_matches(['\0', '\n']);
    Ok(said.chars().filter(|it| !it.is_control()).collect())
}

/// `stream: OK`, `stream: NAME FOUND`, or what is wrong.
fn verdict(said: &str) -> Result<Verdict, ScanError> {
    let of_stream = said.strip_prefix("stream: ");
    match of_stream {
        Some("OK") => Ok(Verdict::Clean),
        Some(found) if found.ends_with(" FOUND") => {
            let name = found.trim_end_matches(" FOUND");
            Ok(Verdict::Infected(name.to_owned()))
        }
        _ if said.contains("size limit exceeded") => Ok(Verdict::Incomplete(said.to_owned())),
        _ => Err(ScanError::Answer(said.to_owned())),
    }
}

#[cfg(test)]
#[expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
mod tests {
    use futures_util::stream;
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn an_address_is_a_host_and_port_or_a_path() {
        let tcp = |place: &str| Some(Address::Tcp(place.to_owned()));
        let unix = Some(Address::Unix(PathBuf::from("/run/clamd.ctl")));
        assert_eq!(Address::parse("tcp://clamd:3310"), tcp("clamd:3310"));
        assert_eq!(Address::parse("tcp://[::1]:3310"), tcp("[::1]:3310"));
        assert_eq!(Address::parse("unix:/run/clamd.ctl"), unix);
        assert_eq!(Address::parse("unix:///run/clamd.ctl"), unix);
        for text in [
            "",
            "clamd:3310",
            "tcp://clamd",
            "tcp://:3310",
            "tcp://clamd:0",
            "tcp://clamd:99999",
            "tcp://clamd:3310/x",
            "unix:clamd.ctl",
            "http://clamd:3310",
        ] {
            assert_eq!(Address::parse(text), None, "{text}");
        }
    }

    /// Finds everything clean, as far as it comes.
    async fn serve(mut asked: TcpStream) -> io::Result<()> {
        let mut command = [0; 10];
        asked.read_exact(&mut command).await?;
        loop {
            let size = asked.read_u32().await?;
            if size == 0 {
                return asked.write_all(b"stream: OK\0").await;
            }
            let mut piece = vec![0; usize::try_from(size).unwrap()];
            asked.read_exact(&mut piece).await?;
        }
    }

    #[tokio::test]
    async fn a_verdict_on_less_than_the_file_is_none() {
        let clamd = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let place = clamd.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            while let Ok((asked, _)) = clamd.accept().await {
                tokio::spawn(serve(asked));
            }
        });
        let scanner = Scanner::new(Address::Tcp(place), PING);
        for (size, is_clean) in [(10, true), (11, false)] {
            let pieces = [&b"hello"[..], b"hello"].map(|piece| Ok(Bytes::from_static(piece)));
            match scanner.scan(stream::iter(pieces), size).await {
                Ok(Verdict::Clean) => assert!(is_clean, "{size}"),
                Err(ScanError::Storage(StorageError::Changed)) => assert!(!is_clean, "{size}"),
                other => panic!("{size}: {other:?}"),
            }
        }
    }

    #[test]
    fn only_ok_is_clean() {
        assert!(matches!(verdict("stream: OK"), Ok(Verdict::Clean)));
        let found = verdict("stream: Eicar-Test-Signature FOUND");
        assert!(matches!(found, Ok(Verdict::Infected(name)) if name == "Eicar-Test-Signature"));
        let cut = verdict("INSTREAM size limit exceeded. ERROR");
        assert!(matches!(cut, Ok(Verdict::Incomplete(_))));
        for said in [
            "",
            "OK",
            "stream: OKAY",
            "UNKNOWN COMMAND",
            "stream: x ERROR",
        ] {
            assert!(matches!(verdict(said), Err(ScanError::Answer(_))), "{said}");
        }
    }
}
