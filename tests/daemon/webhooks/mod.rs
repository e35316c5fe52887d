//! Webhooks through the daemon: `examples/tenants` has several tenants, and events that they make up; receivers are real servers
//! of HTTP.

mod endpoints;
mod faults;
mod hostile;
mod lanes;
mod receivers;
mod sending;

use std::{
    io,
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    events::{Client, ONE, answer, served},
    page,
    support::{
        Daemon,
        daemon::Builder,
        eventually,
        fakes::{FakeHttpServer, FakeRequest, write_answer},
    },
};

const WEBHOOKS: &str = "/api/v1/webhooks";
const DELIVERIES: &str = "/api/v1/webhook-deliveries";
const EVENTS: &str = "/api/v1/events";

/// 32 bytes, the same for all instances.
const MASTER_KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";

/// `examples/tenants` that can seal, and does not wait long for another attempt.
pub fn webhooks(url: &str) -> Builder {
    crate::events::tenants(url)
        .env("DOTMAC_APP_MASTER_KEY", MASTER_KEY)
        .env("DOTMAC_WEBHOOKS_RETRIES", "100ms,200ms,300ms")
        .env("DOTMAC_WEBHOOKS_STATUS_INTERVAL", "100ms")
}

/// A receiver that answers with `head` each time.
fn receiver(head: &'static str) -> FakeHttpServer {
    FakeHttpServer::start(move |_, stream| write_answer(stream, head, "thanks"))
}

/// A receiver that answers by the number of the request, from 0 on.
fn receiver_by_number(
    answer: impl Fn(usize, &mut TcpStream) -> io::Result<()> + Send + Sync + 'static,
) -> FakeHttpServer {
    let count = Arc::new(AtomicUsize::new(0));
    FakeHttpServer::start(move |_, stream| answer(count.fetch_add(1, SeqCst), stream))
}

fn client<'d>(daemon: &'d Daemon, token: &'d str) -> Client<'d> {
    Client { daemon, token }
}

fn path_of(webhook: &Value) -> String {
    format!("{WEBHOOKS}/{}", webhook["id"].as_str().unwrap())
}

impl Client<'_> {
    /// Makes an endpoint at `url` for these events.
    async fn webhook(&self, url: &str, events: &[&str]) -> Value {
        let body = json!({ "url": url, "description": "a test", "events": events });
        let (status, made) = self.post(WEBHOOKS, body).await;
        assert_eq!(status, 201, "{made}");
        made
    }

    /// Emits an event of a type of the tenant; its id.
    async fn event(&self, kind: &str, data: Value) -> String {
        let body = json!({ "type": kind, "subject": "orders/7", "data": data });
        let (status, event) = self.post(EVENTS, body).await;
        assert_eq!(status, 201, "{event}");
        event["id"].as_str().unwrap().to_owned()
    }

    /// The deliveries of an endpoint, the newest first.
    async fn deliveries(&self, webhook: &Value, query: &str) -> Vec<Value> {
        let id = webhook["id"].as_str().unwrap();
        let path = format!("{DELIVERIES}?limit=200&endpoint={id}{query}");
        let (status, page) = self.get(&path).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().unwrap().clone()
    }

    /// The same once there are so many in this state.
    async fn until_deliveries(&self, webhook: &Value, state: &str, count: usize) -> Vec<Value> {
        eventually(&format!("{count} deliveries to be {state}"), || async {
            let found = self.deliveries(webhook, &format!("&state={state}")).await;
            (found.len() == count).then_some(found)
        })
        .await
    }

    async fn detail(&self, delivery: &Value) -> Value {
        let id = delivery["id"].as_str().unwrap();
        let (status, detail) = self.get(&format!("{DELIVERIES}/{id}")).await;
        assert_eq!(status, 200, "{detail}");
        detail
    }

    /// Posts to a route of an endpoint, such as `/pause`.
    async fn act(&self, webhook: &Value, action: &str, body: Value) -> (u16, Value) {
        self.post(&format!("{}{action}", path_of(webhook)), body)
            .await
    }

    /// Sends a patch for the present version.
    async fn patch_webhook(&self, webhook: &Value, patch: Value) -> (u16, Value) {
        let path = path_of(webhook);
        served(|| {
            let request = self.request(Method::PATCH, &path).header("if-match", "*");
            request
                .header("content-type", "application/merge-patch+json")
                .body(patch.to_string())
        })
        .await
    }

    async fn state(&self, webhook: &Value) -> Value {
        let (status, found) = self.get(&path_of(webhook)).await;
        assert_eq!(status, 200, "{found}");
        found
    }
}

/// The signatures of a request that are right by `secret`: `whsec_…`.
fn right_signatures(request: &FakeRequest, secret: &str) -> usize {
    let key = BASE64
        .decode(secret.strip_prefix("whsec_").unwrap())
        .unwrap();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, &key);
    let is_right = |signature: &&str| {
        let tag = signature.strip_prefix("v1,").unwrap();
        let tag = BASE64.decode(tag).unwrap();
        aws_lc_rs::hmac::verify(&key, signed(request).as_bytes(), &tag).is_ok()
    };
    let signatures = request.header("webhook-signature").unwrap();
    signatures.split(' ').filter(is_right).count()
}

/// The signed content of a request.
fn signed(request: &FakeRequest) -> String {
    let header = |name| request.header(name).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    format!("{id}.{timestamp}.{}", request.body)
}

/// The requests once there are so many.
async fn until_asked(receiver: &FakeHttpServer, count: usize) -> Vec<FakeRequest> {
    eventually(&format!("{count} requests"), || async {
        let asked = receiver.asked();
        (asked.len() >= count).then_some(asked)
    })
    .await
}

/// A scrape of a program in which webhooks were delivered.
pub async fn measured() -> String {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let (receiver, one) = (receiver("204 No Content"), client(&daemon, ONE));
    let webhook = one.webhook(&receiver.address(), &["*"]).await;
    one.event("custom.order.paid.v1", json!({})).await;
    one.until_deliveries(&webhook, "delivered", 1).await;
    eventually("webhooks to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let names = ["dotmac_webhooks_pending", "dotmac_egress_attempts_total"];
        let is_there = |name: &&str| text.contains(&format!("\n{name}"));
        names.iter().all(is_there).then_some(text)
    })
    .await
}

#[tokio::test]
async fn a_webhook_is_no_ones_without_credentials() {
    let daemon = webhooks("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    for path in [WEBHOOKS, DELIVERIES, "/api/v1/webhook-events"] {
        let refused = answer(daemon.client.get(format!("{}{path}", daemon.base))).await;
        assert_eq!(refused.0, 401, "{path}");
    }
}

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = "docs/services/webhooks.md";
    let compared = page::tour(page, "A tour in ten minutes", |program| {
        Daemon::example(program).env("DOTMAC_DATABASE_URL", "sqlite:dotmac.db")
    })
    .await;
    assert!(compared >= 9, "{compared}");
}
