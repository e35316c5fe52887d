//! The process that decodes: `dotmac files decode`, a hidden command.
//!
//! It reads a request and a file from its standard input, and writes an answer and a result to its standard output. A decoder
//! that panics, takes too much or overflows the stack ends it, and nothing else.

use std::io::{self, BufRead as _, Read as _, Write as _};

use super::{Answer, Fault, MOST_SOURCE, Refusal, Request, perform, sandbox, too_large};

/// The longest request, in bytes.
const LONGEST_REQUEST: u64 = 4096;

/// Reads, decodes, writes and ends the process.
///
/// # Errors
///
/// The request cannot be read, or the process cannot be confined: nothing was decoded.
pub(crate) fn run() -> io::Result<()> {
    let mut input = io::stdin().lock();
    let mut line = String::new();
    io::Read::by_ref(&mut input)
        .take(LONGEST_REQUEST)
        .read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    sandbox::enter(request.limits)?;
    let result = read(&mut input, &request).and_then(|source| perform(&request, &source));
    let (answer, result) = match result {
        Ok(result) => (Answer::Done(result.len() as u64), result),
        Err(refusal) => (Answer::Refused(refusal), Vec::new()),
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer(&mut output, &answer)?;
    output.write_all(b"\n")?;
    output.write_all(&result)?;
    output.flush()?;
    end()
}

/// All of the file, in memory that is asked for at once, as what there is is known.
fn read(input: &mut impl io::Read, request: &Request) -> Result<Vec<u8>, Refusal> {
    let size = usize::try_from(request.size.min(MOST_SOURCE)).map_err(|_| too_large())?;
    let mut source = Vec::with_capacity(size);
    let read = input.take(MOST_SOURCE + 1).read_to_end(&mut source);
    read.map_err(|error| Refusal::new(Fault::Crashed, error.to_string()))?;
    if source.len() as u64 > MOST_SOURCE {
        return Err(too_large());
    }
    Ok(source)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime of the command cannot end in order: it may not do what it would"
)]
fn end() -> ! {
    std::process::exit(0)
}
