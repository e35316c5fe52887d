//! Peers that are programs of Node, as they are deployed: `benches/peers`.

use std::{fs, net::TcpStream, path::Path, process::Command, time::Duration};

use crate::support::{PATIENCE, free_port, process::Process, repository};

/// A script of `benches/peers`, with the packages that `tests/setup --bench` has installed.
pub fn script(name: &str) -> Command {
    let mut node = Command::new("node");
    node.env(
        "NODE_PATH",
        repository().join("target/tools/peers/node_modules"),
    )
    .arg(repository().join("benches/peers").join(name));
    node
}

/// @tus/server, with the store that comes with it. Killed when dropped.
pub struct TusServer {
    _process: Process,
    pub port: u16,
}

impl TusServer {
    pub fn start(directory: &Path) -> Self {
        let (directory, port) = (directory.join("tus"), free_port());
        fs::create_dir_all(&directory).unwrap();
        let mut command = script("tus_server.cjs");
        let process = Process::spawn(command.arg(port.to_string()).arg(directory));
        let began = std::time::Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                began.elapsed() < PATIENCE,
                "@tus/server does not listen: {:?}",
                process.lines()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Self {
            _process: process,
            port,
        }
    }
}
