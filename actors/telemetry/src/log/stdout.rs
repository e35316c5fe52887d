//! Standard output as a place for log lines that never blocks for long, never panics and loses
//! nothing silently.
//!
//! A reader that has stopped (a frozen log shipper, a paused terminal) fills the pipe; a plain
//! write would then block whichever thread logs next, and the shutdown with it. So each write asks
//! first whether there is room. The first line that finds none waits [`ROOM_WITHIN`]; from then on
//! lines are dropped and counted until there is room again, and the next line is preceded by one
//! that says how many are missing.

use std::{
    fs::File,
    io::{self, Write as _},
    os::{fd::AsFd, unix::fs::FileTypeExt as _},
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How long the first line waits for a reader that has stopped.
const ROOM_WITHIN: Duration = Duration::from_millis(100);

/// The size that a pipe with room takes in one piece without blocking: `PIPE_BUF` on Linux, see pipe(7).
const PIPE_PIECE: usize = 4096;

/// A shared place for whole lines.
#[derive(Debug)]
pub(crate) struct Output(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` where standard output was closed before the start.
    file: Option<File>,
    /// Whether a writable descriptor guarantees room for one [`PIPE_PIECE`] only.
    piecewise: bool,
    stalled: bool,
    /// Whether the last line was cut in the middle.
    torn: bool,
    lost: u64,
}

impl Output {
    /// Writes to standard output, through its own descriptor: no buffer of `std` between.
    pub(crate) fn stdout() -> Self {
        Self::to(
            io::stdout()
                .as_fd()
                .try_clone_to_owned()
                .map(File::from)
                .ok(),
        )
    }

    pub(crate) fn to(file: Option<File>) -> Self {
        let kind = file
            .as_ref()
            .and_then(|file| file.metadata().ok())
            .map(|meta| meta.file_type());
        let piecewise = kind.is_some_and(|kind| kind.is_fifo() || kind.is_socket());
        Self(Mutex::new(State {
            file,
            piecewise,
            stalled: false,
            torn: false,
            lost: 0,
        }))
    }

    /// Writes one line, with its newline, unless the reader is blocked. `notice` makes the line about
    /// lost ones.
    pub(crate) fn write_line(&self, line: &[u8], notice: impl FnOnce(u64) -> Vec<u8>) {
        // Nothing foreign runs under this lock, so a poisoned one holds a sound state.
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lost > 0 {
            let text = notice(state.lost);
            if state.write(&text).is_err() {
                state.lost += 1;
                return;
            }
            state.lost = 0;
        }
        if state.write(line).is_err() {
            state.lost += 1;
        }
    }
}

impl State {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let mut file = file;
        let size = if self.piecewise {
            PIPE_PIECE
        } else {
            line.len().max(1)
        };
        for (index, piece) in line.chunks(size).enumerate() {
            let limit = if self.stalled {
                Duration::ZERO
            } else {
                ROOM_WITHIN
            };
            self.stalled = !has_room(file, limit);
            if self.stalled {
                self.torn |= index > 0;
                return Err(io::ErrorKind::WouldBlock.into());
            }
            if std::mem::take(&mut self.torn) {
                file.write_all(b"\n")?;
            }
            file.write_all(piece)?;
        }
        Ok(())
    }
}

fn has_room(file: &File, limit: Duration) -> bool {
    let mut fds = [PollFd::new(file, PollFlags::OUT)];
    let timeout = Timespec::try_from(limit).ok();
    match poll(&mut fds, timeout.as_ref()) {
        // Also true for a broken pipe: the write reports it without blocking.
        Ok(ready) => ready > 0,
        // Interrupted by a signal: as good as no room, for this line.
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeReader};
    use std::os::fd::OwnedFd;
    use std::time::Instant;

    use super::*;

    fn pipe() -> io::Result<(PipeReader, Output)> {
        let (reader, writer) = io::pipe()?;
        Ok((reader, Output::to(Some(File::from(OwnedFd::from(writer))))))
    }

    fn notice(lost: u64) -> Vec<u8> {
        format!("{lost} lost\n").into_bytes()
    }

    #[test]
    fn a_reader_that_has_stopped_costs_one_short_wait_and_gets_the_number_of_lost_lines()
    -> io::Result<()> {
        let (reader, output) = pipe()?;
        let line = vec![b'x'; 1023]
            .into_iter()
            .chain([b'\n'])
            .collect::<Vec<u8>>();
        let begun = Instant::now();
        for _ in 0..1000 {
            output.write_line(&line, notice);
        }
        assert!(begun.elapsed() < ROOM_WITHIN * 10, "{:?}", begun.elapsed());
        let drain = std::thread::spawn(move || {
            BufReader::new(reader)
                .lines()
                .take_while(|line| line.as_ref().is_ok_and(|line| line != "end"))
                .collect::<io::Result<Vec<_>>>()
        });
        // The reader needs a moment to make room.
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline && output.0.lock().is_ok_and(|state| state.lost > 0) {
            output.write_line(b"resumed\n", notice);
        }
        output.write_line(b"end\n", notice);
        let seen = drain
            .join()
            .map_err(|_| io::Error::other("reader panicked"))??;
        let reported: u64 = seen
            .iter()
            .filter_map(|line| line.strip_suffix(" lost")?.parse::<u64>().ok())
            .sum();
        let full = seen.iter().filter(|line| line.len() == 1023).count();
        assert!(
            reported > 0 && reported >= 1000 - full as u64,
            "reported {reported}, arrived {full}"
        );
        Ok(())
    }

    #[test]
    fn a_line_longer_than_the_pipe_takes_at_once_arrives_whole() -> io::Result<()> {
        let (reader, output) = pipe()?;
        let long = vec![b'y'; 200_000]
            .into_iter()
            .chain([b'\n'])
            .collect::<Vec<u8>>();
        let read = std::thread::spawn(move || BufReader::new(reader).lines().next());
        output.write_line(&long, notice);
        let line = read
            .join()
            .map_err(|_| io::Error::other("reader panicked"))?
            .transpose()?;
        assert_eq!(line.map(|line| line.len()), Some(200_000));
        Ok(())
    }

    #[test]
    fn a_broken_a_full_and_a_closed_output_are_survived() -> io::Result<()> {
        let (reader, broken) = pipe()?;
        drop(reader);
        let full = Output::to(Some(File::options().write(true).open("/dev/full")?));
        let closed = Output::to(None);
        for output in [&broken, &full, &closed] {
            output.write_line(b"one\n", notice);
            output.write_line(b"two\n", notice);
        }
        assert!(broken.0.lock().is_ok_and(|state| state.lost >= 2));
        assert!(full.0.lock().is_ok_and(|state| state.lost >= 2));
        Ok(())
    }
}
