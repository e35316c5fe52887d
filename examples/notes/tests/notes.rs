//! The service from outside: the real program on both back ends, and without its database.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use dotmac_testkit::{Daemon, Postgres, daemon::Builder, eventually};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

/// The program with the database at `url`.
fn notes(url: &str) -> Builder {
    Daemon::program(env!("CARGO_BIN_EXE_notes").into())
        .env("DOTMAC_DATABASE_URL", url)
        .env("DOTMAC_NOTES_TOKEN", "correct-horse")
}

fn request(to: &Daemon, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}/api/v1/notes{path}", to.base);
    to.client.request(method, url).bearer_auth("correct-horse")
}

/// Status and JSON of the answer.
async fn answer(request: RequestBuilder) -> (u16, Value) {
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// The same, asked again while the database is too busy, as it is on a loaded machine.
async fn settled(request: RequestBuilder) -> (u16, Value) {
    let ask = || async {
        let answer = answer(request.try_clone().unwrap()).await;
        (answer.0 != 503).then_some(answer)
    };
    eventually("an answer other than 503", ask).await
}

/// The same with the code of a problem in place of the problem.
async fn code(request: RequestBuilder) -> (u16, String) {
    let (status, body) = settled(request).await;
    (status, body["code"].as_str().unwrap_or_default().to_owned())
}

async fn add(daemon: &Daemon, note: Value) -> (u16, Value) {
    settled(request(daemon, Method::POST, "").json(&note)).await
}

async fn get(daemon: &Daemon, path: &str) -> (u16, Value) {
    settled(request(daemon, Method::GET, path)).await
}

async fn tour(daemon: &Daemon) {
    daemon.until("/ready", 200).await;
    let new = json!({ "text": "Buy milk", "tags": ["home", "home", "a"] });
    let (status, note) = add(daemon, new).await;
    assert_eq!((status, &note["tags"]), (201, &json!(["a", "home"])));
    let path = format!("/{}", note["id"].as_str().unwrap());
    assert_eq!(get(daemon, &path).await, (200, note.clone()));
    let all = json!({ "items": [note], "next_cursor": null });
    assert_eq!(get(daemon, "").await, (200, all));
    assert_eq!(get(daemon, "?sort=text").await.1["code"], "invalid_query");

    let (status, problem) = add(daemon, json!({ "text": "x".repeat(21) })).await;
    assert_eq!((status, &problem["code"]), (422, &"note_too_long".into()));
    assert_eq!(daemon.get("/api/v1/notes").await.status(), 401);

    let any = request(daemon, Method::DELETE, &path).header("if-match", "*");
    assert_eq!(settled(any).await.0, 204);
    assert_eq!(get(daemon, &path).await.0, 404);
    add(daemon, json!({ "text": "old soon" })).await;
    eventually("the worker to delete it", || async {
        (get(daemon, "").await.1["items"] == json!([])).then_some(())
    })
    .await;
}

#[tokio::test]
async fn notes_are_kept_found_deleted_and_swept_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db", &postgres.url()] {
        let notes = notes(url)
            .env("DOTMAC_NOTES_MAX_LENGTH", 20)
            .env("DOTMAC_NOTES_KEEP", "10s")
            .env("DOTMAC_NOTES_SWEEP_INTERVAL", "200ms");
        tour(&notes.spawn().await).await;
    }
}

#[tokio::test]
async fn a_note_is_changed_and_deleted_by_clients_that_have_seen_it_as_it_is() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db", &postgres.url()] {
        let daemon = notes(url).env("DOTMAC_NOTES_MAX_LENGTH", 20).spawn().await;
        daemon.until("/ready", 200).await;
        let (_, note) = add(&daemon, json!({ "text": "Buy milk", "tags": ["home"] })).await;
        let path = format!("/{}", note["id"].as_str().unwrap());
        let change = |seen: &str, patch: Value| {
            let request = request(&daemon, Method::PATCH, &path).header("if-match", seen);
            request
                .header("content-type", "application/merge-patch+json")
                .body(patch.to_string())
        };
        let found = request(&daemon, Method::GET, &path).send().await.unwrap();
        assert_eq!(found.headers()["etag"], "\"1\"");

        let blind = request(&daemon, Method::PATCH, &path).json(&json!({ "text": "x" }));
        let required = (428, "precondition_required".to_owned());
        assert_eq!(code(blind).await, required);
        let blind = request(&daemon, Method::DELETE, &path);
        assert_eq!(code(blind).await, required);

        let changed = change("\"1\"", json!({ "text": "Buy bread" })).send();
        let changed = changed.await.unwrap();
        assert_eq!(changed.headers()["etag"], "\"2\"");
        let changed: Value = changed.json().await.unwrap();
        assert_eq!(changed["text"], "Buy bread");
        assert_eq!(
            changed["tags"],
            json!(["home"]),
            "what is not in a patch stays"
        );
        assert_eq!(changed["created_at"], note["created_at"]);
        assert!(changed["updated_at"].as_str() > note["updated_at"].as_str());

        let stale = (412, "precondition_failed".to_owned());
        assert_eq!(code(change("\"1\"", json!({ "text": "x" }))).await, stale);
        let deleted = request(&daemon, Method::DELETE, &path).header("if-match", "\"1\"");
        assert_eq!(code(deleted).await, stale);
        for (patch, problem) in [
            (json!({ "text": null }), (422, "validation")),
            (json!({ "text": "" }), (422, "validation")),
            (json!({ "tags": [""] }), (422, "validation")),
            (json!({ "text": "x".repeat(21) }), (422, "note_too_long")),
            (json!({ "id": "x" }), (400, "unknown_fields")),
        ] {
            let (status, code) = code(change("\"2\"", patch.clone())).await;
            assert_eq!((status, code.as_str()), problem, "{patch}");
        }
        assert_eq!(
            get(&daemon, &path).await,
            (200, changed),
            "nothing was changed"
        );

        // Of many that saw the same, one gets through.
        let at_once =
            (0..8).map(|n| change("\"2\"", json!({ "text": n.to_string(), "tags": null })));
        let at_once = futures_util::future::join_all(at_once.map(settled)).await;
        let through: Vec<_> = at_once
            .iter()
            .filter(|(status, _)| *status == 200)
            .collect();
        assert_eq!(through.len(), 1, "{at_once:?}");
        assert_eq!(through[0].1["tags"], json!([]));
        assert_eq!(get(&daemon, &path).await, *through[0]);
        let deleted = request(&daemon, Method::DELETE, &path).header("if-match", "\"3\"");
        assert_eq!(settled(deleted).await.0, 204);
        assert_eq!(code(change("*", json!({}))).await.0, 404);
    }
}

#[tokio::test]
async fn a_reader_can_read_and_lacks_the_permission_to_write() {
    let daemon = notes("sqlite:dotmac.db")
        .env("DOTMAC_NOTES_READER_TOKEN", "battery-staple")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    let by_reader = |method, path: &str| {
        let url = format!("{}/api/v1/notes{path}", daemon.base);
        daemon
            .client
            .request(method, url)
            .bearer_auth("battery-staple")
    };
    assert_eq!(settled(by_reader(Method::GET, "")).await.0, 200);
    // The body is not read.
    let refused = by_reader(Method::POST, "").body("no JSON");
    let (status, problem) = settled(refused).await;
    assert_eq!((status, &problem["code"]), (403, &"forbidden".into()));
    assert_eq!(problem["errors"][0]["message"], "notes.notes.write");

    let (_, document) = daemon.json("/openapi.json").await;
    let operations = &document["paths"]["/api/v1/notes"];
    for (method, permission) in [("get", "notes.notes.read"), ("post", "notes.notes.write")] {
        let operation = &operations[method];
        assert_eq!(operation["x-permission"], permission);
        assert_eq!(operation["security"], json!([{ "credentials": [] }]));
        for status in ["401", "403"] {
            assert!(operation["responses"][status].is_object(), "{operation}");
        }
    }
    let schemas = &document["components"]["schemas"];
    for (path, method, body, field) in [
        ("/api/v1/notes", "post", "NewNote", "text"),
        ("/api/v1/notes/{id}", "patch", "NotePatch", "tags"),
    ] {
        let content = &document["paths"][path][method]["requestBody"]["content"];
        let schema = &content["application/json"]["schema"]["$ref"];
        assert_eq!(*schema, format!("#/components/schemas/{body}"));
        assert!(schemas[body]["properties"][field].is_object(), "{schemas}");
        let is_patch = content["application/merge-patch+json"].is_object();
        assert_eq!(is_patch, method == "patch", "{content}");
    }
    for (field, format) in [("id", "uuid"), ("created_at", "date-time")] {
        let declared = &schemas["Note"]["properties"][field];
        let place = declared["$ref"]
            .as_str()
            .map(|it| it.trim_start_matches('#'));
        let schema = place.map_or(Some(declared), |place| document.pointer(place));
        assert_eq!(schema.unwrap()["format"], format, "{declared}");
    }
    let scheme = &document["components"]["securitySchemes"]["credentials"];
    assert_eq!(
        (&scheme["type"], &scheme["scheme"]),
        (&"http".into(), &"bearer".into())
    );
}

/// A note of another tenant, by a statement past the service.
const FOREIGN: &str = "01a20636-b121-751a-810f-0b072ab9afed";

fn foreign_note() -> String {
    let tenant = "01a20636-0000-7000-8000-000000000009";
    format!(
        "INSERT INTO note (tenant_id, id, text, version, created_at, updated_at) \
         VALUES ('{tenant}', '{FOREIGN}', 'secret', 1, '2099-01-01 00:00:00', '2099-01-01 00:00:00')"
    )
}

async fn sees_nothing_foreign(daemon: &Daemon) {
    assert_eq!(get(daemon, "").await.1["items"], json!([]));
    let path = format!("/{FOREIGN}");
    assert_eq!(get(daemon, &path).await.0, 404);
    let change = request(daemon, Method::PATCH, &path).json(&json!({ "text": "mine" }));
    let delete = request(daemon, Method::DELETE, &path);
    for request in [change, delete] {
        assert_eq!(code(request.header("if-match", "*")).await.0, 404);
    }
}

#[tokio::test]
async fn a_note_of_another_tenant_is_like_none_on_sqlite() {
    use diesel::{Connection as _, connection::SimpleConnection as _};
    let daemon = notes("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let file = daemon.directory().join("dotmac.db");
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let insert = format!("PRAGMA busy_timeout = 10000; {};", foreign_note());
    connection.batch_execute(&insert).unwrap();
    sees_nothing_foreign(&daemon).await;
}

#[tokio::test]
async fn a_note_of_another_tenant_is_like_none_on_postgres_though_a_query_forgets_its_filter() {
    let postgres = Postgres::start().await;
    let daemon = notes(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;
    postgres.query(&foreign_note()).await;
    sees_nothing_foreign(&daemon).await;

    add(&daemon, json!({ "text": "own", "tags": ["a"] })).await;
    // As the daemon's user, who owns the tables, without a filter.
    for (scope, notes) in [
        ("", "0"),
        ("00000000-0000-0000-0000-000000000001", "1"),
        ("*", "2"),
    ] {
        let scope = format!("SET ROLE dotmac; SET dotmac.tenant_id = '{scope}';");
        let count = |table: &str| format!("{scope} SELECT count(*) FROM {table}");
        assert_eq!(postgres.query(&count("note")).await, notes, "{scope}");
        let tags = if notes == "0" { "0" } else { "1" };
        assert_eq!(postgres.query(&count("note_tag")).await, tags, "{scope}");
    }
}

#[tokio::test]
async fn a_page_takes_as_many_queries_as_a_note() {
    let daemon = notes("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    for n in 0..5 {
        add(
            &daemon,
            json!({ "text": n.to_string(), "tags": ["a", "b"] }),
        )
        .await;
    }
    let selects = async |daemon: &Daemon| {
        let metrics = daemon.get("/metrics").await.text().await.unwrap();
        let lines = metrics.lines().filter(|line| {
            line.starts_with("db_client_operation_duration_seconds_count")
                && line.contains(r#"db_operation_name="SELECT""#)
                && line.contains(r#"db_collection_name="note"#)
        });
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        counts.sum::<f64>()
    };
    let before = selects(&daemon).await;
    let (status, page) = get(&daemon, "").await;
    assert_eq!((status, page["items"].as_array().unwrap().len()), (200, 5));
    assert!(
        page["items"]
            .as_array()
            .unwrap()
            .iter()
            .all(|note| note["tags"] == json!(["a", "b"]))
    );
    eventually("both queries to be counted", || async {
        let made = selects(&daemon).await - before;
        assert!(made <= 2.0, "{made} queries");
        (made == 2.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_outage_of_the_database_fails_requests_at_once_and_ends_with_it() {
    let mut postgres = Postgres::start().await;
    let daemon = notes(&postgres.url()).spawn().await;
    daemon.until("/ready", 200).await;

    postgres.kill().await;
    daemon.until_component("db", "unavailable", None).await;
    let (status, problem) = answer(request(&daemon, Method::GET, "")).await;
    assert_eq!(status, 503, "{problem}");
    assert_eq!(daemon.get("/health").await.status(), 200);

    postgres.restart().await;
    daemon.until("/ready", 200).await;
    assert_eq!(answer(request(&daemon, Method::GET, "")).await.0, 200);
    assert_eq!(daemon.stop().await.code, 0);
}
