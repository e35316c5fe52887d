//! A PostgreSQL server of a test's own.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use super::{
    eventually, free_port, kept_directory,
    process::{Process, give_away, unprivileged},
    tool,
};

/// A running server with one user `dotmac`, password `correct horse`, and a database of the same name.
pub struct Postgres {
    process: Process,
    directory: tempfile::TempDir,
    max_connections: u16,
    /// Where it listens, on the loopback interface.
    pub port: u16,
}

/// The password of user `dotmac`. It has a space, so that URLs must encode it.
pub const PASSWORD: &str = "correct horse";

impl Postgres {
    /// A server that takes 50 connections, once it accepts them.
    pub async fn start() -> Self {
        Self::with_connections(50).await
    }

    /// One that takes no more than that many connections, three of which are kept for the superuser.
    pub async fn with_connections(max_connections: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        give_away(directory.path());
        let data = directory.path().join("data");
        run(Command::new("cp").arg("-a").arg(template()).arg(&data));
        let port = free_port();
        let server = Self {
            process: launch(&data, port, max_connections),
            directory,
            max_connections,
            port,
        };
        server.accepts().await;
        server
    }

    /// The URL for user `dotmac`, as `DOTMAC_DATABASE_URL` wants it.
    pub fn url(&self) -> String {
        format!(
            "postgres://dotmac:{}@127.0.0.1:{}/dotmac",
            PASSWORD.replace(' ', "%20"),
            self.port
        )
    }

    /// Runs one statement as the superuser; the answer as text.
    pub async fn query(&self, sql: &str) -> String {
        self.try_query(sql).await.unwrap()
    }

    /// All rows of all tables, as text.
    pub async fn dump(&self) -> String {
        let tables = "SELECT string_agg(quote_ident(tablename), ',') FROM pg_tables WHERE schemaname = 'public'";
        let mut dump = String::new();
        for table in self.query(tables).await.split(',') {
            let rows = format!("SELECT string_agg(t::text, E'\\n') FROM {table} t");
            dump += &self.query(&rows).await;
        }
        dump
    }

    async fn try_query(&self, sql: &str) -> Result<String, tokio_postgres::Error> {
        let url = format!(
            "postgres://postgres:postgres@127.0.0.1:{}/dotmac?connect_timeout=2",
            self.port
        );
        let (client, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await?;
        let driver = tokio::spawn(connection);
        let answer = client.simple_query(sql).await?;
        driver.abort();
        let first = answer.into_iter().find_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
            _ => None,
        });
        Ok(first.unwrap_or_default())
    }

    /// Another server that follows this one, which acknowledges nothing any more that the other does not have. It takes writes
    /// once it is [promoted](Self::promote).
    pub async fn standby(&self) -> Self {
        let directory = tempfile::tempdir().unwrap();
        give_away(directory.path());
        let data = directory.path().join("data");
        let mut copy = unprivileged(&tool("postgres").with_file_name("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--write-recovery-conf", "--no-sync"])
            .arg(format!("--pgdata={}", data.display()))
            .arg(format!(
                "--dbname=postgres://postgres:postgres@127.0.0.1:{}",
                self.port
            ));
        run(&mut copy);
        let port = free_port();
        let standby = Self {
            process: launch(&data, port, self.max_connections),
            directory,
            max_connections: self.max_connections,
            port,
        };
        standby.accepts().await;
        self.query("ALTER SYSTEM SET synchronous_standby_names = '*'")
            .await;
        self.query("SELECT pg_reload_conf()").await;
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        eventually("the standby to follow", || async {
            (self.query(follows).await == "1").then_some(())
        })
        .await;
        standby
    }

    /// Has a [standby](Self::standby) take writes.
    pub async fn promote(&self) {
        assert_eq!(self.query("SELECT pg_promote()").await, "t");
    }

    /// Serves TLS with this certificate from now on, in addition to plain connections.
    pub async fn use_tls(&self, certificate: &Path, key: &Path) {
        let data = self.directory.path().join("data");
        for (from, to) in [(certificate, "server.crt"), (key, "server.key")] {
            std::fs::copy(from, data.join(to)).unwrap();
            give_away(&data.join(to));
        }
        run(Command::new("chmod")
            .arg("600")
            .arg(data.join("server.key")));
        self.query("ALTER SYSTEM SET ssl = on").await;
        self.query("SELECT pg_reload_conf()").await;
        eventually("PostgreSQL to offer TLS", || async {
            (self.query("SHOW ssl").await == "on").then_some(())
        })
        .await;
    }

    /// Lets user `dotmac` in only with a certificate that this authority has signed.
    pub async fn demand_client_certificate(&self, authority: &Path) {
        let data = self.directory.path().join("data");
        std::fs::copy(authority, data.join("clients.crt")).unwrap();
        give_away(&data.join("clients.crt"));
        let rules = "hostssl all dotmac all scram-sha-256 clientcert=verify-ca\n\
                     host all postgres all scram-sha-256\n";
        std::fs::write(data.join("pg_hba.conf"), rules).unwrap();
        self.query("ALTER SYSTEM SET ssl_ca_file = 'clients.crt'")
            .await;
        self.query("SELECT pg_reload_conf()").await;
    }

    /// Lets the server have a file or directory.
    pub fn own(&self, path: &Path) {
        give_away(path);
    }

    async fn accepts(&self) {
        eventually("PostgreSQL to accept connections", || async {
            self.try_query("SELECT 1").await.ok()
        })
        .await;
    }

    /// Kills the server and all of its processes at once.
    pub async fn kill(&mut self) {
        // The postmaster goes without a word; its children notice and follow.
        self.process.kill();
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    /// Starts it again on the same data and port.
    pub async fn restart(&mut self) {
        let data = self.directory.path().join("data");
        self.process = launch(&data, self.port, self.max_connections);
        self.accepts().await;
    }

    /// Stops every process of the server in its tracks.
    pub fn freeze(&self) {
        self.each_process("STOP");
    }

    /// Lets a frozen server run on.
    pub fn thaw(&self) {
        self.each_process("CONT");
    }

    /// The server itself first: stopped, it makes no further process that the list would lack.
    fn each_process(&self, name: &str) {
        self.process.signal(name);
        let children = Command::new("pgrep")
            .args(["-P", &self.process.pid().to_string()])
            .output()
            .unwrap();
        for pid in String::from_utf8_lossy(&children.stdout).split_whitespace() {
            // One that has just ended needs no signal.
            Command::new("kill")
                .args([format!("-{name}").as_str(), pid])
                .stderr(Stdio::null())
                .status()
                .ok();
        }
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.process.try_exit().is_some() {
            return;
        }
        // Thawed and asked first, so that no child process and no shared memory is left.
        self.thaw();
        Command::new("kill")
            .args(["-INT", &self.process.pid().to_string()])
            .status()
            .ok();
        for _ in 0..200 {
            if self.process.try_exit().is_some() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// A freshly initialised data directory, made once for a target directory and copied by each server.
fn template() -> &'static Path {
    static TEMPLATE: OnceLock<PathBuf> = OnceLock::new();
    TEMPLATE.get_or_init(|| {
        let version = Command::new(tool("initdb"))
            .arg("--version")
            .output()
            .unwrap()
            .stdout;
        let version = String::from_utf8_lossy(&version).trim().replace(' ', "-");
        let kept = kept_directory().join(format!("{version}-wal-1"));
        if !kept.exists() {
            // Made where user postgres may go, moved at the end: half a template is never found.
            let directory = tempfile::tempdir().unwrap();
            let half = kept.with_extension(std::process::id().to_string());
            run(Command::new("cp")
                .arg("-a")
                .arg(initialise(directory.path()))
                .arg(&half));
            std::fs::rename(half, &kept).unwrap();
        }
        kept
    })
}

/// Makes a data directory with our user and database in it; the server that did it has stopped.
fn initialise(directory: &Path) -> PathBuf {
    give_away(directory);
    let data = directory.join("data");
    let mut initdb = unprivileged(&tool("initdb"));
    initdb.args([
        "--auth=scram-sha-256",
        "--username=postgres",
        "--no-sync",
        "--wal-segsize=1", // each server copies its directory: 16 MiB less
        "--pwfile",
    ]);
    run(initdb.arg(password_file(directory)).arg(&data));
    let port = free_port();
    let mut server = launch(&data, port, 10);
    let psql = |database: &str, sql: &str| {
        let url = format!("postgres://postgres:postgres@127.0.0.1:{port}/{database}");
        Command::new(tool("psql"))
            .args([&url, "-qc", sql])
            .output()
            .unwrap()
            .status
            .success()
    };
    let ready = (0..500).any(|_| {
        std::thread::sleep(Duration::from_millis(20));
        psql("postgres", "SELECT 1")
    });
    assert!(ready, "no PostgreSQL: {:#?}", server.lines());
    assert!(psql(
        "postgres",
        &format!("CREATE ROLE dotmac LOGIN PASSWORD '{PASSWORD}'")
    ));
    assert!(psql("postgres", "CREATE DATABASE dotmac OWNER dotmac"));
    server.signal("INT");
    while server.try_exit().is_none() {
        std::thread::sleep(Duration::from_millis(10));
    }
    data
}

fn password_file(directory: &Path) -> PathBuf {
    let file = directory.join("password");
    std::fs::write(&file, "postgres").unwrap();
    give_away(&file);
    file
}

fn launch(data: &Path, port: u16, max_connections: u16) -> Process {
    let mut server = unprivileged(&tool("postgres"));
    server
        .arg("-D")
        .arg(data)
        .args(["-p", &port.to_string(), "-c", "listen_addresses=127.0.0.1"]);
    // Small and quick; durability settings stay as they are, since tests kill it.
    server.args([
        "-c",
        "unix_socket_directories=",
        "-c",
        "shared_buffers=16MB",
        "-c",
        "dynamic_shared_memory_type=mmap", // a killed server leaves nothing outside of its directory
        "-c",
        &format!("max_connections={max_connections}"),
    ]);
    Process::spawn(&mut server)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
}
