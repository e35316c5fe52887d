//! Input that wants to be more than it is, and receivers of URLs that do what they should not.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
};

use flate2::{Compression, write::GzEncoder};

use super::*;

/// What could end a header, or begin another.
const INJECTIONS: [&str; 6] = [
    "a\r\nBcc: evil@example.com",
    "a\nBcc: evil@example.com",
    "a\rBcc: evil@example.com",
    "a\u{85}Bcc: evil@example.com",
    "a\u{2028}Bcc: evil@example.com",
    "a\r\n\r\nBcc: evil@example.com",
];

/// A mail with every field that has text.
fn full() -> Value {
    json!({
        "to": [{ "email": "ann@example.com" }],
        "content": {
            "subject": "Hello", "text": "Good day", "html": "<p>Good day</p>", "title": "Hello", "body": "Good day",
            "data": { "key": "value" },
        },
        "category": "news",
        "channels": ["email"],
        "priority": "normal",
        "send_at": null,
        "expires_at": null,
        "digest": { "key": "a", "window": "1m" },
    })
}

#[tokio::test]
async fn no_field_of_a_message_adds_a_header_or_a_recipient() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let fields = [
        "/to/0/email",
        "/content/subject",
        "/content/text",
        "/content/html",
        "/content/title",
        "/content/body",
        "/content/data/key",
        "/category",
        "/channels/0",
        "/priority",
        "/send_at",
        "/expires_at",
        "/digest/key",
        "/digest/window",
        "/template",
    ];
    let mut accepted = 0;
    for field in fields {
        for injection in INJECTIONS {
            let mut body = full();
            if field == "/template" {
                body["content"].take();
                body["template"] = Value::Null;
            }
            *body.pointer_mut(field).unwrap() = injection.into();
            if field != "/digest/key" && field != "/digest/window" {
                body.as_object_mut().unwrap().remove("digest");
            }
            let (status, answered) = one.post(NOTIFICATIONS, body).await;
            match (status, field) {
                // They are a text, and stay one.
                (
                    202,
                    "/content/text" | "/content/html" | "/content/body" | "/content/data/key",
                ) => {
                    accepted += 1;
                }
                // A word by which mails are put together, that is in none of them.
                (202, "/digest/key") => {}
                (400 | 422, _) => {
                    let at = answered["errors"][0]["field"].as_str().unwrap_or_default();
                    let name = field.rsplit('/').next().unwrap();
                    assert!(
                        at.contains(name) || at.contains("channels") || at == "template",
                        "{field}: {answered}"
                    );
                }
                _ => panic!("{field} {injection:?}: {status} {answered}"),
            }
        }
    }
    assert!(accepted > 0);
    let taken = relay.until_taken(accepted).await;
    for mail in &taken {
        assert_eq!(mail.to, ["ann@example.com"]);
        assert_eq!(mail.header("bcc"), None, "{}", mail.content);
        assert_eq!(mail.header("subject").as_deref(), Some("Hello"));
    }
}

#[tokio::test]
async fn a_name_that_looks_like_another_is_shown_as_what_it_is() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    // The first letter of the domain is Cyrillic.
    let path = one.mail("ann@\u{430}pple.com").await;
    let found = one.until_delivery(&path, "accepted").await;
    assert_eq!(found["recipient"], "ann@xn--pple-43d.com");
    assert_eq!(relay.until_taken(1).await[0].to, ["ann@xn--pple-43d.com"]);
    for address in [
        "\u{430}nn@example.com",
        "ann@exam\u{200b}ple.com",
        "ann@\u{202e}moc.elpmaxe",
        "ann\u{ff20}example.com",
        "ann@example.com\u{0}",
        "ann@example\u{2028}.com",
    ] {
        let refused = one.post(NOTIFICATIONS, mail_to(address)).await;
        assert!(matches!(refused.0, 400 | 422), "{address:?}: {refused:?}");
    }
}

#[tokio::test]
async fn ten_thousand_recipients_are_refused_as_a_whole_and_soon() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    for (count, status) in [(10_000, 422), (1001, 422), (1000, 202)] {
        let to: Vec<_> = (0..count)
            .map(|it| json!({ "email": format!("a{it}@example.com") }))
            .collect();
        let mut mail = mail_to("ann@example.com");
        mail["to"] = to.into();
        // What is accepted waits, so that it is counted below.
        mail["send_at"] = in_seconds(3600).into();
        let begun = std::time::Instant::now();
        let answered = one.post(NOTIFICATIONS, mail).await;
        assert_eq!(
            answered.0,
            status,
            "{count}: {:.300}",
            answered.1.to_string()
        );
        assert!(begun.elapsed() < Duration::from_secs(10), "{count}");
    }
    // Each of them wrong: the answer is bounded.
    let to: Vec<_> = (0..1000).map(|_| json!({ "email": "nobody" })).collect();
    let mut mail = mail_to("ann@example.com");
    mail["to"] = to.into();
    let refused = one.post(NOTIFICATIONS, mail).await;
    assert_eq!(refused.1["errors"].as_array().unwrap().len(), 100);
    let huge =
        json!({ "to": [], "content": { "subject": "a", "text": "a".repeat(7 * 1024 * 1024) } });
    assert_eq!(one.post(NOTIFICATIONS, huge).await.0, 413);
    assert!(relay.taken().is_empty());
}

/// A megabyte of nothing, in a few bytes.
fn bomb() -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(&[0; 1024 * 1024]).unwrap();
    encoder.finish().unwrap()
}

/// Answers by what the path asks for.
fn misbehave(path: &str, stream: &mut TcpStream) -> std::io::Result<()> {
    match path {
        "/redirect" => {
            let head = "302 Found\r\nlocation: http://169.254.169.254/latest/meta-data";
            write_answer(stream, head, "")
        }
        "/endless" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")?;
            loop {
                stream.write_all(&[b'x'; 65_536])?;
            }
        }
        "/drip" => {
            for byte in b"HTTP/1.1 200 OK\r\nx-slow: ".iter().cycle() {
                stream.write_all(&[*byte])?;
                std::thread::park_timeout(Duration::from_millis(50));
            }
            Ok(())
        }
        "/bomb" => {
            let bomb = bomb();
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
                bomb.len()
            );
            stream.write_all(head.as_bytes())?;
            stream.write_all(&bomb)
        }
        "/garbage" => stream.write_all(b"220 this is no HTTP\r\n\r\n"),
        "/head" => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nx-long: ")?;
            stream.write_all(&vec![b'x'; 4 * 1024 * 1024])
        }
        _ => {
            stream.shutdown(std::net::Shutdown::Write)?;
            stream.read(&mut [0; 16]).map(drop)
        }
    }
}

#[tokio::test]
async fn no_receiver_of_a_url_costs_more_than_its_bound_or_says_what_it_is_not() {
    let hostile = FakeHttpServer::start(|request, stream| misbehave(request.path(), stream));
    let daemon = tenants("sqlite:dotmac.db")
        .env(
            "DOTMAC_NOTIFICATIONS_WEBHOOK_KEY",
            format!("whsk_{MASTER_KEY}"),
        )
        .env("DOTMAC_EGRESS_TIMEOUT", "2s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    for (path, reason) in [
        ("/redirect", "http_302"),
        ("/drip", "timeout"),
        ("/garbage", "connection_failed"),
        ("/head", "connection_failed"),
        ("/closed", "connection_failed"),
    ] {
        let body = json!({
            "to": [{ "url": format!("{}{path}", hostile.address()) }], "content": { "title": "a", "text": "b" },
        });
        let delivery = delivery(&one.send(body).await);
        let found = one.until_retrying(&delivery, 1).await;
        assert_eq!(found["reason"], reason, "{path}: {found}");
    }
    // What says 200 has taken it, however much it says then.
    for path in ["/endless", "/bomb"] {
        let body = json!({
            "to": [{ "url": format!("{}{path}", hostile.address()) }], "content": { "title": "a", "text": "b" },
        });
        let delivery = delivery(&one.send(body).await);
        let found = one.until_delivery(&delivery, "accepted").await;
        assert_eq!(found["answer"], "200 OK", "{path}: {found}");
    }
}
