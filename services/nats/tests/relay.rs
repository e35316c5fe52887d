//! Events reach a real nats-server, once each and in order, under faults of both.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use async_nats::{
    ConnectOptions,
    jetstream::{
        self,
        consumer::{AckPolicy, DeliverPolicy, pull},
        stream::{Config, StorageType},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use dotmac_testkit::{Daemon, Nats, Postgres, daemon::Builder, eventually, tls::certificates};
use futures_util::StreamExt as _;
use nkeys::KeyPair;
use serde_json::{Value, json};

const STREAM: &str = "DOTMAC_EVENTS";
const TENANT: &str = "00000000-0000-0000-0000-000000000001";
const RELAY: &str = "nats.relay";

/// A message of the stream: subject, id, body.
type Message = (String, String, Value);

async fn context(server: &Nats) -> jetstream::Context {
    let client = eventually("a connection", || async {
        async_nats::connect(server.url()).await.ok()
    });
    jetstream::new(client.await)
}

async fn make_stream(server: &Nats, storage: StorageType) {
    let config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["dotmac.events.>".to_owned()],
        storage,
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    };
    // JetStream may still be starting.
    eventually("the stream", || async {
        let context = context(server).await;
        context.create_stream(config.clone()).await.ok()
    })
    .await;
}

/// All messages that are kept.
async fn messages(server: &Nats) -> Option<Vec<Message>> {
    let stream = context(server).await.get_stream(STREAM).await.ok()?;
    let count = usize::try_from(stream.cached_info().state.messages).unwrap();
    let consumer = stream.create_consumer(pull::Config {
        deliver_policy: DeliverPolicy::All,
        ack_policy: AckPolicy::None,
        ..Default::default()
    });
    let found = consumer.await.ok()?.messages().await.ok()?;
    let found: Vec<_> = found.take(count).collect().await;
    let mut read = Vec::new();
    for message in found {
        let message = message.ok()?;
        let headers = message.headers.clone().unwrap();
        let id = headers.get("Nats-Msg-Id").unwrap().to_string();
        let body = serde_json::from_slice(&message.payload).unwrap();
        read.push((message.subject.to_string(), id, body));
    }
    Some(read)
}

async fn until_kept(server: &Nats, count: usize) -> Vec<Message> {
    eventually(&format!("{count} messages"), || async {
        let found = messages(server).await?;
        (found.len() >= count).then_some(found)
    })
    .await
}

/// Fails unless the stream has these ticks, once each and in order.
async fn assert_kept(server: &Nats, count: usize) {
    let found = until_kept(server, count).await;
    assert_eq!(found.len(), count);
    for (number, (subject, id, body)) in found.iter().enumerate() {
        assert_eq!(*subject, format!("dotmac.events.{TENANT}.clock.ticked.v1"));
        assert_eq!(body["data"]["number"], Value::from(number), "{body}");
        assert_eq!(body["type"], "clock.ticked.v1");
        assert_eq!(body["id"], Value::from(id.as_str()));
    }
}

async fn tick(daemon: &Daemon, numbers: std::ops::Range<i64>) {
    for number in numbers {
        let url = format!("{}/api/v1/ticks/{number}", daemon.base);
        let answer = daemon.client.post(url).send().await.unwrap();
        assert_eq!(answer.status(), 204);
    }
}

fn relayed(server: &Nats, replicas: u8) -> Builder {
    Daemon::example("relayed")
        .env("DOTMAC_NATS_URL", server.url())
        .env("DOTMAC_NATS_REPLICAS", replicas)
}

#[tokio::test]
async fn each_event_is_kept_once_and_in_order_though_server_and_program_are_killed() {
    let postgres = Postgres::start().await;
    for database in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let mut server = Nats::start().await;
        make_stream(&server, StorageType::File).await;
        let program = || relayed(&server, 1).env("DOTMAC_DATABASE_URL", &database);
        let (first, second) = (program(), program());
        let daemon = first.spawn().await;
        daemon.until("/ready", 200).await;
        tick(&daemon, 0..20).await;
        until_kept(&server, 20).await;
        server.restart().await;
        tick(&daemon, 20..40).await;
        // Some of these may be published, and the cursor not moved.
        let daemon = second.spawn_in(daemon.kill()).await;
        daemon.until("/ready", 200).await;
        tick(&daemon, 40..60).await;
        assert_kept(&server, 60).await;
        daemon.until_component(RELAY, "ready", None).await;
        assert_eq!(daemon.stop().await.code, 0);
    }
}

/// A server that does not answer has taken what it was sent: once it goes on, it has the events twice, and keeps one of each.
#[tokio::test]
async fn what_is_sent_twice_is_kept_once() {
    let server = Nats::start().await;
    make_stream(&server, StorageType::File).await;
    let daemon = relayed(&server, 1).spawn().await;
    daemon.until_component(RELAY, "ready", None).await;
    server.freeze();
    tick(&daemon, 0..20).await;
    let unavailable = daemon.until_component(RELAY, "unavailable", Some("broker_unreachable"));
    unavailable.await;
    server.thaw();
    tick(&daemon, 20..30).await;
    assert_kept(&server, 30).await;
    daemon.until_component(RELAY, "ready", None).await;
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn a_server_that_is_away_costs_no_request_and_a_volatile_stream_is_named() {
    let mut server = Nats::start().await;
    server.kill();
    let daemon = relayed(&server, 3).spawn().await;
    let unreachable = Some("broker_unreachable");
    daemon
        .until_component(RELAY, "unavailable", unreachable)
        .await;
    tick(&daemon, 0..3).await;
    server.restart().await;
    // It has no stream yet.
    eventually("a line about the stream", || async {
        let text = daemon.lines().concat();
        text.contains("stream not found").then_some(())
    })
    .await;
    make_stream(&server, StorageType::Memory).await;
    let volatile = Some("broker_not_durable");
    daemon.until_component(RELAY, "degraded", volatile).await;
    let line = daemon.logged("may lose acknowledged events").await;
    let text = line.to_string();
    for part in ["in memory", "1 replicas, and 3 are wanted"] {
        assert!(text.contains(part), "{text}");
    }
    assert_kept(&server, 3).await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    assert_eq!(daemon.stop().await.code, 0);
}

/// The line of `check --connect` about NATS.
async fn checked(program: Builder) -> (i32, String) {
    let checked = program.run(&["check", "--connect"]).await;
    let lines = checked.lines.into_iter();
    let lines: Vec<_> = lines.filter(|line| line.contains("nats")).collect();
    (checked.code, lines.join("\n"))
}

#[tokio::test]
async fn secrets_and_certificates_are_checked_and_a_wrong_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    certificates(directory.path());
    let file = |name: &str| directory.path().join(name).display().to_string();
    let (certificate, key) = (file("server.crt"), file("server.key"));
    let arguments = ["--tls", "--tlscert", &certificate, "--tlskey", &key];
    let arguments = [&arguments[..], &["--user", "dotmac", "--pass", "a word"]].concat();
    let server = Nats::with(&arguments).await;
    let program = |password: &str, authority: &str| {
        Daemon::example("relayed")
            .env(
                "DOTMAC_NATS_URL",
                format!("tls://localhost:{}", server.port),
            )
            .env("DOTMAC_NATS_CA_CERT", file(authority))
            .env("DOTMAC_NATS_USERNAME", "dotmac")
            .env("DOTMAC_NATS_PASSWORD", password)
    };
    let (_, line) = checked(program("a word", "ca.crt")).await;
    // It is let in, and there is no stream.
    assert!(line.contains("the stream `DOTMAC_EVENTS`: "), "{line}");
    let (code, line) = checked(program("another word", "ca.crt")).await;
    assert_ne!(code, 0);
    assert!(line.contains("authorization violation"), "{line}");
    assert!(!line.contains("another word"), "{line}");
    let (code, line) = checked(program("a word", "other.crt")).await;
    assert_ne!(code, 0);
    assert!(line.contains("UnknownIssuer"), "{line}");
}

/// A token that `by` signs, as NATS wants them.
fn token(by: &KeyPair, subject: &KeyPair, name: &str, claims: Value) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let head = part(json!({ "typ": "JWT", "alg": "ed25519-nkey" }));
    let body = part(json!({
        "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "name": name, "sub": subject.public_key(), "nats": claims,
    }));
    let signed = format!("{head}.{body}");
    let signature = URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes()).unwrap());
    format!("{signed}.{signature}")
}

/// A configuration of a server that lets in whom its operator's account has signed, and the credentials file of such a user.
fn operated() -> (String, String) {
    let (operator, system) = (KeyPair::new_operator(), KeyPair::new_account());
    let (account, user) = (KeyPair::new_account(), KeyPair::new_user());
    let any = json!({ "pub": {}, "sub": {} });
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_system = json!({ "limits": { "subs": -1, "conn": -1 }, "default_permissions": any, "type": "account", "version": 2 });
    let of_account =
        json!({ "limits": limits, "default_permissions": any, "type": "account", "version": 2 });
    let of_user = json!({ "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1, "type": "user", "version": 2 });
    let operating =
        json!({ "system_account": system.public_key(), "type": "operator", "version": 2 });
    let configuration = format!(
        "operator: \"{}\"\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{\n  {}: \"{}\"\n  {}: \"{}\"\n}}\n",
        token(&operator, &operator, "operator", operating),
        system.public_key(),
        system.public_key(),
        token(&operator, &system, "system", of_system),
        account.public_key(),
        token(&operator, &account, "account", of_account),
    );
    let credentials = format!(
        "-----BEGIN NATS USER JWT-----\n{}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        token(&account, &user, "relay", of_user),
        user.seed().unwrap(),
    );
    (configuration, credentials)
}

/// A configuration of a server that knows the key of one user, and that user's seed.
fn keyed() -> (String, String) {
    let user = KeyPair::new_user();
    let key = user.public_key();
    let configuration = format!("authorization: {{ users: [ {{ nkey: {key} }} ] }}\n");
    (configuration, user.seed().unwrap())
}

/// The stream over a connection with those credentials, once there is one.
async fn stream_as(server: &Nats, credentials: &str) -> jetstream::stream::Stream {
    let config = Config {
        name: STREAM.to_owned(),
        subjects: vec!["dotmac.events.>".to_owned()],
        duplicate_window: Duration::from_secs(120),
        ..Config::default()
    };
    eventually("the stream", || async {
        let options = ConnectOptions::new();
        let options = match credentials.contains("-----") {
            true => options.credentials(credentials).unwrap(),
            false => options.nkey(credentials.to_owned()),
        };
        let client = options.connect(server.url()).await.ok()?;
        let context = jetstream::new(client);
        context.get_or_create_stream(config.clone()).await.ok()
    })
    .await
}

#[tokio::test]
async fn a_server_that_demands_signatures_gets_events_from_a_credentials_file_and_from_a_seed() {
    for ((configuration, credentials), (_, others)) in
        [(operated(), operated()), (keyed(), keyed())]
    {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        std::fs::write(path("server.conf"), configuration).unwrap();
        std::fs::write(path("relay.creds"), &credentials).unwrap();
        let server = Nats::with(&["-c", &path("server.conf")]).await;
        stream_as(&server, &credentials).await;
        let (code, line) = checked(relayed(&server, 1)).await;
        assert_ne!(code, 0);
        assert!(line.contains("authorization violation"), "{line}");
        // What another operator, or another key, has signed.
        let (code, line) =
            checked(relayed(&server, 1).env("DOTMAC_NATS_CREDENTIALS", &others)).await;
        assert_ne!(code, 0);
        assert!(line.contains("authorization violation"), "{line}");
        let secret = others.lines().find(|line| line.starts_with("SU")).unwrap();
        assert!(!line.contains(secret), "{line}");
        let (code, line) =
            checked(relayed(&server, 1).env("DOTMAC_NATS_CREDENTIALS", &credentials)).await;
        assert_eq!(code, 0, "{line}");
        let daemon = relayed(&server, 1).env("DOTMAC_NATS_CREDENTIALS_FILE", path("relay.creds"));
        let daemon = daemon.spawn().await;
        daemon.until("/ready", 200).await;
        daemon.until_component(RELAY, "ready", None).await;
        tick(&daemon, 0..5).await;
        eventually("the messages", || async {
            let stream = stream_as(&server, &credentials).await;
            (stream.cached_info().state.messages == 5).then_some(())
        })
        .await;
        assert_eq!(daemon.stop().await.code, 0);
    }
}

#[tokio::test]
async fn credentials_that_are_none_are_named_and_not_shown() {
    let server = Nats::start().await;
    let text = "-----BEGIN NATS USER JWT-----\nnothing of worth\n";
    let (code, line) = checked(relayed(&server, 1).env("DOTMAC_NATS_CREDENTIALS", text)).await;
    assert_ne!(code, 0);
    assert!(line.contains("cannot parse user JWT"), "{line}");
    assert!(!line.contains("of worth"), "{line}");
}
