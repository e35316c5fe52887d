//! Later reports of mail servers, by the sender of a mail: a real Postfix, and the command that takes
//! its reports.

use std::{
    io::Write as _,
    process::{Command, Stdio},
};

use super::*;
use crate::support::{daemon::Stopped, postfix::Postfix, repository};

const SUPPRESSIONS: &str = "/api/v1/suppressions";

fn returning(url: &str, port: u16) -> Builder {
    mailing(url, port).env("DOTMAC_SMTP_BOUNCE_ADDRESS", "bounces@example.com")
}

/// Gives a report to the command, as the mail server of `example.com` would.
async fn report(daemon: &Daemon, url: &str, recipient: &str, report: &str) -> Stopped {
    let command = tenants(url);
    let arguments = ["notifications", "bounce", recipient];
    command
        .run_reading(daemon.directory(), &arguments, report)
        .await
}

/// A report of the form that RFC 3464 has.
fn written(action: &str, status: &str, said: &str) -> String {
    format!(
        "From: MAILER-DAEMON@mx.example.org\r\nContent-Type: multipart/report; boundary=x\r\n\r\n--x\r\n\
         Content-Type: text/plain\r\n\r\nSorry.\r\n--x\r\nContent-Type: message/delivery-status\r\n\r\n\
         Reporting-MTA: dns; mx.example.org\r\n\r\nFinal-Recipient: rfc822; ann@example.org\r\nAction: {action}\r\n\
         Status: {status}\r\nDiagnostic-Code: smtp; {said}\r\n\r\n--x--\r\n"
    )
}

#[tokio::test]
async fn a_report_changes_the_mail_that_it_is_about_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemon = returning(&url, relay.port).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let mut from = Vec::new();
        let mut paths = Vec::new();
        for (place, address) in ["ann@example.org", "bob@example.org", "eve@example.org"]
            .into_iter()
            .enumerate()
        {
            let path = one.mail(address).await;
            one.until_delivery(&path, "accepted").await;
            let taken = relay.until_taken(place + 1).await;
            let mail = taken.iter().find(|it| it.to[0] == address).unwrap();
            assert!(mail.header("from").unwrap().contains("noreply@example.com"));
            from.push(mail.from.clone());
            paths.push(path);
        }
        assert!(
            from.iter()
                .all(|it| it.starts_with("bounces+") && it.ends_with("@example.com")),
            "{from:?}"
        );
        assert!(from[0] != from[1] && from[1] != from[2]);

        let gone = written("failed", "5.1.1", "550 5.1.1 <ann@example.org>: unknown");
        let done = report(&daemon, &url, &from[0], &gone).await;
        assert_eq!(
            (done.code, done.text().contains("is bounced")),
            (0, true),
            "{}",
            done.text()
        );
        let found = one.delivery_state(&paths[0]).await;
        assert_eq!(
            (&found["state"], &found["reason"], &found["status"]),
            (&json!("bounced"), &json!("reported"), &json!(550)),
            "{found}"
        );
        assert_eq!(found["answer"], "550 5.1.1 <ann@example.org>: unknown");
        let suppressed = one.get(SUPPRESSIONS).await.1;
        assert_eq!(
            suppressed["items"][0]["recipient"], "ann@example.org",
            "{suppressed}"
        );
        let again = report(&daemon, &url, &from[0], &gone).await;
        assert!(again.text().contains("stays as it is"), "{}", again.text());
        let path = one.mail("ann@example.org").await;
        one.until_delivery(&path, "suppressed").await;

        // A mailbox that is full is there.
        let full = written("failed", "5.2.2", "552 5.2.2 <bob@example.org>: over quota");
        report(&daemon, &url, &from[1], &full).await;
        one.until_delivery(&paths[1], "bounced").await;
        let path = one.mail("bob@example.org").await;
        one.until_delivery(&path, "accepted").await;

        for (text, said) in [
            (
                written("delayed", "4.4.1", "connection timed out"),
                "stays as it is",
            ),
            (
                "Subject: I am away\r\n\r\nAction: failed\r\n".to_owned(),
                "no report",
            ),
            (written("delivered", "2.0.0", "250 Ok"), "is delivered"),
        ] {
            let done = report(&daemon, &url, &from[2], &text).await;
            assert!(
                done.code == 0 && done.text().contains(said),
                "{said}: {}",
                done.text()
            );
        }
        one.until_delivery(&paths[2], "delivered").await;
        let word = "0".repeat(32);
        for address in [
            format!("bounces+{word}@example.com"),
            "bounces@example.com".to_owned(),
        ] {
            let done = report(&daemon, &url, &address, &gone).await;
            assert!(
                done.code == 0 && done.text().contains("no mail with that sender is known"),
                "{}",
                done.text()
            );
        }
        let acts = eventually("the reports to be in the log", || async {
            let acts = one
                .get("/api/v1/audit/events?action=notification_bounce")
                .await
                .1;
            (acts["items"].as_array()?.len() >= 3).then_some(acts)
        })
        .await;
        assert!(!acts.to_string().contains("example.org"), "{acts}");
    }
}

/// dkimpy says whether the signature of a mail is right, with the key that the DNS would have.
fn verify(mail: &str, record: &str) {
    let program = "import sys, dkim\n\
        mail = sys.stdin.buffer.read()\n\
        record = sys.argv[1].encode()\n\
        sys.exit(0 if dkim.verify(mail, dnsfunc=lambda name, timeout=5: record) else 1)\n";
    let mut running = Command::new(repository().join("target/tools/receivers/venv/bin/python"))
        .args(["-c", program, record])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    running
        .stdin
        .take()
        .unwrap()
        .write_all(mail.as_bytes())
        .unwrap();
    assert!(running.wait().unwrap().success(), "{mail}");
}

#[tokio::test]
async fn a_real_relay_signs_hands_on_and_reports() {
    if !Postfix::can_start() {
        eprintln!("not tried: Postfix starts as root alone");
        return;
    }
    let (theirs, ours) = (Smtp::start().await, Smtp::start().await);
    let routes = [("example.org", theirs.port), ("example.com", ours.port)];
    let relay = Postfix::start("example.com", &routes).await;
    let url = "sqlite:dotmac.db";
    let daemon = returning(url, relay.port).spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let mut news = mail_to("ann@example.org");
    news["category"] = "news".into();
    news["content"]["text"] = "Grüße\n.\nFrom here\n".into();
    let path = delivery(&one.send(news).await);
    let done = one.until_delivery(&path, "accepted").await;
    let words = done["answer"].as_str().unwrap();
    assert!(words.starts_with("250 2.0.0 Ok: queued as "), "{done}");
    let taken = theirs.until_taken(1).await;
    let signature = taken[0].header("dkim-signature").unwrap_or_else(|| {
        panic!("no signature: {}\n{}", taken[0].content, relay.log());
    });
    let signed: String = signature.to_ascii_lowercase().split_whitespace().collect();
    let headers = signed.split(';').find_map(|it| it.strip_prefix("h="));
    let headers: Vec<_> = headers.unwrap().split(':').collect();
    for header in [
        "from",
        "subject",
        "list-unsubscribe",
        "list-unsubscribe-post",
    ] {
        assert!(headers.contains(&header), "{header}: {signature}");
    }
    verify(&taken[0].content, &relay.dkim_record);

    // It accepts what the next server refuses, and reports that afterwards.
    theirs.answer("rcpt", "550 5.1.1 <gone@example.org>: no such user");
    let path = one.mail("gone@example.org").await;
    one.until_delivery(&path, "accepted").await;
    let reports = ours.until_taken(1).await;
    let bounce = &reports[0];
    assert!(bounce.from == "<>", "a report has no sender: {bounce:?}");
    let done = report(&daemon, url, &bounce.to[0], &bounce.content).await;
    assert!(
        done.text().contains("is bounced"),
        "{}\n{}",
        done.text(),
        bounce.content
    );
    let found = one.delivery_state(&path).await;
    let words = found["answer"].as_str().unwrap();
    assert!(
        words.contains("550 5.1.1 <gone@example.org>: no such user"),
        "{found}"
    );
    let path = one.mail("gone@example.org").await;
    one.until_delivery(&path, "suppressed").await;
}
