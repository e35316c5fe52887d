//! A server of Redis, of a test's own.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use super::{eventually, free_port, process::Process, tool};

const PASSWORD: &str = "correct-horse";

/// A running server that asks for a password, and keeps what was acknowledged over restarts.
pub struct Redis {
    process: Process,
    directory: tempfile::TempDir,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

impl Redis {
    /// An empty one.
    pub async fn start() -> Self {
        let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
        let settings = format!(
            "bind 127.0.0.1\nport {port}\ndir {}\nrequirepass {PASSWORD}\nsave \"\"\nappendonly yes\nappendfsync always\n",
            directory.path().display()
        );
        fs::write(directory.path().join("redis.conf"), settings).unwrap();
        let server = Self {
            process: launch(directory.path()),
            directory,
            port,
        };
        server.answers().await;
        server
    }

    /// The URL of it, with its password.
    pub fn url(&self) -> String {
        format!("redis://:{PASSWORD}@127.0.0.1:{}", self.port)
    }

    /// What it answers to one command: `redis.command(&["GET", "key"])`.
    pub fn command(&self, words: &[&str]) -> String {
        let answered = Command::new(tool("redis-cli"))
            .args(["-p", &self.port.to_string()])
            .args(words)
            .env("REDISCLI_AUTH", PASSWORD)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        String::from_utf8(answered.stdout)
            .unwrap()
            .trim_end()
            .to_owned()
    }

    /// Kills it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it if it runs, and starts it again on what it has kept.
    pub async fn restart(&mut self) {
        self.process.kill();
        self.process = launch(self.directory.path());
        self.answers().await;
    }

    /// Stops it where it is, connections open.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    async fn answers(&self) {
        eventually("redis-server", || async {
            (self.command(&["PING"]) == "PONG").then_some(())
        })
        .await;
    }
}

fn launch(directory: &Path) -> Process {
    // The program looks at the name that it is started by: the same file checks dumps.
    let mut command = Command::new(tool("redis-server"));
    command
        .arg0("redis-server")
        .arg(directory.join("redis.conf"));
    Process::spawn(&mut command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_acknowledged_is_there_after_a_kill() {
        let mut redis = Redis::start().await;
        assert_eq!(redis.command(&["SET", "key", "value"]), "OK");
        redis.kill();
        assert_eq!(redis.command(&["GET", "key"]), "");
        redis.restart().await;
        assert_eq!(redis.command(&["GET", "key"]), "value");
        redis.freeze();
        redis.thaw();
        assert_eq!(redis.command(&["DEL", "key"]), "1");
    }
}
