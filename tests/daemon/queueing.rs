//! What operators and callers see of the queue beyond single jobs: its slots, and who has a unique key.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    admin::dotmac,
    events::{Client, ONE, answer, problem, tenants},
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, Postgres, eventually},
};

const JOBS: &str = "/api/v1/jobs";

async fn enqueue(client: &Client<'_>, body: Value) -> String {
    let (status, job) = client.post(JOBS, body).await;
    assert_eq!(status, 202, "{job}");
    job["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn slots_of_the_instance_are_in_the_metrics() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: ONE,
    };
    let labels = "kind=\"system.echo\",queue=\"default\"";
    let is_shown = async |name: &str, value: i64| {
        let text = daemon.get("/metrics").await.text().await.unwrap();
        text.lines().any(|line| {
            line.starts_with(&format!("{name}{{"))
                && line.contains(labels)
                && line.ends_with(&format!(" {value}"))
        })
    };
    assert!(is_shown("dotmac_jobs_slots", 8).await);
    assert!(is_shown("dotmac_jobs_slots_in_use", 0).await);
    let sleeping = json!({"kind": "system.echo", "args": {"text": "a", "sleep_ms": 60_000}});
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(enqueue(&client, sleeping.clone()).await);
    }
    eventually("the slots to be in use", || async {
        is_shown("dotmac_jobs_slots_in_use", 3).await.then_some(())
    })
    .await;
    for job in jobs {
        let cancel = format!("{JOBS}/{job}/cancel");
        assert_eq!(answer(client.request(Method::POST, &cancel)).await.0, 200);
    }
    eventually("the slots to be free", || async {
        is_shown("dotmac_jobs_slots_in_use", 0).await.then_some(())
    })
    .await;
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn a_retry_of_a_job_whose_key_another_has_is_refused() {
    let daemon: Daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: ONE,
    };
    let later = json!({
        "kind": "system.echo", "args": {"text": "a"}, "unique": "key", "run_at": "2099-01-01T00:00:00Z",
    });
    let act = async |job: &str, act: &str| {
        let path = format!("{JOBS}/{job}/{act}");
        answer(client.request(Method::POST, &path)).await
    };
    let first = enqueue(&client, later.clone()).await;
    assert_eq!(act(&first, "cancel").await.0, 200);
    let second = enqueue(&client, later).await;
    assert_ne!(first, second);
    let refused = act(&first, "retry").await;
    assert_eq!(problem(&refused), (409, "unique_key_taken", ""));
    let detail = refused.1["detail"].as_str().unwrap();
    assert!(detail.contains(&second), "{detail}");
    assert_eq!(act(&second, "cancel").await.0, 200);
    assert_eq!(act(&first, "retry").await.0, 200);
    assert_eq!(daemon.stop().await.code, 0);
}

/// A server that answers nothing for a while, and then goes on as if nothing had been.
#[tokio::test]
async fn events_and_jobs_go_on_after_postgresql_was_frozen_and_why_names_it() {
    let postgres = Postgres::start().await;
    let daemon = notes()
        .env("DOTMAC_DATABASE_URL", postgres.url())
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    let add = async |count: usize| {
        for _ in 0..count {
            let note = json!({"text": "Buy milk", "tags": ["home"]});
            assert_eq!(client.post(NOTES, note).await.0, 201);
        }
    };
    let echo = |text: &str, sleep_ms: u64| json!({"kind": "system.echo", "args": {"text": text, "sleep_ms": sleep_ms}});
    let mut jobs = Vec::new();
    for sleep_ms in [0, 3000, 3000] {
        jobs.push(enqueue(&client, echo("before", sleep_ms)).await);
    }
    add(5).await;
    postgres.freeze();
    for component in ["db", "job_runner"] {
        eventually(&format!("`dotmac why` to name {component}"), || async {
            let why = dotmac(daemon.directory(), &["why"]).await.text();
            let named = why.lines().any(|line| line.contains(component));
            (named && why.contains("unreachable")).then_some(())
        })
        .await;
    }
    postgres.thaw();
    daemon.until("/ready", 200).await;
    jobs.push(enqueue(&client, echo("after", 0)).await);
    add(5).await;
    for job in jobs {
        eventually("the job to be completed", || async {
            let (_, job) = client.get(&format!("{JOBS}/{job}")).await;
            (job["state"] == "completed").then_some(())
        })
        .await;
    }
    eventually("each note to be counted once", || async {
        let (_, tags) = client.get(&format!("{NOTES}/tags")).await;
        let notes = tags["items"][0]["notes"].as_i64()?;
        assert!(notes <= 10, "{tags}");
        (notes == 10).then_some(())
    })
    .await;
    assert_eq!(daemon.stop().await.code, 0);
}
