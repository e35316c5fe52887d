//! A database under careless operators and hostile values.

use serde_json::{Value, json};

use crate::{
    notes::{NOTES, TOKEN, notes},
    support::{Daemon, Postgres, eventually},
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
