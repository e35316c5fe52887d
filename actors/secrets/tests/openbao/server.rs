//! A real OpenBao server for one test: on a free port, gone with the test.

use std::{
    error::Error,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

pub(crate) type Outcome<T = ()> = Result<T, Box<dyn Error>>;

pub(crate) const ROOT: &str = "root-token-of-this-test";
/// One unseal key makes a server easy to unseal in a test.
const START_LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct OpenBao {
    process: Child,
    pub(crate) address: String,
    pub(crate) directory: Scratch,
}

impl OpenBao {
    /// A dev server: unsealed, in memory, KV v2 at `secret`.
    pub(crate) fn start() -> Outcome<Self> {
        let address = free_address();
        let listen = format!("-dev-listen-address={address}");
        let token = format!("-dev-root-token-id={ROOT}");
        Self::spawn(
            format!("http://{address}"),
            &["-dev", &listen, &token, "-dev-no-store-token"],
        )
    }

    /// A dev server with a TLS listener; the CA's certificate is then at [`Self::ca`].
    pub(crate) fn start_with_tls() -> Outcome<Self> {
        let address = free_address();
        let listen = format!("-dev-listen-address={address}");
        let token = format!("-dev-root-token-id={ROOT}");
        Self::spawn(
            format!("https://{address}"),
            &[
                "-dev-tls",
                "-dev-tls-cert-dir=.",
                &listen,
                &token,
                "-dev-no-store-token",
            ],
        )
    }

    /// A server that is not initialised.
    pub(crate) fn start_uninitialised() -> Outcome<Self> {
        let address = free_address();
        let directory = Scratch::new()?;
        let config = directory.0.join("server.hcl");
        fs::write(
            &config,
            format!(
                "storage \"inmem\" {{}}\nlistener \"tcp\" {{\n address = \"{address}\"\n tls_disable = true\n}}\n"
            ),
        )?;
        Self::spawn(
            format!("http://{address}"),
            &[&format!("-config={}", config.display())],
        )
    }

    fn spawn(address: String, arguments: &[&str]) -> Outcome<Self> {
        let directory = Scratch::new()?;
        let mut process = Command::new(bao()?)
            .arg("server")
            .args(arguments)
            .current_dir(&directory.0)
            .env_clear()
            .env("HOME", &directory.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let output = process.stdout.take().ok_or("no output of the server")?;
        let server = Self {
            process,
            address,
            directory,
        };
        // Read to its end, or the server blocks on a full pipe.
        let (started, has_started) = std::sync::mpsc::channel();
        thread::Builder::new()
            .name("openbao-output".to_owned())
            .spawn(move || {
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if line.contains("server started!") {
                        started.send(()).unwrap_or_default();
                    }
                }
            })?;
        has_started
            .recv_timeout(START_LIMIT)
            .map_err(|_| "the server did not start")?;
        if server.address.starts_with("https") || arguments.contains(&"-dev") {
            until(|| {
                server.bao(&["kv", "list", "secret"]).is_ok()
                    || server.bao(&["secrets", "list"]).is_ok()
            })?;
        }
        Ok(server)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.directory.0.join("vault-ca.pem")
    }

    /// Runs the command line client as root; answers what it printed.
    pub(crate) fn bao(&self, arguments: &[&str]) -> Outcome<String> {
        let done = Command::new(bao()?)
            .args(arguments)
            .env_clear()
            .env("HOME", &self.directory.0)
            .env("BAO_ADDR", &self.address)
            .env("BAO_TOKEN", ROOT)
            .env(
                "BAO_CACERT",
                if self.ca().exists() {
                    self.ca()
                } else {
                    PathBuf::new()
                },
            )
            .stdin(Stdio::null())
            .output()?;
        match done.status.success() {
            true => Ok(String::from_utf8(done.stdout)?.trim().to_owned()),
            false => Err(format!(
                "bao {arguments:?}: {}",
                String::from_utf8_lossy(&done.stderr)
            )
            .into()),
        }
    }

    /// A policy called `name` with these rules.
    pub(crate) fn policy(&self, name: &str, rules: &str) -> Outcome {
        let file = self.directory.0.join(format!("{name}.hcl"));
        fs::write(&file, rules)?;
        self.bao(&["policy", "write", name, &file.display().to_string()])
            .map(drop)
    }

    /// Ends the server, as a crash would.
    pub(crate) fn kill(&mut self) -> Outcome {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for OpenBao {
    fn drop(&mut self) {
        drop(self.kill());
    }
}

/// A directory that goes with its owner.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new() -> Outcome<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "dotmac-openbao-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Asks again until it is so, or fails.
pub(crate) fn until(mut condition: impl FnMut() -> bool) -> Outcome {
    let deadline = Instant::now() + START_LIMIT;
    while !condition() {
        if Instant::now() > deadline {
            return Err("it did not come about in time".into());
        }
        #[expect(
            clippy::disallowed_methods,
            reason = "nothing else runs on the thread of a test that waits for its server"
        )]
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn free_address() -> String {
    format!("127.0.0.1:{}", dotmac_testkit::free_port())
}

/// The server's binary, which `tests/setup` installs.
fn bao() -> Outcome<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let tools = std::env::var_os("DOTMAC_TEST_TOOLS")
        .map_or_else(|| workspace.join("target/tools/bin"), PathBuf::from);
    let binary = tools.join("bao");
    match binary.exists() {
        true => Ok(binary),
        false => Err(format!("no OpenBao at {}: run tests/setup", binary.display()).into()),
    }
}
