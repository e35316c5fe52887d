//! Uploads that are all under way all the time although half of their bytes fit on the disk: each client is a bit further than the
//! one before, and what has arrived is deleted permanently at once.

use std::{process::Command, thread};

use super::{
    AT_ONCE,
    load::{Body, Connection, MIB},
};

/// Sizes are in MiB. What is left free for others, and what may wait for its deletion.
const SPARE: usize = 6 * 1024;

/// One upload of a client.
struct Upload {
    connection: Connection,
    port: u16,
    /// What is still to be sent, in MiB.
    left: usize,
}

impl Upload {
    fn begin(port: u16, client: usize, size: usize) -> Self {
        let mut connection = Connection::open(port);
        let head = format!("PUT /api/v1/files/content?name={client}.bin HTTP/1.1\r\n");
        connection.begin(&head, size * MIB);
        Self {
            connection,
            port,
            left: size,
        }
    }

    /// Waits for the file, and deletes it.
    fn end(mut self) {
        let made = self.connection.answer();
        assert_eq!(made.status, 201);
        let head = format!("DELETE {} HTTP/1.1\r\nif-match: *\r\n", made.path());
        let deleted = Connection::open(self.port).exchange(&head, Body::NONE);
        assert_eq!(deleted.status, 204);
    }
}

/// Has [`AT_ONCE`] clients upload two files each: the first one as much of `size` MiB as the client's number says, so that none
/// ends with another; the second one whole. They send a block in turn: none gets ahead of the others.
pub(super) fn run(port: u16, size: usize, block: &[u8]) {
    let first = |client: usize| (size * (client + 1)).div_ceil(AT_ONCE);
    let begin = |client| Some(Upload::begin(port, client, first(client)));
    let mut clients: Vec<_> = (0..AT_ONCE).map(begin).collect();
    let mut is_whole = [false; AT_ONCE];
    thread::scope(|scope| {
        while clients.iter().any(Option::is_some) {
            for (client, (slot, is_whole)) in clients.iter_mut().zip(&mut is_whole).enumerate() {
                let Some(upload) = slot else { continue };
                upload.connection.send(block);
                upload.left -= 1;
                if upload.left > 0 {
                    continue;
                }
                let sent = slot.take();
                scope.spawn(move || sent.map(Upload::end));
                if !*is_whole {
                    *is_whole = true;
                    *slot = Some(Upload::begin(port, client, size));
                }
            }
        }
    });
}

/// The size that the disk has room for, up to `wanted`, in MiB: half of all uploads are on it at once.
pub(super) fn fitting(wanted: usize) -> usize {
    let directory = std::env::temp_dir();
    let asked = Command::new("df")
        .args(["--output=avail", "--block-size=1M"])
        .arg(directory)
        .output();
    let said = String::from_utf8(asked.unwrap().stdout).unwrap();
    let free: usize = said.lines().nth(1).unwrap().trim().parse().unwrap();
    wanted.min(free.saturating_sub(SPARE) * 2 / AT_ONCE).max(1)
}
