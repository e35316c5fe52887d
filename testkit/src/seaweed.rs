//! A store that speaks S3: SeaweedFS, with master, volumes, filer and gateway in one process.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
};

use serde_json::{Value, json};

use crate::{eventually, free_port, process::Process, tool};

/// Keys of a user of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    /// Which user.
    pub access: String,
    /// The secret key of the user.
    pub secret: String,
}

impl Keys {
    /// Keys of that name, the same each time.
    pub fn of(name: &str) -> Self {
        Self {
            access: format!("{name}-access-key"),
            secret: format!("{name}-secret-key-of-some-length"),
        }
    }
}

/// A store on the loopback interface. Buckets are made by the first write to them. Killed when dropped.
pub struct Seaweed {
    process: Process,
    directory: tempfile::TempDir,
    /// Where it speaks S3.
    pub port: u16,
    ports: Vec<u16>,
}

impl Seaweed {
    /// One that takes these keys.
    pub async fn start(users: &[Keys]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ports: Vec<u16> = (0..8).map(|_| free_port()).collect();
        let store = Self {
            process: launch(directory.path(), &ports, users),
            directory,
            port: ports[0],
            ports,
        };
        store.until_it_writes().await;
        store
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Starts it again with its data, for these users only.
    pub async fn restart(&mut self, users: &[Keys]) {
        self.process.kill();
        self.process = launch(self.directory.path(), &self.ports, users);
        self.until_it_writes().await;
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Names and sizes of what is below `folder` of a bucket, past S3.
    pub fn list(&self, bucket: &str, folder: &str) -> Vec<(String, u64)> {
        let mut found = Vec::new();
        let mut left = vec![format!("/buckets/{bucket}/{folder}")];
        while let Some(place) = left.pop() {
            let listed = self.filer("GET", &format!("{place}/?limit=10000"));
            for entry in listed["Entries"].as_array().into_iter().flatten() {
                let path = entry["FullPath"].as_str().unwrap().to_owned();
                let mode = entry["Mode"].as_u64().unwrap_or_default();
                // As Go has it: the highest bit is that of a directory.
                match mode & (1 << 31) {
                    0 => found.push((path, entry["FileSize"].as_u64().unwrap_or_default())),
                    _ => left.push(path),
                }
            }
        }
        found
    }

    /// Deletes something of a bucket, past S3.
    pub fn delete(&self, path: &str) {
        self.filer("DELETE", path);
    }

    /// Asks the filer, without a runtime.
    fn filer(&self, method: &str, path: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.ports[1])).unwrap();
        let request = format!(
            "{method} {path} HTTP/1.0\r\nhost: localhost\r\naccept: application/json\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let body = answer.split_once("\r\n\r\n").map_or("", |it| it.1);
        serde_json::from_str(body).unwrap_or_default()
    }

    async fn until_it_writes(&self) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let place = format!("http://127.0.0.1:{}/test/started", self.ports[1]);
        eventually("the store to write", || async {
            let written = client.put(&place).body("yes").send().await.ok()?;
            let gateway = client.get(self.endpoint()).send().await.ok()?;
            (written.status().is_success() && gateway.status() == 403).then_some(())
        })
        .await;
    }
}

fn launch(directory: &Path, ports: &[u16], users: &[Keys]) -> Process {
    let identities: Vec<Value> = users
        .iter()
        .map(|keys| {
            json!({
                "name": keys.access,
                "credentials": [{ "accessKey": keys.access, "secretKey": keys.secret }],
                "actions": ["Admin", "Read", "Write", "List", "Tagging"],
            })
        })
        .collect();
    let config = directory.join("identities.json");
    fs::write(&config, json!({ "identities": identities }).to_string()).unwrap();
    let data = directory.join("data");
    fs::create_dir_all(&data).unwrap();
    // Also where a test that shares one ends without dropping it.
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL", "--"])
        .arg(tool("weed"))
        .arg("server")
        .args(["-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-filer", "-s3"])
        .args([
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=128",
            "-volume.max=0",
        ])
        .args(["-s3.port.iceberg=0", "-s3.port.lance=0"])
        .arg(format!("-dir={}", data.display()))
        .arg(format!("-s3.config={}", config.display()))
        .arg(format!(
            "-filer.localSocket={}",
            directory.join("filer").display()
        ))
        .arg(format!(
            "-s3.localSocket={}",
            directory.join("s3").display()
        ))
        .env("HOME", directory)
        .current_dir(directory);
    let names = [
        "s3.port",
        "filer.port",
        "master.port",
        "volume.port",
        "s3.port.grpc",
        "filer.port.grpc",
        "master.port.grpc",
        "volume.port.grpc",
    ];
    for (name, port) in names.into_iter().zip(ports) {
        command.arg(format!("-{name}={port}"));
    }
    Process::spawn(&mut command)
}
