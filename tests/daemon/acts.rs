//! Acts of callers and operators upon jobs, queues, schedules, events, subscribers and the daemon itself are in the audit log,
//! each once, with the one who acted.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    admin::dotmac,
    events::Client,
    notes::{TOKEN, notes},
    support::{Postgres, daemon::Builder, eventually},
};

const JOBS: &str = "/api/v1/jobs";
const SCHEDULES: &str = "/api/v1/schedules";
const SYSTEM: &str = "00000000-0000-0000-0000-000000000000";
const USER: &str = "user:00000000-0000-0000-0000-000000000002";

fn recorded_notes(url: &str) -> Builder {
    notes()
        .env("DOTMAC_DATABASE_URL", url)
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
}

impl Client<'_> {
    /// The status, and the answer with its `ETag`.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        seen: Option<&str>,
        body: Value,
    ) -> (u16, Value, Option<String>) {
        let mut request = self.request(method, path);
        if let Some(seen) = seen {
            request = request.header("if-match", seen);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let tag = answer.headers().get("etag");
        let tag = tag.map(|it| it.to_str().unwrap().to_owned());
        let status = answer.status().as_u16();
        (status, answer.json().await.unwrap_or_default(), tag)
    }

    async fn done(&self, path: &str, body: Value) -> Value {
        let (status, answer, _) = self.exchange(Method::POST, path, None, body).await;
        assert!((200..300).contains(&status), "{path} {answer}");
        answer
    }

    /// The only entry of that act.
    async fn entry_of(&self, action: &str) -> Value {
        eventually(&format!("the entry of {action}"), || async {
            let path = format!("/api/v1/audit/events?action={action}");
            let (status, page) = self.get(&path).await;
            assert_eq!(status, 200, "{page}");
            let items = page["items"].as_array().unwrap();
            assert!(items.len() < 2, "{page}");
            items.first().cloned()
        })
        .await
    }
}

#[tokio::test]
async fn what_callers_do_is_recorded_with_the_caller_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = recorded_notes(&url).spawn().await;
        daemon.until("/ready", 200).await;
        let client = Client {
            daemon: &daemon,
            token: TOKEN,
        };
        let later = json!({
            "kind": "system.echo", "args": {"text": "later"}, "run_at": "2099-01-01T00:00:00Z",
        });
        let job = client.done(JOBS, later).await;
        let id = job["id"].as_str().unwrap();
        let of_job = format!("{JOBS}/{id}");
        // A refused act has no entry.
        let retry = format!("{of_job}/retry");
        let refused = client
            .exchange(Method::POST, &retry, None, Value::Null)
            .await;
        assert_eq!(refused.0, 409);
        client
            .done("/api/v1/queues/default/pause", Value::Null)
            .await;
        client.done(&format!("{of_job}/run-now"), Value::Null).await;
        client.done(&format!("{of_job}/cancel"), Value::Null).await;
        client.done(&retry, Value::Null).await;
        client
            .done("/api/v1/queues/default/resume", Value::Null)
            .await;
        let schedule = json!({
            "name": "nightly", "kind": "system.echo", "args": {"text": "good night"}, "cron": "30 2 * * *",
        });
        let (status, schedule, tag) = client
            .exchange(Method::POST, SCHEDULES, None, schedule)
            .await;
        assert_eq!(status, 201, "{schedule}");
        let schedule_id = schedule["id"].as_str().unwrap();
        let of_schedule = format!("{SCHEDULES}/{schedule_id}");
        client
            .done(&format!("{of_schedule}/trigger"), Value::Null)
            .await;
        let paused = json!({"paused": true});
        let (status, changed, tag) = client
            .exchange(Method::PATCH, &of_schedule, tag.as_deref(), paused)
            .await;
        assert_eq!(status, 200, "{changed}");
        let deleted = client.exchange(Method::DELETE, &of_schedule, tag.as_deref(), Value::Null);
        assert_eq!(deleted.await.0, 204);
        let event = json!({"type": "custom.order.paid.v1", "data": {"order": 7}});
        let event = client.done("/api/v1/events", event).await;
        let event_id = event["id"].as_str().unwrap();
        let subscriber = "/api/v1/events/subscribers/notes.tags";
        let beginning = json!({"to": "beginning"});
        client
            .done(&format!("{subscriber}/rewind"), beginning)
            .await;
        client
            .done(&format!("{subscriber}/retry"), Value::Null)
            .await;

        for (action, kind, id, details) in [
            (
                "job_enqueue",
                "jobs.job",
                id,
                json!({"kind": "system.echo"}),
            ),
            ("job_run_now", "jobs.job", id, json!({})),
            ("job_cancel", "jobs.job", id, json!({})),
            ("job_retry", "jobs.job", id, json!({})),
            ("queue_pause", "jobs.queue", "default", json!({})),
            ("queue_resume", "jobs.queue", "default", json!({})),
            ("schedule_add", "jobs.schedule", schedule_id, json!({})),
            ("schedule_trigger", "jobs.schedule", schedule_id, json!({})),
            (
                "schedule_change",
                "jobs.schedule",
                schedule_id,
                json!({"paused": "true"}),
            ),
            ("schedule_delete", "jobs.schedule", schedule_id, json!({})),
            (
                "event_publish",
                "events.event",
                event_id,
                json!({"type": "custom.order.paid.v1"}),
            ),
            (
                "subscriber_rewind",
                "events.subscriber",
                "notes.tags",
                json!({"to": "beginning"}),
            ),
            (
                "subscriber_retry",
                "events.subscriber",
                "notes.tags",
                json!({}),
            ),
        ] {
            let entry = client.entry_of(action).await;
            assert_eq!(
                entry["resource"],
                json!({"type": kind, "id": id}),
                "{entry}"
            );
            let said = (&entry["actor"], &entry["outcome"], &entry["details"]);
            assert_eq!(said, (&json!(USER), &json!("success"), &details), "{entry}");
        }
        assert_eq!(daemon.stop().await.code, 0);
    }
}

/// Acts on the command line and over the admin socket are in the chain of the system, except those of a tenant.
#[tokio::test]
async fn what_operators_do_is_recorded() {
    let url = "sqlite:dotmac.db";
    let daemon = recorded_notes(url).spawn().await;
    daemon.until("/ready", 200).await;
    let client = Client {
        daemon: &daemon,
        token: TOKEN,
    };
    let later = json!({
        "kind": "system.echo", "args": {"text": "later"}, "run_at": "2099-01-01T00:00:00Z",
    });
    let job = client.done(JOBS, later).await;
    let id = job["id"].as_str().unwrap();
    let command = async |arguments: &[&str]| {
        let ended = recorded_notes(url)
            .run_in(daemon.directory(), arguments)
            .await;
        assert_eq!(ended.code, 0, "{arguments:?} {}", ended.text());
        ended.text()
    };
    command(&["jobs", "cancel", id]).await;
    let nightly = json!({
        "name": "nightly", "kind": "system.echo", "args": {"text": "a"}, "cron": "0 3 * * *",
    });
    let schedule = client.done("/api/v1/schedules", nightly).await;
    let schedule = schedule["id"].as_str().unwrap();
    let paused = command(&["schedules", "pause", schedule]).await;
    assert!(
        paused.contains("nightly") && paused.contains("paused"),
        "{paused}"
    );
    let triggered = command(&["schedules", "trigger", schedule]).await;
    assert!(triggered.contains(r#""state":"triggered""#), "{triggered}");
    assert!(
        !command(&["schedules", "resume", schedule])
            .await
            .contains("paused")
    );
    let entry = client.entry_of("schedule_trigger").await;
    assert_eq!(entry["resource"]["id"], schedule, "{entry}");
    let unknown = recorded_notes(url)
        .run_in(daemon.directory(), &["schedules", "trigger", id])
        .await;
    assert_ne!(unknown.code, 0, "a job is not a schedule");
    command(&["queues", "pause", "default"]).await;
    command(&["events", "rewind", "notes.tags", "beginning"]).await;
    let entry = client.entry_of("job_cancel").await;
    assert_eq!(entry["actor"], "system:work on jobs for an operator");
    for arguments in [
        &["log-level", "debug", "--for", "1m"][..],
        &["restart", "event_retention"],
        &["drain"],
        &["undrain"],
    ] {
        let said = dotmac(daemon.directory(), arguments).await;
        assert_eq!(said.code, 0, "{arguments:?} {}", said.text());
    }
    let listed = eventually("the entries of the system", || async {
        let listed = command(&["audit", "list", "--tenant", SYSTEM]).await;
        listed.contains("readiness_on").then_some(listed)
    })
    .await;
    let lines = listed.lines();
    let entries: Vec<Value> = lines.map(|it| serde_json::from_str(it).unwrap()).collect();
    for (action, resource) in [
        ("queue_pause", "default"),
        ("subscriber_rewind", "notes.tags"),
        ("log_level_change", "log_level"),
        ("component_restart", "event_retention"),
        ("readiness_off", "readiness"),
        ("readiness_on", "readiness"),
    ] {
        let of_act = entries.iter().filter(|it| it["action"] == action);
        let [entry] = of_act.collect::<Vec<_>>()[..] else {
            unreachable!("one {action} in {listed}")
        };
        assert_eq!(entry["resource"]["id"], resource, "{entry}");
        let is_by_socket = entry["resource"]["type"] == "admin.daemon";
        let by = entry["details"]["by"].as_str().unwrap_or_default();
        assert_eq!(by.starts_with("user "), is_by_socket, "{entry}");
    }
    assert_eq!(daemon.stop().await.code, 0);
}
