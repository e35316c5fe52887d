//! A database under careless operators and hostile values.

use std::{
    collections::BTreeSet,
    path::Path,
    process::Command,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, PATIENCE, Postgres, eventually, proxy::Proxy},
};

/// The reason is there, and the log names the session, while other replicas and operators wait for it.
#[tokio::test]
async fn a_lock_on_the_table_of_migrations_is_named_with_its_holder() {
    let postgres = Postgres::start().await;
    let builder = || Daemon::builder().env("DOTMAC_DATABASE_URL", postgres.url());
    assert_eq!(builder().run(&["migrate", "up"]).await.code, 0);
    let url = format!("{}?application_name=careless", postgres.url());
    let connected = tokio_postgres::connect(&url, tokio_postgres::NoTls).await;
    let (holder, connection) = connected.unwrap();
    let driver = tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations")
        .await
        .unwrap();
    let row = holder.query_one("SELECT pg_backend_pid()", &[]).await;
    let pid: i32 = row.unwrap().get(0);

    let daemon = builder().spawn().await;
    daemon
        .until_component("db", "starting", Some("locked"))
        .await;
    assert_eq!(daemon.get("/health").await.status(), 200);
    let line = eventually("a line that names the holder", || async {
        daemon
            .log()
            .into_iter()
            .find(|line| line["reason"] == "locked")
    })
    .await;
    let error = line["error"].as_str().unwrap();
    assert!(
        error.contains(&format!("process {pid} 'careless'")),
        "{error}"
    );
    holder.batch_execute("COMMIT").await.unwrap();
    daemon.until("/ready", 200).await;
    drop(holder);
    driver.await.unwrap().unwrap();
}

/// PostgreSQL takes no NUL in a text, SQLite does: a client must not be able to tell which is behind a route.
#[tokio::test]
async fn a_nul_in_a_text_is_the_clients_fault_on_both_back_ends() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let daemon = notes().env("DOTMAC_DATABASE_URL", &url).spawn().await;
        daemon.until("/ready", 200).await;
        let post = async |body: Value| {
            let url = format!("{}{NOTES}", daemon.base);
            let answer = daemon
                .client
                .post(url)
                .bearer_auth(TOKEN)
                .json(&body)
                .send()
                .await
                .unwrap();
            let status = answer.status().as_u16();
            (status, answer.json::<Value>().await.unwrap())
        };
        for body in [
            json!({ "text": "a\0b" }),
            json!({ "text": "ok", "tags": ["\0"] }),
        ] {
            let (status, problem) = post(body).await;
            assert_eq!(
                (status, &problem["code"], &problem["errors"][0]["field"]),
                (422, &json!("invalid_value"), &json!("body")),
                "{url}: {problem}"
            );
        }
        assert_eq!(post(json!({ "text": "a\\u0000b" })).await.0, 201, "{url}");
        let (status, problem) = daemon.json(&format!("{NOTES}/a%00b?q=1")).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (422, &json!("path"))
        );
        let log = daemon.lines().join("\n");
        assert!(!log.contains("\"ERROR\""), "{url}: {log}");
    }
}

/// The database's URL by way of a proxy.
fn through(proxy: &Proxy, postgres: &Postgres) -> String {
    let url = postgres.url();
    url.replace(
        &format!(":{}/", postgres.port),
        &format!(":{}/", proxy.port),
    )
}

/// Has the insert of a note `undone` and the commit of a note `in doubt` wait for advisory lock 7.
const WAITING_NOTES: &str = "
    CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NEW; END $$;
    CREATE TRIGGER early BEFORE INSERT ON note
        FOR EACH ROW WHEN (NEW.text = 'undone') EXECUTE FUNCTION wait();
    CREATE CONSTRAINT TRIGGER late AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED
        FOR EACH ROW WHEN (NEW.text = 'in doubt') EXECUTE FUNCTION wait();";

/// The server takes a request's statement and is never heard again. Clients learn so long before any limit of
/// theirs, and whether asking again may do it twice.
#[tokio::test]
async fn requests_at_a_black_holed_database_end_soon_and_say_what_may_have_been_done() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::before(postgres.port).await;
    let daemon = notes()
        .env("DOTMAC_DATABASE_URL", through(&proxy, &postgres))
        .env("DOTMAC_HTTP_REQUEST_TIMEOUT", "60s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    postgres.query(WAITING_NOTES).await;
    let (holder, connection) = tokio_postgres::connect(&postgres.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    holder
        .batch_execute("SELECT pg_advisory_lock(7)")
        .await
        .unwrap();
    let post = |text: &str| {
        let request = daemon.client.post(format!("{}{NOTES}", daemon.base));
        let request = request.bearer_auth(TOKEN).json(&json!({ "text": text }));
        tokio::spawn(async move {
            let answer = request.send().await.unwrap();
            let may_retry = answer.headers().contains_key("retry-after");
            let status = answer.status().as_u16();
            (status, may_retry, answer.json::<Value>().await.unwrap())
        })
    };
    let (undone, in_doubt) = (post("undone"), post("in doubt"));
    eventually("both to be under way", || async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'";
        (postgres.query(waiting).await == "2").then_some(())
    })
    .await;
    proxy.swallow();
    let hole = Instant::now();
    daemon
        .until_component("db", "unavailable", Some("unreachable"))
        .await;
    println!("not ready after {:?}", hole.elapsed());
    let answers = async { (undone.await.unwrap(), in_doubt.await.unwrap()) };
    let (undone, in_doubt) = tokio::time::timeout(PATIENCE, answers).await.unwrap();
    println!("both are answered after {:?}", hole.elapsed());
    // A wait for a lock has 10 s, a statement 30 s.
    assert!(
        hole.elapsed() < Duration::from_secs(9),
        "{:?}",
        hole.elapsed()
    );
    let (status, may_retry, problem) = undone;
    assert_eq!((status, may_retry), (503, true), "{problem}");
    assert_eq!(problem["code"], "component_unavailable");
    let (status, may_retry, problem) = in_doubt;
    assert_eq!((status, may_retry), (504, false), "{problem}");
    assert_eq!(problem["code"], "outcome_unknown");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("may have been executed"), "{detail}");
    drop(holder);
    driver.await.unwrap().unwrap();
    proxy.mend();
    daemon.until("/ready", 200).await;
    // It was; and requests that clients may repeat were not.
    let texts = "SELECT string_agg(text, ',') FROM note";
    assert_eq!(postgres.query(texts).await, "in doubt");
}

/// As all replicas see it at once, it must not take any of them out of service.
#[tokio::test]
async fn a_slow_database_is_degraded_and_serves() {
    let postgres = Postgres::start().await;
    let proxy = Proxy::before(postgres.port).await;
    let daemon = notes()
        .env("DOTMAC_DATABASE_URL", through(&proxy, &postgres))
        // A connection takes some 3 s to open.
        .env("DOTMAC_DATABASE_CONNECT_TIMEOUT", "30s")
        .env("DOTMAC_DATABASE_POOL_TIMEOUT", "30s")
        .spawn()
        .await;
    daemon.until("/ready", 200).await;
    proxy.delay(Duration::from_millis(300));
    let body = daemon.until_component("db", "degraded", Some("slow")).await;
    assert_eq!(body["status"], "degraded");
    let request = daemon.client.post(format!("{}{NOTES}", daemon.base));
    let request = request.bearer_auth(TOKEN).json(&json!({ "text": "late" }));
    let answer = request.send().await.unwrap();
    let status = answer.status();
    assert_eq!(status, 201, "{}", answer.text().await.unwrap());
    let log = daemon.lines().join("\n");
    assert!(!log.contains("\"unreachable\""), "{log}");
    proxy.mend();
    daemon.until_component("db", "ready", None).await;
}

/// The text of every note, and whether the file is sound.
fn kept(file: &Path) -> BTreeSet<String> {
    use diesel::{Connection as _, QueryableByName, RunQueryDsl as _, sql_query, sql_types::Text};
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        value: String,
    }
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    let mut texts = |query: &str| -> BTreeSet<String> {
        let rows: Vec<Row> = sql_query(query).load(&mut connection).unwrap();
        rows.into_iter().map(|row| row.value).collect()
    };
    let check = texts("SELECT integrity_check AS value FROM pragma_integrity_check");
    assert_eq!(check, BTreeSet::from(["ok".to_owned()]));
    texts("SELECT text AS value FROM note")
}

/// The commonest mistake there is. Under load: no note is acknowledged and lost, the backup is served as it was made,
/// and the log says what happened.
#[tokio::test]
async fn a_backup_restored_under_a_running_daemon_is_served_and_nothing_is_lost_silently() {
    let daemon = notes().spawn().await;
    daemon.until("/ready", 200).await;
    let post = |text: String| {
        let request = daemon.client.post(format!("{}{NOTES}", daemon.base));
        let request = request.bearer_auth(TOKEN).json(&json!({ "text": text }));
        async move { request.send().await.unwrap().status().as_u16() }
    };
    for n in 0..20 {
        assert_eq!(post(format!("kept {n}")).await, 201);
    }
    let asked = notes().run_in(daemon.directory(), &["backup", "backup.db"]);
    let asked = asked.await;
    assert_eq!(asked.code, 0, "{}", asked.text());

    let (restored, done) = (AtomicBool::new(false), AtomicBool::new(false));
    let client = async |client: usize| {
        let mut acknowledged = Vec::new();
        for n in 0.. {
            if done.load(Relaxed) {
                break;
            }
            let text = format!("client {client} note {n}");
            let after = restored.load(Relaxed);
            match post(text.clone()).await {
                201 if after => acknowledged.push(text),
                201 | 503 | 504 => {}
                other => panic!("{other}"),
            }
        }
        acknowledged
    };
    let restore = async {
        let directory = daemon.directory();
        tokio::time::sleep(Duration::from_millis(300)).await;
        let began = Instant::now();
        let copied = Command::new("cp")
            .args(["backup.db", "dotmac.db"])
            .current_dir(directory)
            .status();
        assert!(copied.unwrap().success());
        restored.store(true, Relaxed);
        daemon
            .until_component("db", "unavailable", Some("unusable_file"))
            .await;
        println!("noticed after {:?}", began.elapsed());
        let line = daemon.logged("was changed from outside").await;
        assert_eq!(line["level"], "ERROR", "{line}");
        let error = line["error"].as_str().unwrap();
        // `cp` truncates the file, then writes it; a check may come between the two.
        let is_named = ["overwritten", "truncated"]
            .iter()
            .any(|what| error.contains(&format!("`dotmac.db` was {what}")));
        assert!(is_named, "{error}");
        daemon.until("/ready", 200).await;
        println!("ready after {:?}", began.elapsed());
        assert_eq!(post("at last".to_owned()).await, 201);
        done.store(true, Relaxed);
    };
    let (one, two, three, ()) = tokio::join!(client(1), client(2), client(3), restore);
    let directory = daemon.directory().to_owned();
    assert!(directory.join("dotmac.db-wal.former.1").exists());
    let there = kept(&directory.join("dotmac.db"));
    assert!((0..20).all(|n| there.contains(&format!("kept {n}"))));
    for text in [one, two, three].concat() {
        assert!(there.contains(&text), "{text} was acknowledged");
    }
    assert_eq!(daemon.stop().await.code, 0);
}
