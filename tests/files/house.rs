//! Daemons on one database and one store, with an administrator.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use dotmac_testkit::{
    Daemon, Postgres, Seaweed, daemon::Builder, eventually, process::Process, seaweed::Keys,
};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};
use tokio::sync::{OnceCell, oneshot};
use uuid::Uuid;

pub(crate) use crate::answer::Answer;

const ADMIN: &str = "admin@example.com";
const PASSWORD: &str = "seven green boxes in a row";
/// 32 bytes, the same for all instances.
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const SECRET_KEY: &str = "a-secret-of-at-least-32-characters-for-tests";

pub(crate) type Settings<'s> = &'s [(&'static str, &'s str)];

/// Instances of the daemon.
pub(crate) struct House {
    pub(crate) instances: Vec<Daemon>,
    pub(crate) postgres: Option<Postgres>,
    url: String,
    settings: Vec<(&'static str, String)>,
    directory: tempfile::TempDir,
    /// Where the bytes are that are in no directory.
    bucket: Option<(&'static Seaweed, String)>,
    /// The administrator's.
    pub(crate) token: String,
}

/// The store that tests share, each with its own bucket. It ends with the process.
async fn shared_store() -> &'static Seaweed {
    static STORE: OnceCell<Seaweed> = OnceCell::const_new();
    let start = async || {
        let (send, receive) = oneshot::channel();
        // The store ends with the thread that starts it.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let store = runtime.block_on(Seaweed::start(&[shared_keys()]));
            send.send(store).ok();
            loop {
                std::thread::park();
            }
        });
        receive.await.unwrap()
    };
    STORE.get_or_init(start).await
}

fn shared_keys() -> Keys {
    Keys::of("shared")
}

impl House {
    pub(crate) async fn on_sqlite(instances: usize, settings: Settings<'_>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite:{}", directory.path().join("house.db").display());
        Self::open(url, None, directory, instances, settings).await
    }

    pub(crate) async fn on_postgres(instances: usize, settings: Settings<'_>) -> Self {
        let (postgres, directory) = (Postgres::start().await, tempfile::tempdir().unwrap());
        let url = postgres.url();
        Self::open(url, Some(postgres), directory, instances, settings).await
    }

    /// A house on each back end.
    pub(crate) async fn on_both(settings: Settings<'_>, test: impl AsyncFn(Self)) {
        test(Self::on_sqlite(1, settings).await).await;
        test(Self::on_postgres(1, settings).await).await;
    }

    /// The same, and one whose bytes are in a store that speaks S3.
    pub(crate) async fn on_every(settings: Settings<'_>, test: impl AsyncFn(Self)) {
        Self::on_both(settings, &test).await;
        let (store, bucket) = (shared_store().await, format!("bucket-{}", Uuid::now_v7()));
        let mut house = Self::on_s3(&store.endpoint(), &shared_keys(), &bucket, settings).await;
        house.bucket = Some((store, bucket));
        test(house).await;
    }

    /// With the bytes in a bucket.
    pub(crate) async fn on_s3(
        endpoint: &str,
        keys: &Keys,
        bucket: &str,
        settings: Settings<'_>,
    ) -> Self {
        let keys = [
            ("DOTMAC_FILES_ACCESS_KEY", keys.access.as_str()),
            ("DOTMAC_FILES_SECRET_KEY", keys.secret.as_str()),
        ];
        Self::on_s3_by_vault(endpoint, bucket, &[settings, &keys].concat()).await
    }

    /// The same, with keys that are among the settings or in Vault.
    pub(crate) async fn on_s3_by_vault(
        endpoint: &str,
        bucket: &str,
        settings: Settings<'_>,
    ) -> Self {
        let store = [
            ("DOTMAC_FILES_PROVIDER", "s3"),
            ("DOTMAC_FILES_ENDPOINT", endpoint),
            ("DOTMAC_FILES_BUCKET", bucket),
        ];
        Self::on_sqlite(1, &[settings, &store].concat()).await
    }

    async fn open(
        url: String,
        postgres: Option<Postgres>,
        directory: tempfile::TempDir,
        instances: usize,
        settings: Settings<'_>,
    ) -> Self {
        let settings = settings
            .iter()
            .map(|(key, value)| (*key, (*value).to_owned()));
        let mut house = Self {
            instances: Vec::new(),
            postgres,
            url,
            settings: settings.collect(),
            directory,
            bucket: None,
            token: String::new(),
        };
        for _ in 0..instances {
            house.add_instance().await;
        }
        let made = house
            .command(&["user", "create-admin", "--email", ADMIN, "--json"])
            .await;
        let line = made
            .lines()
            .find(|line| line.contains("\"token\""))
            .unwrap();
        let made: Value = serde_json::from_str(line).unwrap();
        let reset = json!({ "token": made["token"], "password": PASSWORD });
        // A machine that is busy otherwise takes its time.
        eventually("the password to be set", || async {
            let reset = house.post("/auth/password/reset", reset.clone()).await;
            (reset.status != 503).then(|| assert_eq!(reset.status, 204, "{reset:?}"))
        })
        .await;
        house.token = house.login(ADMIN).await;
        house
    }

    pub(crate) async fn add_instance(&mut self) {
        let daemon = self.builder().spawn().await;
        daemon.until("/ready", 200).await;
        self.instances.push(daemon);
    }

    /// Has instances and commands that are started from now on have another setting.
    pub(crate) fn set(&mut self, key: &'static str, value: &str) {
        self.settings.retain(|(known, _)| *known != key);
        self.settings.push((key, value.to_owned()));
    }

    fn builder(&self) -> Builder {
        let builder = Daemon::builder()
            .env("DOTMAC_DATABASE_URL", &self.url)
            .env("DOTMAC_FILES_PATH", self.store().display())
            .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
            .env("DOTMAC_APP_SECRET_KEY", SECRET_KEY)
            .env("DOTMAC_SUPERVISION_START_TIMEOUT", "30s");
        let settings = self.settings.iter();
        settings.fold(builder, |builder, (key, value)| builder.env(key, value))
    }

    /// The directory of the bytes.
    pub(crate) fn store(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Files below the directory of the bytes, or in their bucket, of any name.
    pub(crate) fn stored(&self) -> Vec<PathBuf> {
        if let Some((store, bucket)) = &self.bucket {
            let listed = store.list(bucket, "blobs").into_iter();
            return listed.map(|(name, _)| PathBuf::from(name)).collect();
        }
        let mut found = Vec::new();
        let mut left = vec![self.store().join("blobs")];
        while let Some(directory) = left.pop() {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                if entry.path().is_dir() {
                    left.push(entry.path());
                } else {
                    found.push(entry.path());
                }
            }
        }
        found
    }

    /// Exit code and output of a command.
    pub(crate) async fn run(&self, arguments: &[&str]) -> (i32, String) {
        let ended = eventually("the command to reach the database", || async {
            let ended = self.builder().run_in(self.path(), arguments).await;
            (ended.code != 69).then_some(ended)
        })
        .await;
        let lines = ended
            .lines
            .iter()
            .filter(|line| !line.starts_with("{\"timestamp"));
        let lines: Vec<&str> = lines.map(String::as_str).collect();
        (ended.code, lines.join("\n"))
    }

    /// Starts a command, to be killed.
    pub(crate) fn start(&self, arguments: &[&str]) -> Process {
        self.builder().start_in(self.path(), arguments)
    }

    async fn command(&self, arguments: &[&str]) -> String {
        let (code, output) = self.run(arguments).await;
        assert_eq!(code, 0, "{arguments:?}: {output}");
        output
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// `files check` must find nothing, in so many blobs.
    pub(crate) async fn assert_clean(&self, blobs: usize) {
        let (code, output) = self.run(&["files", "check"]).await;
        assert_eq!(code, 0, "{output}");
        assert!(output.starts_with(&format!("{blobs} blobs\n")), "{output}");
        assert_eq!(self.stored().len(), blobs, "{:?}", self.stored());
    }

    pub(crate) async fn login(&self, identifier: &str) -> String {
        let login = json!({ "identifier": identifier, "password": PASSWORD, "mode": "token" });
        let session = self.post("/auth/login", login).await;
        assert_eq!(session.status, 200, "{session:?}");
        session.text("access_token").to_owned()
    }

    /// A user with these permissions, signed in.
    pub(crate) async fn user(&self, email: &str, permissions: &[&str]) -> String {
        let role = json!({ "name": email.split('@').next(), "permissions": permissions });
        let role = self.post("/roles", role).await;
        assert_eq!(role.status, 201, "{role:?}");
        let new = json!({ "email": email, "password": PASSWORD, "roles": [role.text("name")] });
        let made = self.post("/users", new).await;
        assert_eq!(made.status, 201, "{made:?}");
        self.login(email).await
    }

    /// The administrator as owner of another tenant.
    pub(crate) async fn other_tenant(&self) -> String {
        let tenant = self
            .post("/tenants", json!({ "slug": "acme", "name": "Acme" }))
            .await;
        assert_eq!(tenant.status, 201, "{tenant:?}");
        let session = self.login(ADMIN).await;
        let switch = json!({ "tenant_id": tenant.text("id") });
        let switch = self
            .request(0, Method::POST, "/auth/switch-tenant")
            .json(&switch);
        let session = Answer::of(switch.bearer_auth(session).send().await.unwrap()).await;
        session.text("access_token").to_owned()
    }

    /// A request without credentials.
    pub(crate) fn request(&self, instance: usize, method: Method, path: &str) -> RequestBuilder {
        let daemon = &self.instances[instance];
        daemon
            .client
            .request(method, format!("{}/api/v1{path}", daemon.base))
    }

    /// Sends a request of the administrator, unless it has credentials.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let request = match self.token.as_str() {
            "" => request,
            token => request.bearer_auth(token),
        };
        Answer::of(request.send().await.unwrap()).await
    }

    /// The same to an instance that may be killed meanwhile: nothing then.
    pub(crate) async fn attempt(&self, request: RequestBuilder) -> Option<Answer> {
        let response = request.bearer_auth(&self.token).send().await.ok()?;
        Some(Answer::of(response).await)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(0, Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request(0, Method::POST, path).json(&body))
            .await
    }

    pub(crate) async fn patch(&self, path: &str, tag: &str, body: Value) -> Answer {
        let request = self.request(0, Method::PATCH, path).header("if-match", tag);
        self.send(request.json(&body)).await
    }

    pub(crate) async fn delete(&self, path: &str, tag: &str) -> Answer {
        self.send(
            self.request(0, Method::DELETE, path)
                .header("if-match", tag),
        )
        .await
    }

    /// Uploads to the first instance.
    pub(crate) async fn put(&self, query: &str, bytes: impl Into<reqwest::Body>) -> Answer {
        let request = self.request(0, Method::PUT, &format!("/files/content?{query}"));
        self.send(request.body(bytes)).await
    }

    /// Uploads a file, which must be taken.
    pub(crate) async fn file(&self, query: &str, bytes: impl Into<reqwest::Body>) -> Answer {
        let made = self.put(query, bytes).await;
        assert_eq!(made.status, 201, "{made:?}");
        made
    }

    /// Deletes the smallest of what is stored, past the program.
    pub(crate) fn lose_smallest(&self) {
        if let Some((store, bucket)) = &self.bucket {
            let listed = store.list(bucket, "blobs");
            let smallest = listed.iter().min_by_key(|(_, size)| *size).unwrap();
            return store.delete(&smallest.0);
        }
        let stored = self.stored();
        let size = |it: &&PathBuf| std::fs::metadata(it).unwrap().len();
        std::fs::remove_file(stored.iter().min_by_key(size).unwrap()).unwrap();
    }

    /// The tenant's usage: bytes, reserved bytes, files.
    pub(crate) async fn usage(&self) -> (i64, i64, i64) {
        let usage = self.get("/files/usage").await;
        let tenant = &usage.body["tenant"];
        let number = |field: &str| tenant[field].as_i64().unwrap();
        (number("used"), number("reserved"), number("files"))
    }

    /// Waits until the tenant uses that.
    pub(crate) async fn until_usage(&self, expected: (i64, i64, i64)) {
        eventually(&format!("usage to be {expected:?}"), || async {
            (self.usage().await == expected).then_some(())
        })
        .await;
    }

    /// Runs statements on the database, past the program.
    pub(crate) async fn sql(&self, statements: &str) {
        match &self.postgres {
            Some(postgres) => drop(postgres.query(statements).await),
            None => dotmac_testkit::sqlite::execute(&self.path().join("house.db"), statements),
        }
    }
}

/// Bytes that no algorithm makes smaller, the same for each seed.
pub(crate) fn noise(seed: u64, size: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut bytes = vec![0; size];
    random.fill(&mut bytes);
    // No text, and of no known kind.
    bytes[..4.min(size)].fill(0);
    bytes
}

/// In hexadecimal digits.
pub(crate) fn sha256(bytes: &[u8]) -> String {
    let hash = digest::digest(&digest::SHA256, bytes);
    hash.as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
