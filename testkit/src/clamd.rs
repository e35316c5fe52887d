//! A scanner for viruses: clamd, with a database of two signatures, that of the test file of EICAR and that of ClamAV's own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::{eventually, free_port, process::Process, tool};

/// The test file of EICAR, which every scanner calls a virus and which is none. In parts, so that no scanner finds it here.
pub fn eicar() -> String {
    [
        "X5O!P%@AP[4\\PZX54(P^)7CC)7}$",
        "EICAR-STANDARD-ANTIVIRUS-",
        "TEST-FILE!$H+H*",
    ]
    .concat()
}

/// Where Debian's package `clamav-testfiles` has them.
const TEST_FILES: &str = "/usr/share/clamav-testfiles";

/// The hash of the program that all of them hold, by which ClamAV's own test suite has them found: archives, documents and packed
/// programs are opened for it.
const TEST_FILE: &str = "aa15bcf478d165efd2065190eb473bcb:544:ClamAV-Test-File\n";

/// ClamAV's test files, by their names.
pub fn test_files() -> Vec<PathBuf> {
    let listed = fs::read_dir(TEST_FILES);
    let listed = listed.unwrap_or_else(|_| panic!("{TEST_FILES} is missing: run tests/setup"));
    let mut files: Vec<_> = listed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A clamd on the loopback interface. Killed when dropped.
pub struct Clamd {
    process: Process,
    directory: tempfile::TempDir,
    /// Where it listens.
    pub port: u16,
}

impl Clamd {
    /// One that takes 4 MiB at the most.
    pub async fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let clamd = Self {
            process: launch(directory.path(), port),
            directory,
            port,
        };
        clamd.until_it_answers().await;
        clamd
    }

    /// Its address, as the settings have it.
    pub fn address(&self) -> String {
        format!("tcp://127.0.0.1:{}", self.port)
    }

    /// The socket that it listens on as well.
    pub fn socket(&self) -> String {
        format!("unix:{}", self.directory.path().join("clamd.ctl").display())
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.directory.path(), self.port);
        self.until_it_answers().await;
    }

    async fn until_it_answers(&self) {
        eventually("clamd to answer", || async {
            let mut clamd = TcpStream::connect(("127.0.0.1", self.port)).await.ok()?;
            clamd.write_all(b"zPING\0").await.ok()?;
            let mut answer = Vec::new();
            clamd.read_to_end(&mut answer).await.ok()?;
            (answer == b"PONG\0").then_some(())
        })
        .await;
    }
}

fn launch(directory: &Path, port: u16) -> Process {
    let signatures = directory.join("signatures");
    fs::create_dir_all(&signatures).unwrap();
    let hex: String = eicar().bytes().map(|byte| format!("{byte:02x}")).collect();
    let signature = format!("Eicar-Test-Signature:0:*:{hex}\n");
    fs::write(signatures.join("eicar.ndb"), signature).unwrap();
    fs::write(signatures.join("clamav.hdb"), TEST_FILE).unwrap();
    let (place, socket) = (directory.display(), directory.join("clamd.ctl"));
    fs::remove_file(&socket).ok();
    let config = directory.join("clamd.conf");
    let text = format!(
        "Foreground yes\nDatabaseDirectory {place}/signatures\nTemporaryDirectory {place}\nTCPSocket {port}\nTCPAddr 127.0.0.1\n\
         LocalSocket {place}/clamd.ctl\nStreamMaxLength 4M\nMaxThreads 4\n"
    );
    fs::write(&config, text).unwrap();
    let mut command = Command::new(tool("clamd"));
    command.arg("--config-file").arg(&config);
    Process::spawn(&mut command)
}
