//! A store that speaks S3 as users of Python test against it: moto. It keeps everything in memory, and checks no signature.

use std::process::Command;

use crate::{eventually, free_port, process::Process, tool};

/// A moto on the loopback interface, with one bucket. Killed when dropped.
pub struct Moto {
    _process: Process,
    /// Where it speaks S3.
    pub port: u16,
}

impl Moto {
    /// One with that bucket.
    pub async fn start(bucket: &str) -> Self {
        let port = free_port();
        let mut command = Command::new(tool("moto_server"));
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]);
        let moto = Self {
            _process: Process::spawn(&mut command),
            port,
        };
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let place = format!("{}/{bucket}", moto.endpoint());
        eventually("moto to have a bucket", || async {
            let made = client.put(&place).send().await.ok()?;
            made.status().is_success().then_some(())
        })
        .await;
        moto
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }
}
