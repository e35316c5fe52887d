//! Starts the process that decodes, gives it a file, and takes its result or finds out why there is none.

use std::{
    io,
    os::{fd::OwnedFd, unix::process::ExitStatusExt as _},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use bytes::Bytes;
use dotmac_platform::Exit;
use futures_util::{Stream, StreamExt as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::unix::pipe::{Receiver, Sender},
    time::{sleep, timeout},
};

use super::{Answer, Fault, Limits, MOST_OUTPUT, Refusal, Request, Task};
use crate::storage::StorageError;

/// This program, also where its file was replaced by another version meanwhile.
const PROGRAM: &str = "/proc/self/exe";

/// The most that is kept of what the process says of its end, in bytes.
const MOST_COMPLAINT: u64 = 8 * 1024;

/// Time beyond twice the processor time: the file may come slowly.
const SLACK: Duration = Duration::from_secs(20);

/// How long the process may take to end once it has written its result.
const END: Duration = Duration::from_secs(2);

/// The longest line with an answer, in bytes.
const LONGEST_ANSWER: usize = 8 * 1024;

/// Why a file was not decoded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DecodeError {
    /// The file, or what decoding it takes.
    #[error("the file cannot be decoded: {}", .0.message)]
    Refused(Refusal),
    /// The process was not started, or not confined: nothing was read.
    #[error("the process that decodes does not start")]
    Start(#[source] io::Error),
    /// The store did not give the file.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// Makes of a file what `task` says, in its own process.
///
/// # Errors
///
/// [`DecodeError`].
pub(crate) async fn decode(
    task: Task,
    (media_type, size): (&str, u64),
    limits: Limits,
    source: impl Stream<Item = Result<Bytes, StorageError>> + Unpin,
) -> Result<Vec<u8>, DecodeError> {
    let mut running = Running::start().map_err(DecodeError::Start)?;
    let request = Request {
        task,
        media_type: media_type.to_owned(),
        limits,
        size,
    };
    let longest = Duration::from_secs(limits.cpu) * 2 + SLACK;
    match timeout(longest, running.exchange(&request, source)).await {
        Ok(done) => done,
        Err(_) => {
            let message = format!("decoding it takes more than {} s", longest.as_secs());
            Err(refused(Fault::TimeLimit, message))
        }
    }
}

/// A process that decodes. It is killed when this is dropped.
struct Running {
    child: Child,
    input: Option<Sender>,
    output: Receiver,
    complaints: Receiver,
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended already is not there to be killed.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

impl Running {
    fn start() -> io::Result<Self> {
        let mut child = Command::new(PROGRAM)
            .args(["files", "decode"])
            // Neither secrets nor settings, and no `.env`.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipes: io::Result<_> = (|| {
            let absent = || io::Error::other("a pipe is missing");
            let input = OwnedFd::from(child.stdin.take().ok_or_else(absent)?);
            let output = OwnedFd::from(child.stdout.take().ok_or_else(absent)?);
            let complaints = OwnedFd::from(child.stderr.take().ok_or_else(absent)?);
            Ok((
                Sender::from_owned_fd(input)?,
                Receiver::from_owned_fd(output)?,
                Receiver::from_owned_fd(complaints)?,
            ))
        })();
        match pipes {
            Ok((input, output, complaints)) => Ok(Self {
                child,
                input: Some(input),
                output,
                complaints,
            }),
            Err(error) => {
                child.kill().ok();
                child.wait().ok();
                Err(error)
            }
        }
    }

    /// Writes the file while the result is read.
    async fn exchange(
        &mut self,
        request: &Request,
        source: impl Stream<Item = Result<Bytes, StorageError>> + Unpin,
    ) -> Result<Vec<u8>, DecodeError> {
        let (mut written, mut complaint) = (Vec::new(), Vec::new());
        let most = (MOST_OUTPUT + LONGEST_ANSWER) as u64;
        let (mut output, mut complaints) = (
            (&mut self.output).take(most),
            (&mut self.complaints).take(MOST_COMPLAINT),
        );
        let (fed, read, said) = tokio::join!(
            feed(self.input.take(), request, source),
            output.read_to_end(&mut written),
            complaints.read_to_end(&mut complaint),
        );
        fed?;
        read.and(said).map_err(DecodeError::Start)?;
        let ended = self.ended().await.map_err(DecodeError::Start)?;
        let complaint = String::from_utf8_lossy(&complaint).into_owned();
        match parse(written) {
            Some(Ok(result)) if ended.is_some_and(|it| it.success()) => Ok(result),
            Some(Err(refusal)) => Err(DecodeError::Refused(refusal)),
            _ => Err(fault_of(ended, &complaint)),
        }
    }

    /// How the process has ended; `None` if it did not.
    async fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        let since = Instant::now();
        loop {
            match self.child.try_wait()? {
                Some(ended) => return Ok(Some(ended)),
                None if since.elapsed() > END => return Ok(None),
                None => sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

/// Writes the request and the file. A process that does not read any more has its reasons.
async fn feed(
    input: Option<Sender>,
    request: &Request,
    mut source: impl Stream<Item = Result<Bytes, StorageError>> + Unpin,
) -> Result<(), DecodeError> {
    let Some(mut input) = input else {
        return Ok(());
    };
    let mut line = serde_json::to_vec(request).map_err(|error| DecodeError::Start(error.into()))?;
    line.push(b'\n');
    if input.write_all(&line).await.is_err() {
        return Ok(());
    }
    while let Some(piece) = source.next().await {
        if input.write_all(&piece?).await.is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// The result or the refusal; `None` if what was written is neither.
fn parse(mut written: Vec<u8>) -> Option<Result<Vec<u8>, Refusal>> {
    let end = written.iter().position(|byte| *byte == b'\n')?;
    let answer = serde_json::from_slice(&written[..end]).ok()?;
    written.drain(..=end);
    match answer {
        Answer::Refused(refusal) => Some(Err(refusal)),
        Answer::Done(size) => (written.len() as u64 == size).then_some(Ok(written)),
    }
}

/// Why a process ended without a result.
fn fault_of(ended: Option<ExitStatus>, complaint: &str) -> DecodeError {
    let signal = ended.and_then(|it| it.signal());
    let code = ended.and_then(|it| it.code());
    let not_begun = NOT_BEGUN.map(|exit| i32::from(exit.code()));
    if code.is_some_and(|code| not_begun.contains(&code)) {
        return DecodeError::Start(io::Error::other(last_line(complaint)));
    }
    match signal {
        _ if complaint.contains("memory allocation of") => refused(
            Fault::MemoryLimit,
            "decoding it needs more memory than it may".to_owned(),
        ),
        Some(libc::SIGXCPU) => refused(
            Fault::CpuLimit,
            "decoding it takes more processor time than it may".to_owned(),
        ),
        Some(signal) => refused(
            Fault::Crashed,
            format!("the decoder was ended by signal {signal}"),
        ),
        None => refused(
            Fault::Crashed,
            "the decoder ended without a result".to_owned(),
        ),
    }
}

/// How the command ends that is not understood, has no settings, or cannot be confined.
const NOT_BEGUN: [Exit; 3] = [Exit::Usage, Exit::Settings, Exit::Unavailable];

fn last_line(complaint: &str) -> String {
    complaint.lines().last().unwrap_or_default().to_owned()
}

fn refused(fault: Fault, message: String) -> DecodeError {
    DecodeError::Refused(Refusal { fault, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(raw: i32, complaint: &str) -> Option<Fault> {
        match fault_of(Some(ExitStatus::from_raw(raw)), complaint) {
            DecodeError::Refused(refusal) => Some(refusal.fault),
            _ => None,
        }
    }

    #[test]
    fn the_end_of_the_process_says_what_was_wrong() {
        let abort = libc::SIGABRT;
        assert_eq!(
            fault(abort, "memory allocation of 4 bytes failed"),
            Some(Fault::MemoryLimit)
        );
        assert_eq!(fault(abort, "stack overflow"), Some(Fault::Crashed));
        assert_eq!(fault(libc::SIGXCPU, ""), Some(Fault::CpuLimit));
        assert_eq!(fault(libc::SIGSEGV, ""), Some(Fault::Crashed));
        assert_eq!(fault(70 << 8, "panicked"), Some(Fault::Crashed));
        assert_eq!(
            fault(i32::from(Exit::Unavailable.code()) << 8, "no seccomp"),
            None
        );
    }

    #[test]
    fn an_answer_is_whole_or_none() {
        assert_eq!(
            parse(b"{\"Done\":2}\nab".to_vec()),
            Some(Ok(b"ab".to_vec()))
        );
        for cut in [&b""[..], b"{\"Done\":2}", b"{\"Done\":2}\na", b"\nab"] {
            assert_eq!(parse(cut.to_vec()), None);
        }
    }
}
