//! Notifications through the daemon, with a real relay: `examples/tenants` has several tenants.

mod acting;
mod attachments;
mod bounces;
mod campaign;
mod digests;
mod faults;
mod hostile;
mod inboxes;
mod operating;
mod push_messages;
mod quiet_hours;
mod reports;
mod sending;
mod templates;
mod texts;
mod urls;

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    events::{Client, ONE, OTHER, problem, tenants},
    support::{
        Daemon, Postgres, Smtp,
        daemon::Builder,
        eventually,
        fakes::{FakeHttpServer, write_answer},
        free_port,
    },
};

/// 32 bytes, the same for all instances.
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

const NOTIFICATIONS: &str = "/api/v1/notifications";
const DELIVERIES: &str = "/api/v1/deliveries";
const JOBS: &str = "/api/v1/jobs";

/// A program that hands mail to a relay on that port, in the clear.
fn mailing(url: &str, port: u16) -> Builder {
    tenants(url)
        .env("DOTMAC_SMTP_HOST", "127.0.0.1")
        .env("DOTMAC_SMTP_PORT", port)
        .env("DOTMAC_SMTP_TLS", "none")
        .env("DOTMAC_SMTP_FROM_ADDRESS", "noreply@example.com")
        .env("DOTMAC_SMTP_FROM_NAME", "The House")
        .env("DOTMAC_SMTP_TIMEOUT", "5s")
        .env("DOTMAC_NOTIFICATIONS_STATUS_INTERVAL", "100ms")
}

/// One that runs, on its own database.
async fn mailing_daemon(port: u16) -> Daemon {
    let daemon = mailing("sqlite:dotmac.db", port).spawn().await;
    daemon.until("/ready", 200).await;
    daemon
}

fn client<'d>(daemon: &'d Daemon, token: &'d str) -> Client<'d> {
    Client { daemon, token }
}

/// A mail to that address.
fn mail_to(address: &str) -> Value {
    json!({
        "to": [{ "email": address }],
        "content": { "subject": "Hello", "text": "Good day.\nSee https://example.com/a?b=1" },
    })
}

impl Client<'_> {
    /// Sends a notification; what was answered.
    async fn send(&self, body: Value) -> Value {
        let (status, sent) = self.post(NOTIFICATIONS, body).await;
        assert_eq!(status, 202, "{sent}");
        sent
    }

    /// Sends a mail; the path of its delivery.
    async fn mail(&self, address: &str) -> String {
        let sent = self.send(mail_to(address)).await;
        delivery(&sent)
    }

    async fn delivery_state(&self, delivery: &str) -> Value {
        let (status, found) = self.get(delivery).await;
        assert_eq!(status, 200, "{found}");
        found
    }

    async fn until_delivery(&self, delivery: &str, state: &str) -> Value {
        eventually(&format!("a delivery to be {state}"), || async {
            let found = self.delivery_state(delivery).await;
            (found["state"] == state).then_some(found)
        })
        .await
    }

    /// Waits until there was an attempt that is followed by another; the delivery.
    async fn until_retrying(&self, delivery: &str, attempts: i64) -> Value {
        eventually("an attempt to fail", || async {
            let found = self.delivery_state(delivery).await;
            (found["state"] == "queued" && found["attempts"] == attempts).then_some(found)
        })
        .await
    }

    /// Does not wait for the next attempt.
    async fn hurry(&self) {
        eventually("a job to wait", || async {
            let path = format!("{JOBS}?kind=notifications.deliver&state=retrying");
            let jobs = self.get(&path).await.1;
            let id = jobs["items"].as_array()?.first()?["id"]
                .as_str()?
                .to_owned();
            let run = self.post(&format!("{JOBS}/{id}/run-now"), json!({})).await;
            (run.0 == 200).then_some(())
        })
        .await;
    }
}

/// A next hop that answers with the status that stands at the end of the path, or with `head`.
fn next_hop(head: &'static str) -> FakeHttpServer {
    FakeHttpServer::start(move |request, stream| {
        let last = request.path().rsplit('/').next().unwrap_or_default();
        match last.parse::<u16>() {
            Ok(status) => write_answer(stream, &format!("{status} As Asked"), ""),
            Err(_) => write_answer(stream, head, ""),
        }
    })
}

/// The path of the first delivery.
fn delivery(sent: &Value) -> String {
    let id = sent["deliveries"][0]["id"].as_str().unwrap();
    format!("{DELIVERIES}/{id}")
}

/// A moment in so many seconds, RFC 3339.
fn in_seconds(seconds: i64) -> String {
    let time = chrono::Utc::now() + chrono::TimeDelta::seconds(seconds);
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// A scrape of a program whose relay is away, and which has mail for it.
pub async fn measured() -> String {
    let daemon = mailing_daemon(free_port()).await;
    client(&daemon, ONE).mail("ann@example.com").await;
    eventually("the mail to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let is_there = |name: &str| text.contains(&format!("\n{name}"));
        let names = [
            "dotmac_notifications_deliveries_total{",
            "dotmac_notifications_attempt_duration_seconds_bucket{",
            "dotmac_notifications_queued{",
            "dotmac_notifications_oldest_due_seconds{",
        ];
        names.into_iter().all(is_there).then_some(text)
    })
    .await
}

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = "docs/services/notifications.md";
    let compared = crate::page::tour(page, "A tour in ten minutes", |_| {
        tenants("sqlite:dotmac.db")
    })
    .await;
    assert!(compared >= 12, "{compared}");
}
