//! The queue of jobs through the daemon: `examples/tenants` has several tenants, `examples/notes` follows the page.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    admin::dotmac,
    events::{Client, ONE, OTHER, answer, instances, problem, tenants},
    notes::notes,
    page,
    support::{Daemon, Postgres, eventually},
};

const JOBS: &str = "/api/v1/jobs";
const QUEUES: &str = "/api/v1/queues";

fn client<'d>(daemon: &'d Daemon, token: &'d str) -> Client<'d> {
    Client { daemon, token }
}

impl Client<'_> {
    async fn echo(&self, args: Value) -> Value {
        let body = json!({"kind": "system.echo", "args": args});
        let (status, job) = self.post(JOBS, body).await;
        assert_eq!(status, 202, "{job}");
        job
    }

    async fn job(&self, job: &Value) -> Value {
        let (status, found) = self.get(&path(job)).await;
        assert_eq!(status, 200, "{found}");
        found
    }

    async fn until_state(&self, job: &Value, state: &str) -> Value {
        eventually(&format!("the job to be {state}"), || async {
            let found = self.job(job).await;
            (found["state"] == state).then_some(found)
        })
        .await
    }
}

fn path(job: &Value) -> String {
    format!("{JOBS}/{}", job["id"].as_str().unwrap())
}

/// Enqueues a job that is done at once, and one that waits, and makes a schedule that is due soon.
pub async fn make_jobs(daemon: &Daemon, token: &str) {
    let one = client(daemon, token);
    one.echo(json!({"text": "now"})).await;
    let later =
        json!({"kind": "system.echo", "args": {"text": "a"}, "run_at": "2099-01-01T00:00:00Z"});
    assert_eq!(one.post(JOBS, later).await.0, 202);
    let often = json!({"name": "often", "kind": "system.echo", "args": {"text": "a"}, "every": 1});
    assert_eq!(one.post("/api/v1/schedules", often).await.0, 201);
}

/// The fields of a job, as the contract has them.
const FIELDS: [&str; 15] = [
    "id",
    "kind",
    "queue",
    "state",
    "priority",
    "attempt",
    "max_attempts",
    "run_at",
    "created_at",
    "started_at",
    "finished_at",
    "progress",
    "result",
    "last_error",
    "trace_id",
];

#[tokio::test]
async fn tenants_have_jobs_of_their_own_and_see_no_others_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| tenants(&url), &url).await;
        let (first, last) = (&daemons[0], daemons.last().unwrap());
        let (one, other) = (client(first, ONE), client(last, OTHER));
        let body = json!({"kind": "system.echo", "args": {"text": "hello", "fail_times": 1}, "priority": -3});
        let request = one.request(Method::POST, JOBS).json(&body);
        let request = request.header("idempotency-key", "one");
        let answered = request.try_clone().unwrap().send().await.unwrap();
        assert_eq!(answered.status(), 202);
        let location = answered.headers()["location"].to_str().unwrap().to_owned();
        let job: Value = answered.json().await.unwrap();
        assert_eq!(location, path(&job));
        let fields = job.as_object().unwrap();
        assert!(
            fields.len() == FIELDS.len() && FIELDS.iter().all(|it| fields.contains_key(*it)),
            "{job}"
        );
        assert_eq!(
            (&job["state"], &job["priority"], &job["attempt"]),
            (&json!("ready"), &json!(-3), &json!(0))
        );
        let again = request.send().await.unwrap();
        assert_eq!(again.headers()["idempotent-replayed"], "true");
        assert_eq!(again.json::<Value>().await.unwrap()["id"], job["id"]);

        // On whichever instance.
        let done = client(last, ONE).until_state(&job, "completed").await;
        assert_eq!(
            (&done["result"], &done["attempt"]),
            (&json!("hello"), &json!(2))
        );
        assert_eq!(done["last_error"]["code"], "echo_failed");
        assert_eq!(done["attempts"].as_array().unwrap().len(), 1);
        assert_eq!(done["args"], json!({"text": "hello", "fail_times": 1}));
        assert_eq!(done["progress"]["message"], "sleeping");

        assert_eq!(
            other.get(JOBS).await,
            (200, json!({"items": [], "next_cursor": null}))
        );
        for (method, path) in [
            (Method::GET, path(&job)),
            (Method::POST, format!("{}/cancel", path(&job))),
            (Method::POST, format!("{}/retry", path(&job))),
            (Method::POST, format!("{}/run-now", path(&job))),
        ] {
            let refused = answer(other.request(method, &path)).await;
            assert_eq!(problem(&refused), (404, "job_not_found", ""), "{path}");
        }
        assert_eq!(
            other.get(&format!("{JOBS}/stats")).await.1,
            json!({"kinds": []})
        );

        // A page, and a cursor that is good for it alone.
        let second = one.echo(json!({"text": "second"})).await;
        let (_, page) = one.get(&format!("{JOBS}?limit=1&kind=system.echo")).await;
        assert_eq!(page["items"][0]["id"], second["id"]);
        let cursor = page["next_cursor"].as_str().unwrap();
        let (_, next) = one
            .get(&format!("{JOBS}?limit=1&kind=system.echo&cursor={cursor}"))
            .await;
        assert_eq!(
            (&next["items"][0]["id"], &next["next_cursor"]),
            (&job["id"], &Value::Null)
        );
        for (by, query) in [
            (&one, "kind=system.other"),
            (&one, "state=ready"),
            (&other, "kind=system.echo"),
        ] {
            let refused = by
                .get(&format!("{JOBS}?limit=1&{query}&cursor={cursor}"))
                .await;
            assert_eq!(problem(&refused).1, "invalid_cursor", "{query}");
        }
        for daemon in daemons {
            assert_eq!(daemon.stop().await.code, 0);
        }
    }
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_field_that_is_wrong() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let args = json!({"text": "a"});
    for (body, expected) in [
        (
            json!({"kind": "system.eco", "args": args}),
            (422, "validation", "kind"),
        ),
        (
            json!({"kind": "system.echo", "args": {"text": 1}}),
            (422, "validation", "args"),
        ),
        (
            json!({"kind": "system.echo", "args": {"text": "a", "colour": 1}}),
            (422, "validation", "args"),
        ),
        (
            json!({"kind": "system.echo", "args": args, "queue": "no_such_queue"}),
            (422, "validation", "queue"),
        ),
        (
            json!({"kind": "system.echo", "args": args, "priority": 101}),
            (422, "validation", "priority"),
        ),
        (
            json!({"kind": "system.echo", "args": args, "unique": ""}),
            (422, "validation", "unique"),
        ),
        (
            json!({"kind": "system.echo", "args": args, "colour": 1}),
            (400, "unknown_fields", "colour"),
        ),
    ] {
        let refused = one.post(JOBS, body.clone()).await;
        let found = problem(&refused);
        assert_eq!(
            (found.0, found.2),
            (expected.0, expected.2),
            "{body}: {refused:?}"
        );
    }
    for (query, field) in [
        ("state=done", "state"),
        ("kind=Echo", "kind"),
        ("queue=a%20b", "queue"),
        ("colour=1", "colour"),
    ] {
        let refused = one.get(&format!("{JOBS}?{query}")).await;
        assert_eq!(problem(&refused), (400, "invalid_query", field), "{query}");
    }
    let absent = format!("{QUEUES}/no_such_queue/pause");
    let refused = answer(one.request(Method::POST, &absent)).await;
    assert_eq!(problem(&refused), (404, "queue_not_found", ""));
    let unauthenticated = daemon
        .client
        .get(format!("{}{JOBS}", daemon.base))
        .send()
        .await;
    assert_eq!(unauthenticated.unwrap().status(), 401);

    let job = one.echo(json!({"text": "done"})).await;
    one.until_state(&job, "completed").await;
    for act in ["cancel", "retry", "run-now"] {
        let refused = answer(one.request(Method::POST, &format!("{}/{act}", path(&job)))).await;
        assert_eq!(problem(&refused), (409, "job_state", ""), "{act}");
        assert!(
            refused.1["detail"]
                .as_str()
                .unwrap()
                .starts_with("the job is completed")
        );
    }
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn limits_of_jobs_are_told_by_name_and_a_long_text_is_echoed() {
    let postgres = Postgres::start().await;
    let daemon = tenants(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;
    let (one, other) = (client(&daemon, ONE), client(&daemon, OTHER));
    let echo = |text: String| json!({"kind": "system.echo", "args": {"text": text}});
    for (length, expected) in [
        (66_000, (413, "args_too_large", "args")),
        (20_000, (422, "validation", "args")),
    ] {
        let refused = one.post(JOBS, echo("a".repeat(length))).await;
        assert_eq!(problem(&refused), expected, "{refused:?}");
    }
    let text = "a".repeat(16_000);
    let job = one.echo(json!({"text": text})).await;
    let done = one.until_state(&job, "completed").await;
    assert_eq!(done["result"], json!(text));

    // 9,999 more that wait are put beside one.
    let later =
        json!({"kind": "system.echo", "args": {"text": "a"}, "run_at": "2099-01-01T00:00:00Z"});
    assert_eq!(other.post(JOBS, later.clone()).await.0, 202);
    let fill = "INSERT INTO job (id, tenant_id, kind, queue, state, priority, run_at, max_attempts, created_at) \
         SELECT gen_random_uuid(), tenant_id, kind, queue, state, priority, run_at, max_attempts, created_at \
         FROM job, generate_series(1, 9999) WHERE state = 'scheduled'";
    postgres.query(fill).await;
    let refused = eventually("the queue to be full", || async {
        let request = other.request(Method::POST, JOBS).json(&later);
        let answered = request.send().await.unwrap();
        (answered.status() == 429).then_some(answered)
    })
    .await;
    assert_eq!(refused.headers()["retry-after"], "5");
    let body: Value = refused.json().await.unwrap();
    assert_eq!(body["code"], "too_many_waiting", "{body}");
    // Of another tenant there is room.
    one.echo(json!({"text": "a"})).await;
    assert_eq!(daemon.stop().await.code, 0);
}

/// Jobs are scheduled, run at once, cancelled while they run and tried again; a key is unique; a queue is held.
#[tokio::test]
async fn jobs_and_queues_are_controlled_over_http_and_by_the_command_line() {
    let daemon = tenants("sqlite:dotmac.db")
        .env("DOTMAC_JOBS_STATUS_INTERVAL", "100ms")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let act = async |job: &Value, act: &str| {
        let acted = answer(one.request(Method::POST, &format!("{}/{act}", path(job)))).await;
        assert_eq!(acted.0, 200, "{acted:?}");
        acted.1
    };
    let later = json!({
        "kind": "system.echo", "args": {"text": "later"}, "run_at": "2099-01-01T00:00:00Z",
        "unique": {"key": "later", "period_seconds": 60},
    });
    let (_, job) = one.post(JOBS, later.clone()).await;
    assert_eq!(job["state"], "scheduled");
    assert_eq!(one.post(JOBS, later).await.1["id"], job["id"]);
    assert_eq!(act(&job, "cancel").await["state"], "cancelled");
    assert_eq!(act(&job, "retry").await["state"], "ready");
    one.until_state(&job, "completed").await;

    let job = one.echo(json!({"text": "long", "sleep_ms": 600_000})).await;
    let running = one.until_state(&job, "running").await;
    assert!(running["started_at"].is_string());
    assert_eq!(act(&job, "cancel").await["state"], "running");
    one.until_state(&job, "cancelled").await;

    let queue = format!("{QUEUES}/default");
    let paused = answer(one.request(Method::POST, &format!("{queue}/pause"))).await;
    assert_eq!((paused.0, &paused.1["paused"]), (200, &json!(true)));
    let held = one.echo(json!({"text": "held"})).await;
    eventually("`dotmac why` to name the cause", || async {
        let why = dotmac(daemon.directory(), &["why"]).await.text();
        let named = why.contains("oldest ready job") && why.contains("queue `default` is paused");
        named.then_some(())
    })
    .await;
    assert_eq!(one.job(&held).await["state"], "ready");
    let (_, queues) = one.get(QUEUES).await;
    assert_eq!(
        (&queues["items"][0]["name"], &queues["items"][0]["ready"]),
        (&json!("default"), &json!(1))
    );
    let (_, stats) = one.get(&format!("{JOBS}/stats")).await;
    assert_eq!(
        (&stats["kinds"][0]["kind"], &stats["kinds"][0]["ready"]),
        (&json!("system.echo"), &json!(1))
    );
    let resumed = answer(one.request(Method::POST, &format!("{queue}/resume"))).await;
    assert_eq!(resumed.1["paused"], false);
    one.until_state(&held, "completed").await;
    assert_eq!(daemon.stop().await.code, 0);
}

/// A session that is idle in its transaction keeps dead rows from being taken away.
#[tokio::test]
async fn what_holds_back_the_vacuum_is_named() {
    let postgres = Postgres::start().await;
    let daemon = tenants(&postgres.url())
        .env("DOTMAC_JOBS_STATUS_INTERVAL", "100ms")
        .env("DOTMAC_ADMIN_SOCKET", "admin.sock")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let connected = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls).await;
    let (reader, connection) = connected.unwrap();
    tokio::spawn(connection);
    let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
    reader.batch_execute(begin).await.unwrap();
    let pid = reader.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = pid.unwrap().get(0);
    let named = format!("vacuum held back by pid {pid}, idle in transaction 1");
    eventually("`dotmac why` to name the session", || async {
        let why = dotmac(daemon.directory(), &["why"]).await.text();
        why.contains(&named).then_some(())
    })
    .await;
    assert_eq!(daemon.stop().await.code, 0);
}

/// A job that runs when the daemon is asked to stop ends; one that takes longer goes on after the next start.
#[tokio::test]
async fn a_stop_lets_jobs_end_and_loses_none() {
    let postgres = Postgres::start().await;
    let start = || tenants(&postgres.url()).env("DOTMAC_SHUTDOWN_TIMEOUT", "8s");
    let daemon = start().spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let short = one.echo(json!({"text": "short", "sleep_ms": 1500})).await;
    let long = one.echo(json!({"text": "long", "sleep_ms": 20_000})).await;
    one.until_state(&short, "running").await;
    one.until_state(&long, "running").await;
    let stopped = daemon.stop().await;
    assert_eq!(stopped.code, 0, "{}", stopped.text());
    // The command looks, and runs nothing.
    for _ in 0..2 {
        let listed = start().run(&["jobs", "list", "--state", "ready"]).await;
        assert_eq!(listed.code, 0, "{}", listed.text());
        assert!(
            listed.text().contains(long["id"].as_str().unwrap()),
            "{}",
            listed.text()
        );
    }
    let daemon = start().spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let ended = one.job(&short).await;
    assert_eq!(
        (&ended["state"], &ended["attempt"]),
        (&json!("completed"), &json!(1))
    );
    let running = one.until_state(&long, "running").await;
    assert_eq!(
        (&running["attempt"], &running["crashes"]),
        (&json!(1), &json!(0))
    );
    let cancelled = answer(one.request(Method::POST, &format!("{}/cancel", path(&long)))).await;
    assert_eq!(cancelled.0, 200);
    one.until_state(&long, "cancelled").await;
    assert_eq!(daemon.stop().await.code, 0);
}

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = "docs/services/jobs.md";
    let compared = page::tour(page, "A tour in ten minutes", |_| notes()).await;
    assert!(compared >= 15, "{compared}");
}
