//! Schedules through the daemon: `examples/tenants` has several tenants.

use reqwest::Method;
use serde_json::{Value, json};

use crate::{
    events::{Client, ONE, OTHER, answer, instances, problem, tenants},
    support::{Postgres, eventually},
};

const SCHEDULES: &str = "/api/v1/schedules";

/// The fields of a schedule.
const FIELDS: [&str; 13] = [
    "id",
    "name",
    "kind",
    "args",
    "cron",
    "every",
    "zone",
    "missed",
    "grace",
    "paused",
    "next_at",
    "created_at",
    "updated_at",
];

fn path(schedule: &Value) -> String {
    format!("{SCHEDULES}/{}", schedule["id"].as_str().unwrap())
}

fn echo(name: &str, timing: Value) -> Value {
    let mut body = json!({"name": name, "kind": "system.echo", "args": {"text": "hello"}});
    let fields = body.as_object_mut().unwrap();
    fields.extend(timing.as_object().unwrap().clone());
    body
}

impl Client<'_> {
    async fn patch(&self, schedule: &Value, tag: &str, patch: Value) -> (u16, Value) {
        let request = self.request(Method::PATCH, &path(schedule));
        answer(request.header("if-match", tag).json(&patch)).await
    }

    async fn occurrences(&self, schedule: &Value) -> Vec<Value> {
        let (status, page) = self.get(&format!("{}/occurrences", path(schedule))).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn schedules_are_made_changed_triggered_and_deleted_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemons = instances(|| tenants(&url), &url).await;
        let client = |daemon, token| Client { daemon, token };
        let (first, last) = (&daemons[0], daemons.last().unwrap());
        let (one, other) = (client(first, ONE), client(last, OTHER));
        let body = echo(
            "nightly",
            json!({"cron": "30 2 * * *", "zone": "Europe/Berlin"}),
        );
        let request = one.request(Method::POST, SCHEDULES).json(&body);
        let request = request.header("idempotency-key", "nightly");
        let again = request.try_clone().unwrap();
        let made = request.send().await.unwrap();
        assert_eq!(made.status(), 201);
        assert_eq!(made.headers()["etag"], "\"1\"");
        let location = made.headers()["location"].to_str().unwrap().to_owned();
        let schedule: Value = made.json().await.unwrap();
        assert_eq!(location, path(&schedule));
        let fields = schedule.as_object().unwrap();
        assert!(
            fields.len() == FIELDS.len() && FIELDS.iter().all(|it| fields.contains_key(*it)),
            "{schedule}"
        );
        assert!(schedule["next_at"].as_str().unwrap().contains(":30:00"));
        assert_eq!(
            (&schedule["missed"], &schedule["grace"]),
            (&json!("skip"), &json!("1h"))
        );
        assert_eq!(answer(again).await, (201, schedule.clone()));
        let exists = one.post(SCHEDULES, body.clone()).await;
        assert_eq!(problem(&exists), (409, "schedule_exists", "name"));
        // A name is taken within its tenant alone.
        assert_eq!(other.post(SCHEDULES, body).await.0, 201);

        // Held, triggered all the same, and resumed.
        let held =
            json!({"paused": true, "every": "15m", "missed": "run_once", "name": "quarterly"});
        let unseen = answer(one.request(Method::PATCH, &path(&schedule)).json(&held)).await;
        assert_eq!(problem(&unseen), (428, "precondition_required", ""));
        let (status, changed) = one.patch(&schedule, "\"1\"", held.clone()).await;
        assert_eq!(status, 200, "{changed}");
        assert_eq!(
            (
                &changed["every"],
                &changed["cron"],
                &changed["zone"],
                &changed["next_at"]
            ),
            (&json!("15m"), &Value::Null, &json!("UTC"), &Value::Null)
        );
        assert_eq!(one.patch(&schedule, "\"1\"", held).await.0, 412);
        let trigger = format!("{}/trigger", path(&schedule));
        let (status, triggered) = answer(one.request(Method::POST, &trigger)).await;
        assert_eq!((status, &triggered["state"]), (202, &json!("triggered")));
        assert_eq!(
            one.occurrences(&schedule).await,
            std::slice::from_ref(&triggered)
        );
        let job = format!("/api/v1/jobs/{}", triggered["job_id"].as_str().unwrap());
        eventually("the job to be done", || async {
            let (_, job) = client(last, ONE).get(&job).await;
            (job["state"] == "completed").then_some(())
        })
        .await;
        let (_, resumed) = one
            .patch(&schedule, "\"2\"", json!({"paused": false}))
            .await;
        assert!(resumed["next_at"].is_string(), "{resumed}");

        // No other tenant sees it.
        for (method, path) in [
            (Method::GET, path(&schedule)),
            (Method::GET, format!("{}/occurrences", path(&schedule))),
            (Method::POST, trigger),
            (Method::DELETE, path(&schedule)),
        ] {
            let request = other.request(method, &path).header("if-match", "*");
            assert_eq!(
                problem(&answer(request).await),
                (404, "schedule_not_found", ""),
                "{path}"
            );
        }
        let (_, listed) = one.get(SCHEDULES).await;
        assert_eq!(listed["items"].as_array().unwrap().len(), 1);
        assert_eq!(listed["items"][0]["name"], "quarterly");

        let request = one.request(Method::DELETE, &path(&schedule));
        assert_eq!(answer(request.header("if-match", "\"3\"")).await.0, 204);
        assert_eq!(problem(&one.get(&path(&schedule)).await).0, 404);
        for daemon in daemons {
            assert_eq!(daemon.stop().await.code, 0);
        }
    }
}

/// Each second is one job, done by either instance; one of them ends meanwhile.
#[tokio::test]
async fn a_schedule_goes_on_when_an_instance_ends_and_no_time_is_doubled() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    let mut daemons = instances(|| tenants(&url), &url).await;
    let ended = daemons.pop().unwrap();
    let one = Client {
        daemon: &daemons[0],
        token: ONE,
    };
    let body = echo("each second", json!({"every": 1, "missed": "run_all"}));
    let (status, schedule) = one.post(SCHEDULES, body).await;
    assert_eq!((status, &schedule["every"]), (201, &json!("1s")));
    let until = async |count: usize| {
        eventually(&format!("{count} occurrences"), || async {
            let found = one.occurrences(&schedule).await;
            (found.len() >= count).then_some(found)
        })
        .await
    };
    until(3).await;
    assert_eq!(ended.stop().await.code, 0);
    let found = until(6).await;
    let moment = |it: &Value| {
        it["due_at"]
            .as_str()
            .unwrap()
            .parse::<chrono::DateTime<chrono::Utc>>()
    };
    let times: Vec<_> = found.iter().map(|it| moment(it).unwrap()).collect();
    for pair in times.windows(2) {
        assert_eq!((pair[0] - pair[1]).num_milliseconds(), 1000, "{times:?}");
    }
    assert!(
        found.iter().all(|it| it["state"] == "enqueued"),
        "{found:?}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_schedule_is_refused_with_each_field_that_is_wrong() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = Client {
        daemon: &daemon,
        token: ONE,
    };
    for (timing, field) in [
        (json!({}), "cron"),
        (json!({"cron": "* * * *"}), "cron"),
        (json!({"cron": "61 * * * *"}), "cron"),
        (json!({"cron": "* * * * * *"}), "cron"),
        (json!({"cron": "0 0 30 2 *"}), "cron"),
        (json!({"cron": "* * * * *", "every": "1m"}), "every"),
        (
            json!({"cron": "* * * * *", "zone": "Europe/Atlantis"}),
            "zone",
        ),
        (json!({"every": "1m", "zone": "Europe/Berlin"}), "zone"),
        (json!({"every": "500ms"}), "every"),
        (json!({"every": 0}), "every"),
        (json!({"every": "1m", "missed": "some"}), "missed"),
        (json!({"every": "1m", "grace": "soon"}), "grace"),
        (json!({"every": "1m", "kind": "system.eco"}), "kind"),
        (json!({"every": "1m", "args": {"text": 1}}), "args"),
        (json!({"every": "1m", "name": ""}), "name"),
    ] {
        let refused = one.post(SCHEDULES, echo("wrong", timing.clone())).await;
        assert_eq!(
            problem(&refused),
            (422, "validation", field),
            "{timing}: {refused:?}"
        );
    }
    let several = json!({"name": "a", "kind": "system.eco", "cron": "x", "missed": "x"});
    let (_, refused) = one.post(SCHEDULES, several).await;
    assert_eq!(refused["errors"].as_array().unwrap().len(), 3, "{refused}");
    let unknown = one
        .post(SCHEDULES, echo("a", json!({"every": 1, "colour": 1})))
        .await;
    assert_eq!((unknown.0, problem(&unknown).2), (400, "colour"));
    assert_eq!(one.get(SCHEDULES).await.1["items"], json!([]));
    assert_eq!(daemon.stop().await.code, 0);
}

/// The limit of a tenant, and a kind that a later release of the program no longer has.
#[tokio::test]
async fn limits_of_schedules_and_absent_kinds_are_named_by_their_codes() {
    let postgres = Postgres::start().await;
    let url = postgres.url();
    let daemons = instances(|| tenants(&url), &url).await;
    let client = |daemon, token| Client { daemon, token };
    let (one, other) = (client(&daemons[0], ONE), client(&daemons[1], OTHER));
    let (status, schedule) = one
        .post(SCHEDULES, echo("first", json!({"every": "1h"})))
        .await;
    assert_eq!(status, 201, "{schedule}");
    let fill = "INSERT INTO job_schedule (id, tenant_id, name, kind, args, zone, every_seconds, missed, grace_seconds, \
         anchor_at, created_at, updated_at) \
         SELECT gen_random_uuid(), tenant_id, n::text, kind, args, zone, every_seconds, missed, grace_seconds, \
         anchor_at, created_at, updated_at FROM job_schedule, generate_series(2, 1000) AS n";
    postgres.query(fill).await;
    let more = echo("one more", json!({"every": "1h"}));
    let refused = one.post(SCHEDULES, more.clone()).await;
    assert_eq!(
        problem(&refused),
        (409, "too_many_schedules", ""),
        "{refused:?}"
    );
    assert!(
        refused.1["detail"].as_str().unwrap().contains("1000"),
        "{refused:?}"
    );
    // Another tenant has room.
    assert_eq!(other.post(SCHEDULES, more.clone()).await.0, 201);
    let request = one.request(Method::DELETE, &path(&schedule));
    assert_eq!(answer(request.header("if-match", "*")).await.0, 204);
    let (status, schedule) = one.post(SCHEDULES, more).await;
    assert_eq!(status, 201, "{schedule}");

    let id = schedule["id"].as_str().unwrap();
    postgres
        .query(&format!(
            "UPDATE job_schedule SET kind = 'system.gone' WHERE id = '{id}'"
        ))
        .await;
    let trigger = format!("{}/trigger", path(&schedule));
    for client in [one, client(&daemons[1], ONE)] {
        let refused = answer(client.request(Method::POST, &trigger)).await;
        assert_eq!(problem(&refused), (409, "kind_absent", ""), "{refused:?}");
    }
    assert!(one.occurrences(&schedule).await.is_empty());
    for daemon in daemons {
        assert_eq!(daemon.stop().await.code, 0);
    }
}
