//! Answers of a relay at each verb, lost connections, and killed processes.

use super::*;

#[tokio::test]
async fn each_answer_of_a_relay_has_its_state() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let cases = [
        ("rcpt", "550 5.7.1 denied", "bounced", "smtp_rcpt_to", 550),
        ("mail", "550 5.7.1 not you", "failed", "smtp_mail_from", 550),
        ("data", "554 5.5.0 no", "failed", "smtp_data", 554),
        (
            "content",
            "552 5.3.4 too large",
            "failed",
            "smtp_content",
            552,
        ),
        ("content", "550 5.7.1 spam", "failed", "smtp_content", 550),
    ];
    for (place, (verb, answer, state, reason, status)) in cases.into_iter().enumerate() {
        relay.answer(verb, answer);
        let path = one.mail(&format!("a{place}@example.com")).await;
        let found = one.until_delivery(&path, state).await;
        assert_eq!(
            (&found["reason"], &found["status"]),
            (&json!(reason), &json!(status)),
            "{found}"
        );
        assert_eq!(found["answer"], answer);
        assert_eq!(found["history"][0]["response_body"], answer[4..]);
    }
    assert!(relay.taken().is_empty());
    assert_eq!(one.get("/api/v1/suppressions").await.1["items"], json!([]));

    // A mailbox that is not there is not tried by the next mail.
    relay.answer("rcpt", "550 5.1.1 <ann@example.com>: unknown");
    let path = one.mail("ann@example.com").await;
    one.until_delivery(&path, "bounced").await;
    relay.behave();
    let mut transactional = mail_to("Ann@example.com");
    transactional["category"] = "transactional".into();
    let path = delivery(&one.send(transactional).await);
    assert_eq!(
        one.until_delivery(&path, "suppressed").await["reason"],
        "bounced"
    );
    let suppressed = one.get("/api/v1/suppressions").await.1;
    assert_eq!(
        suppressed["items"][0]["detail"], "550 5.1.1 <ann@example.com>: unknown",
        "{suppressed}"
    );
}

#[tokio::test]
async fn what_may_go_well_later_is_tried_again_and_arrives_once() {
    let mut relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    let cases = [
        ("connect", "421 4.3.2 busy", json!(421)),
        ("connect", "554 5.7.1 go away", json!(554)),
        ("ehlo", "451 4.3.0 later", json!(451)),
        ("mail", "421 4.3.2 stopping", json!(421)),
        ("mail", "451 4.3.0 later", json!(451)),
        ("rcpt", "450 4.2.1 greylisted", json!(450)),
        ("rcpt", "421 4.3.2 stopping", json!(421)),
        ("data", "451 4.3.0 later", json!(451)),
        ("data", "421 4.3.2 stopping", json!(421)),
        ("content", "451 4.3.0 later", json!(451)),
        ("content", "421 4.3.2 stopping", json!(421)),
        // Before the content a lost connection has sent nothing.
        ("connect", "drop", Value::Null),
        ("mail", "drop", Value::Null),
        ("rcpt", "drop", Value::Null),
        ("data", "drop", Value::Null),
    ];
    for (place, (verb, answer, status)) in cases.iter().enumerate() {
        // A connection that is open has been greeted; one that the relay has closed is no fault.
        relay.restart().await;
        relay.answer(verb, answer);
        let path = one.mail(&format!("a{place}@example.com")).await;
        let found = one.until_retrying(&path, 1).await;
        assert_eq!(found["status"], *status, "{verb} {answer}: {found}");
        assert!(found["next_attempt_at"].is_string(), "{found}");
        relay.behave();
        one.hurry().await;
        let found = one.until_delivery(&path, "accepted").await;
        assert_eq!(found["attempts"], 2, "{found}");
        assert_eq!(
            relay.until_taken(place + 1).await.len(),
            place + 1,
            "{verb} {answer}"
        );
    }
}

#[tokio::test]
async fn a_connection_lost_after_the_content_is_unknown_and_never_repeated_by_itself() {
    let relay = Smtp::start().await;
    let daemon = mailing_daemon(relay.port).await;
    let one = client(&daemon, ONE);
    for (answer, taken) in [("drop", 0), ("drop-taken", 1), ("hang", 1)] {
        relay.answer("content", answer);
        let path = one.mail(&format!("{answer}@example.com")).await;
        let found = one.until_delivery(&path, "unknown").await;
        assert_eq!(
            (&found["reason"], &found["status"]),
            (&json!("smtp_content"), &Value::Null),
            "{found}"
        );
        assert_eq!(relay.taken().len(), taken, "{answer}");
        let waiting = one
            .get(&format!("{JOBS}?kind=notifications.deliver&state=retrying"))
            .await
            .1;
        assert_eq!(waiting["items"], json!([]));
    }
    // The operator decides.
    relay.behave();
    let unknown = one.get(&format!("{DELIVERIES}?state=unknown")).await.1;
    for it in unknown["items"].as_array().unwrap() {
        let path = format!("{DELIVERIES}/{}", it["id"].as_str().unwrap());
        assert_eq!(one.post(&format!("{path}/retry"), json!({})).await.0, 200);
        one.until_delivery(&path, "accepted").await;
    }
    let taken = relay.until_taken(4).await;
    let ids: Vec<_> = taken
        .iter()
        .filter(|it| it.to[0].starts_with("drop-taken"))
        .collect();
    assert_eq!(
        ids[0].header("message-id"),
        ids[1].header("message-id"),
        "it is known to be the same"
    );
}

/// The process ends while the relay has the content: it is not known whether the relay accepted it.
#[tokio::test]
async fn a_killed_process_leaves_a_mail_unknown_and_loses_none_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let start = || mailing(&url, relay.port).env("DOTMAC_SMTP_TIMEOUT", "60s");
        let daemon = start().spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        relay.answer("content", "hang");
        let first = one.mail("first@example.com").await;
        let queued = one.delivery_state(&first).await;
        eventually("the relay to be given the content", || async {
            let found = one.delivery_state(&first).await;
            assert_eq!(found["state"], "queued", "{found}");
            (found["updated_at"] != queued["updated_at"]).then_some(())
        })
        .await;
        // One that has not begun.
        let mut later = mail_to("second@example.com");
        later["send_at"] = in_seconds(2).into();
        let second = delivery(&one.send(later).await);
        let directory = daemon.kill();
        relay.behave();
        let daemon = start().spawn_in(directory).await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let found = one.until_delivery(&first, "unknown").await;
        assert_eq!(found["reason"], "interrupted", "{found}");
        one.until_delivery(&second, "accepted").await;
        let taken = relay.until_taken(1).await;
        assert_eq!(taken.len(), 1, "{taken:?}");
        assert_eq!(taken[0].to, ["second@example.com"]);
    }
}
