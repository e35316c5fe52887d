//! A Vault that is hostile, broken or slow: what it gets to see, and what it may cost.

use std::{
    io::{self, Write},
    net::TcpStream,
    time::Duration,
};

use reqwest::Method;
use serde_json::json;

use super::{peak_mib, scale};
use crate::support::{
    Daemon, OpenBao,
    daemon::Builder,
    eventually,
    fakes::{FakeHttpServer, FakeRequest, write_answer},
    openbao::ROOT_TOKEN,
};

const TOKEN: &str = "s.0123456789abcdef01234567";
const SECRET_ID: &str = "5f1c8d0e-of-the-approle";

/// A daemon that logs in with a token to the Vault at `address`, and has its database in a file.
fn builder(address: &str) -> Builder {
    Daemon::builder()
        .env("DOTMAC_VAULT_ADDR", address)
        .env("DOTMAC_VAULT_TOKEN", TOKEN)
        .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "500ms")
}

/// One that reads a secret from OpenBao, and needs nothing else of it.
fn reading_a_key(bao: &OpenBao) -> Builder {
    builder(&bao.address())
        .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
        .env("DOTMAC_VAULT_KV_VERSION", "2")
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", "http://127.0.0.1:1")
        .env("DOTMAC_TELEMETRY_OTLP_HEADERS", "vault:team/key")
}

/// The same by AppRole.
fn by_approle(address: &str) -> Builder {
    Daemon::builder()
        .env("DOTMAC_VAULT_ADDR", address)
        .env("DOTMAC_VAULT_AUTH", "approle")
        .env("DOTMAC_VAULT_ROLE_ID", "a-role")
        .env("DOTMAC_VAULT_SECRET_ID", SECRET_ID)
}

/// The same in production, where secrets are required.
fn in_production(address: &str) -> Builder {
    builder(address)
        .env("DOTMAC_ENVIRONMENT", "production")
        .without(&["accounts", "webhooks"])
        .env("DOTMAC_DATABASE_ALLOW_SQLITE", "true")
}

/// A Vault that sends every request on, with `status`, to the same path at `to`.
fn fake_redirecting(status: u16, to: &str) -> FakeHttpServer {
    let to = to.to_owned();
    FakeHttpServer::start(move |request, stream| {
        let head = format!("{status} Elsewhere\r\nlocation: {to}{}", request.path());
        write_answer(stream, &head, "")
    })
}

/// A Vault that returns `answer` to any request.
fn fake_answering(answer: &'static str) -> FakeHttpServer {
    FakeHttpServer::start(move |_, stream| stream.write_all(answer.as_bytes()))
}

/// A server that takes note of what it gets and says nothing of use.
fn fake_thief() -> FakeHttpServer {
    FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", "{}"))
}

#[tokio::test]
async fn neither_token_nor_secret_id_follow_a_redirect_to_another_host() {
    let thief = fake_thief();
    for status in [301, 302, 303, 307, 308] {
        let vault = fake_redirecting(status, &format!("http://localhost:{}", thief.port));
        for builder in [builder(&vault.address()), by_approle(&vault.address())] {
            let checked = builder.run(&["check", "--connect"]).await;
            let text = checked.text();
            assert_eq!(checked.code, 69, "{status}: {text}");
        }
    }
    let vault = fake_redirecting(307, &format!("http://localhost:{}", thief.port));
    let daemon = in_production(&vault.address()).spawn().await;
    daemon
        .until_component("secrets", "starting", Some("bad_answer"))
        .await;
    let line = daemon.logged("secrets are not loaded").await;
    let message = line["message"].as_str().unwrap();
    let reported = format!("redirects to `http://localhost:{}`", thief.port);
    assert!(message.contains(&reported), "{message}");
    daemon.stop().await;
    let seen = thief.asked();
    assert!(seen.is_empty(), "{seen:?}");
}

#[tokio::test]
async fn a_redirect_is_followed_once_to_the_same_host_and_path_and_by_307_or_308_alone() {
    let bao = OpenBao::start().await;
    for status in [307, 308] {
        let standby = fake_redirecting(status, &bao.address());
        let checked = builder(&standby.address())
            .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
            .run(&["check", "--connect"])
            .await;
        let text = checked.text();
        assert_eq!(checked.code, 0, "{status}: {text}");
        assert!(text.contains("we are `token`"), "{status}: {text}");
    }
    // By a status that turns a POST into a GET; in a circle; to another path.
    let sought = fake_thief();
    let circle = FakeHttpServer::start(|request, stream| {
        let host = request
            .head
            .lines()
            .find_map(|it| it.strip_prefix("host: "));
        let to = format!("http://{}{}", host.unwrap(), request.path());
        write_answer(stream, &format!("307 Here\r\nlocation: {to}"), "")
    });
    for vault in [
        fake_redirecting(302, &sought.address()),
        fake_redirecting(307, &format!("{}/elsewhere", sought.address())),
        circle,
    ] {
        let daemon = builder(&vault.address()).spawn().await;
        daemon
            .until_component("secrets", "degraded", Some("bad_answer"))
            .await;
    }
    assert!(sought.asked().is_empty(), "{:?}", sought.asked());
}

#[tokio::test]
async fn what_answers_without_saying_anything_is_not_vault() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"data\":{}}",
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let vault = fake_answering(answer);
        let daemon = in_production(&vault.address()).spawn().await;
        daemon
            .until_component("secrets", "starting", Some("bad_answer"))
            .await;
        assert_eq!(daemon.get("/ready").await.status(), 503, "{answer}");
        let checked = builder(&vault.address()).run(&["check", "--connect"]).await;
        let text = checked.text();
        assert_eq!(checked.code, 69, "{text}");
        assert!(text.contains("Vault or OpenBao server"), "{text}");
    }
}

/// A gateway's 503 has the status of a sealed Vault, and its 429 that of a standby.
#[tokio::test]
async fn a_gateway_that_refuses_is_not_taken_for_a_sealed_vault() {
    for (answer, reason) in [
        (
            "HTTP/1.1 503 No Server\r\ncontent-length: 4\r\n\r\nbusy",
            "bad_answer",
        ),
        (
            "HTTP/1.1 429 Too Many\r\ncontent-length: 4\r\n\r\nbusy",
            "rate_limited",
        ),
    ] {
        let vault = fake_answering(answer);
        let daemon = builder(&vault.address()).spawn().await;
        daemon
            .until_component("secrets", "degraded", Some(reason))
            .await;
        let checked = builder(&vault.address()).run(&["check", "--connect"]).await;
        let text = checked.text();
        assert!(text.contains("FAILED  vault reachable"), "{text}");
    }
}

/// The most memory of a daemon whose Vault gives such answers of `mib` MiB.
async fn peak_after_answers(mib: usize, status: &'static str, reason: &str) -> u64 {
    let vault = FakeHttpServer::start(move |_, stream| write_huge(stream, status, mib));
    let daemon = builder(&vault.address()).spawn().await;
    daemon
        .until_component("secrets", "degraded", Some(reason))
        .await;
    eventually("several such answers", || async {
        (vault.asked().len() > 8).then_some(())
    })
    .await;
    peak_mib(daemon.pid())
}

/// Writes `mib` MiB of blanks as one answer, which JSON may begin with.
fn write_huge(stream: &mut TcpStream, status: &str, mib: usize) -> io::Result<()> {
    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", mib << 20);
    stream.write_all(head.as_bytes())?;
    let piece = vec![b' '; 1 << 20];
    (0..mib).try_for_each(|_| stream.write_all(&piece))
}

#[tokio::test]
async fn an_answer_of_any_size_costs_little() {
    let mib = 64 * scale();
    for (status, reason) in [
        ("200 OK", "bad_answer"),
        ("403 Forbidden", "authentication_failed"),
    ] {
        let usual = peak_after_answers(0, status, reason).await;
        let peak = peak_after_answers(mib, status, reason).await;
        println!("answers of {mib} MiB with {status}: {peak} MiB at the most, {usual} without");
        assert!(peak < usual + 16, "{peak} MiB, {usual} MiB without");
    }
}

#[tokio::test]
async fn hangups_while_vault_hangs_are_no_fault_of_secrets() {
    let bao = OpenBao::start().await;
    bao.write("team/key", "value", "x-team=blue").await;
    let daemon = reading_a_key(&bao)
        .env("DOTMAC_SUPERVISION_CALL_TIMEOUT", "300ms")
        .spawn()
        .await;
    daemon.until_component("secrets", "ready", None).await;
    bao.freeze();
    // Five calls in a row without an answer are a hang.
    for round in 1..=8 {
        daemon.signal("HUP");
        eventually("the reload to end", || async {
            let log = daemon.log();
            let ended = log.iter().filter(|line| {
                let message = line["message"].as_str().unwrap_or_default();
                line["result"] == "rejected" && message.contains("secrets")
            });
            (ended.count() >= round).then_some(())
        })
        .await;
    }
    bao.thaw();
    let body = daemon.until_component("secrets", "ready", None).await;
    assert_eq!(body["components"]["secrets"]["generation"], 1, "{body}");
    for cause in ["hang", "unanswered"] {
        let series = format!(r#"dotmac_actor_restarts_total{{actor="secrets",cause="{cause}"}}"#);
        assert_eq!(daemon.metric(&series).await.unwrap_or(0.0), 0.0, "{cause}");
    }
}

#[tokio::test]
async fn no_proxy_of_the_environment_gets_the_token() {
    let bao = OpenBao::start().await;
    let proxy = fake_thief();
    let equipped = || {
        let builder = builder(&bao.address()).env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN);
        [
            "HTTP_PROXY",
            "http_proxy",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "all_proxy",
        ]
        .iter()
        .fold(builder, |builder, key| builder.env(key, proxy.address()))
    };
    let daemon = equipped().spawn().await;
    daemon.until_component("secrets", "ready", None).await;
    let checked = equipped().run(&["check", "--connect"]).await;
    assert!(checked.text().contains("vault login"), "{}", checked.text());
    assert!(proxy.asked().is_empty(), "{:?}", proxy.asked());
}

/// Vault's data of a token that never expires.
const LOOKUP: &str =
    r#"{"data":{"display_name":"token","policies":["default"],"ttl":0,"renewable":false}}"#;

/// A Vault whose KV engine asks for a pause of `seconds`; the rest of it answers.
fn fake_limiting(seconds: u64) -> FakeHttpServer {
    FakeHttpServer::start(move |request: &FakeRequest, stream| match request.path() {
        "/v1/auth/token/lookup-self" => write_answer(stream, "200 OK", LOOKUP),
        _ => {
            let head = format!("429 Too Many Requests\r\nretry-after: {seconds}");
            write_answer(stream, &head, r#"{"errors":["rate limit quota exceeded"]}"#)
        }
    })
}

#[tokio::test]
async fn a_pause_that_vault_asks_for_is_kept() {
    let vault = fake_limiting(3);
    let daemon = builder(&vault.address())
        .env("DOTMAC_SUPERVISION_BACKOFF_MAX", "100ms")
        .env("DOTMAC_DATABASE_URL", "postgres://127.0.0.1:1/dotmac")
        .env("DOTMAC_VAULT_KV_VERSION", "2")
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon
        .until_component("secrets", "degraded", Some("rate_limited"))
        .await;
    // An operator's hangups do not shorten it.
    for _ in 0..3 {
        daemon.signal("HUP");
    }
    let secrets = || {
        let asked = vault.asked().into_iter();
        let asked = asked.filter(|it| it.path().starts_with("/v1/secret/"));
        asked.map(|it| it.at).collect::<Vec<_>>()
    };
    eventually("another try", || async {
        let asked = secrets();
        let (first, last) = (asked.first()?, asked.last()?);
        (last.duration_since(*first) > Duration::from_secs(1)).then_some(())
    })
    .await;
    let asked = secrets();
    // Reads that were under way together are one try.
    let tries = asked
        .windows(2)
        .filter(|pair| pair[1].duration_since(pair[0]) > Duration::from_millis(50));
    for pair in tries {
        let pause = pair[1].duration_since(pair[0]);
        assert!(pause >= Duration::from_millis(2900), "{pause:?}");
    }
}

/// OpenBao itself, with a quota that says when it will answer again.
#[tokio::test]
async fn a_real_quota_says_when_and_is_kept() {
    let bao = OpenBao::start().await;
    bao.write("team/key", "value", "x-team=blue").await;
    let headers = json!({ "enable_rate_limit_response_headers": true });
    bao.call(Method::POST, "sys/quotas/config", headers).await;
    let daemon = reading_a_key(&bao)
        // The quota allows for the one secret that is read.
        .without(&["accounts", "files", "notifications", "smtp", "webhooks"])
        .env("DOTMAC_APP_SECRET_KEY", "0123456789abcdef0123456789abcdef")
        .env(
            "DOTMAC_APP_MASTER_KEY",
            "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=",
        )
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until_component("secrets", "ready", None).await;
    let quota = json!({ "path": "secret", "rate": 1, "interval": "4s" });
    bao.call(Method::POST, "sys/quotas/rate-limit/tight", quota)
        .await;
    let body = daemon
        .until_component("secrets", "degraded", Some("rate_limited"))
        .await;
    assert_eq!(body["components"]["db"]["state"], "ready", "{body}");
    let line = daemon.logged("the server limits the rate").await;
    let message = line["message"].as_str().unwrap();
    assert!(message.contains("it asks for a pause of"), "{message}");
    daemon.until_component("secrets", "ready", None).await;
}
