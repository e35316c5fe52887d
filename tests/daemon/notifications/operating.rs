//! The relay as operators see it: TLS, passwords that change, probes, checks, the log.

use std::path::Path;

use super::*;
use crate::support::{OpenBao, openbao::ROOT_TOKEN, tls};

fn path(directory: &Path, name: &str) -> String {
    directory.join(name).display().to_string()
}

#[tokio::test]
async fn mail_goes_by_tls_to_the_right_relay_alone() {
    let directory = tempfile::tempdir().unwrap();
    tls::certificates(directory.path());
    let (certificate, key) = (
        path(directory.path(), "server.crt"),
        path(directory.path(), "server.key"),
    );
    let relay = Smtp::with_tls(&certificate, &key, Some(("house", "correct horse"))).await;
    let secure = || {
        mailing("sqlite:dotmac.db", relay.port)
            .env("DOTMAC_SMTP_HOST", "localhost")
            .env("DOTMAC_SMTP_TLS", "starttls")
            .env("DOTMAC_SMTP_CA_CERT", path(directory.path(), "ca.crt"))
            .env("DOTMAC_SMTP_USERNAME", "house")
            .env("DOTMAC_SMTP_PASSWORD", "correct horse")
            .env("DOTMAC_SMTP_CHECK_INTERVAL", "1s")
            .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
    };
    let checked = secure().run(&["check", "--connect"]).await;
    assert_eq!(checked.code, 0, "{}", checked.text());
    assert!(
        checked.text().contains("accepts mail: relay.test"),
        "{}",
        checked.text()
    );
    let daemon = secure().spawn().await;
    daemon.until("/ready", 200).await;
    let sent = client(&daemon, ONE).mail("ann@example.com").await;
    client(&daemon, ONE).until_delivery(&sent, "accepted").await;
    let taken = relay.until_taken(1).await;
    assert!(
        taken[0].is_tls && taken[0].user.as_deref() == Some("house"),
        "{taken:?}"
    );
    drop(daemon);

    for (key, value, reason, advice) in [
        (
            "DOTMAC_SMTP_CA_CERT",
            path(directory.path(), "other.crt"),
            "tls_failed",
            "DOTMAC_SMTP_CA_CERT",
        ),
        (
            "DOTMAC_SMTP_HOST",
            "127.0.0.1".to_owned(),
            "tls_failed",
            "DOTMAC_SMTP_TLS",
        ),
        (
            "DOTMAC_SMTP_PASSWORD",
            "wrong battery".to_owned(),
            "authentication_failed",
            "DOTMAC_SMTP_PASSWORD",
        ),
        (
            "DOTMAC_SMTP_PORT",
            free_port().to_string(),
            "unreachable",
            "DOTMAC_SMTP_PORT",
        ),
    ] {
        let daemon = secure().env(key, &value).spawn().await;
        daemon
            .until_component("smtp", "unavailable", Some(reason))
            .await;
        // Mail is no reason to send requests elsewhere.
        daemon.until("/ready", 200).await;
        let why = secure().run_in(daemon.directory(), &["why"]).await.text();
        assert!(
            why.contains("mail cannot be sent") && why.contains(advice),
            "{why}"
        );
        let log = daemon.lines().join("\n");
        assert!(
            !log.contains("wrong battery") && !log.contains("correct horse"),
            "{log}"
        );
        let checked = secure().env(key, &value).run(&["check", "--connect"]).await;
        assert_eq!(checked.code, 69, "{}", checked.text());
        assert!(checked.text().contains(advice), "{key}: {}", checked.text());
        assert!(!checked.text().contains("wrong battery"));
    }
    assert_eq!(relay.taken().len(), 1);
}

#[tokio::test]
async fn a_password_in_vault_is_changed_while_mail_flows() {
    let bao = OpenBao::start().await;
    bao.write("smtp/username", "value", "house").await;
    bao.write("smtp/password", "value", "first secret").await;
    let relay = Smtp::with_user("house", "first secret").await;
    let daemon = mailing("sqlite:dotmac.db", relay.port)
        .env("DOTMAC_VAULT_ADDR", bao.address())
        .env("DOTMAC_VAULT_TOKEN", ROOT_TOKEN)
        .env("DOTMAC_VAULT_REFRESH_INTERVAL", "1s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let path = one.mail("a@example.com").await;
    one.until_delivery(&path, "accepted").await;
    relay.set_password("second secret");
    bao.write("smtp/password", "value", "second secret").await;
    daemon.logged("DOTMAC_SMTP_PASSWORD").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let path = one.mail("b@example.com").await;
    let found = eventually("the mail to be accepted", || async {
        let found = one.delivery_state(&path).await;
        (found["state"] == "accepted").then_some(found)
    })
    .await;
    assert_eq!(found["attempts"], 1, "nothing failed meanwhile: {found}");
    assert_eq!(relay.taken().len(), 2);
    let log = daemon.lines().join("\n");
    assert!(!log.contains("first secret") && !log.contains("second secret"));
}

#[tokio::test]
async fn settings_of_the_relay_that_cannot_work_are_refused() {
    for (key, value, said) in [
        (
            "DOTMAC_SMTP_FROM_ADDRESS",
            "a\tb",
            "DOTMAC_SMTP_FROM_ADDRESS",
        ),
        ("DOTMAC_SMTP_FROM_ADDRESS", "", "DOTMAC_SMTP_FROM_ADDRESS"),
        ("DOTMAC_SMTP_REPLY_TO", "nobody", "DOTMAC_SMTP_REPLY_TO"),
        ("DOTMAC_SMTP_TLS", "maybe", "starttls"),
        ("DOTMAC_SMTP_CA_CERT", "/nothing.pem", "DOTMAC_SMTP_CA_CERT"),
    ] {
        let tls = if key == "DOTMAC_SMTP_CA_CERT" {
            "starttls"
        } else {
            "none"
        };
        let checked = mailing("sqlite:dotmac.db", 25)
            .env("DOTMAC_SMTP_TLS", tls)
            .env(key, value)
            .run(&["check"])
            .await;
        assert_eq!(checked.code, 78, "{key}={value}: {}", checked.text());
        assert!(
            checked.text().contains(said),
            "{key}={value}: {}",
            checked.text()
        );
    }
    let production = mailing("sqlite:dotmac.db", 25)
        .env("DOTMAC_ENVIRONMENT", "production")
        .env("DOTMAC_SMTP_HOST", "relay.example.com")
        .env("DOTMAC_NOTIFICATIONS_OUTBOX", "true")
        .run(&["check"])
        .await;
    let text = production.text();
    assert_eq!(production.code, 78, "{text}");
    for key in ["DOTMAC_SMTP_TLS", "DOTMAC_NOTIFICATIONS_OUTBOX"] {
        assert!(text.contains(key), "{key}: {text}");
    }
}

#[tokio::test]
async fn neither_log_nor_audit_nor_events_say_what_was_written_or_to_whom() {
    let relay = Smtp::start().await;
    let daemon = mailing("sqlite:dotmac.db", relay.port)
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "debug")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let body = json!({
        "to": [{ "email": "very.secret@example.com" }],
        "content": { "subject": "hidden subject", "text": "hidden text" },
    });
    let path = delivery(&one.send(body).await);
    one.until_delivery(&path, "accepted").await;
    relay.answer("rcpt", "550 5.7.1 <very.secret@example.com>: hidden");
    let refused = one.mail("very.secret@example.com").await;
    one.until_delivery(&refused, "bounced").await;
    let audit = eventually("the acts to be in the log", || async {
        let audit = one
            .get("/api/v1/audit/events?action=notification_send")
            .await
            .1;
        (audit["items"].as_array()?.len() == 2).then_some(audit)
    })
    .await;
    assert_eq!(audit["items"][0]["details"]["deliveries"], "1", "{audit}");
    let events = eventually("the events", || async {
        let events = one
            .get("/api/v1/events?type=delivery.accepted.v1,delivery.bounced.v1")
            .await
            .1;
        (events["items"].as_array()?.len() == 2).then_some(events)
    })
    .await;
    let jobs = one
        .get(&format!("{JOBS}?kind=notifications.deliver"))
        .await
        .1;
    let shown = format!("{}\n{audit}\n{events}\n{jobs}", daemon.lines().join("\n"));
    for secret in ["very.secret", "hidden"] {
        assert!(!shown.contains(secret), "{secret}: {shown}");
    }
}

#[tokio::test]
async fn a_link_to_unsubscribe_is_in_no_trace_and_no_line_of_the_log() {
    let collector = FakeHttpServer::start(|_, stream| write_answer(stream, "200 OK", ""));
    let daemon = tenants("sqlite:dotmac.db")
        .env("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.address())
        .env("DOTMAC_TELEMETRY_OTLP_PROTOCOL", "http")
        .env("DOTMAC_TELEMETRY_LOG_LEVEL", "debug")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let mut news = mail_to("ann@example.com");
    news["category"] = "news".into();
    one.send(news).await;
    let held = one.get(&format!("{NOTIFICATIONS}/outbox")).await.1;
    let link = held["items"][0]["unsubscribe_url"].as_str().unwrap();
    let token = link.rsplit('/').next().unwrap().to_owned();
    // What no route takes may have a token in it too.
    for end in ["", "/", "/x"] {
        let url = format!("{}/api/v1/u/{token}{end}", daemon.base);
        for request in [daemon.client.get(&url), daemon.client.post(&url)] {
            let status = request.send().await.unwrap().status();
            assert_eq!(status.is_success(), end.is_empty(), "{end}: {status}");
        }
    }
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0);
    let log = stopped.text();
    assert!(log.contains("POST /api/v1/u/{token} 200"), "{log}");
    assert!(!log.contains(&token), "{log}");
    let has = |bytes: &[u8], text: &str| {
        bytes
            .windows(text.len())
            .any(|window| window == text.as_bytes())
    };
    let exported = collector.asked();
    let spans = exported
        .iter()
        .any(|it| has(&it.bytes, "/api/v1/u/{token}"));
    assert!(spans, "{} exports", exported.len());
    assert!(exported.iter().all(|it| !has(&it.bytes, &token)));
}
