//! Other credentials while work goes on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use dotmac_platform::{
    db::{Account, AccountObserver, Connection, Credentials, Db, DbError, Target},
    on,
    supervision::Reason,
};

use tokio::sync::Notify;

use crate::{
    rig::{Rig, config, postgres},
    support::{Postgres, eventually, postgres::PASSWORD},
};

/// An account whose fate can be read; `gone` is set when nothing uses it any more.
struct Watched {
    taken: Arc<AtomicUsize>,
    refused: Arc<AtomicUsize>,
    gone: Arc<AtomicBool>,
}

struct Marks(Arc<AtomicUsize>, Arc<AtomicUsize>, Arc<AtomicBool>);

impl AccountObserver for Marks {
    fn taken(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn refused(&self) {
        self.1.fetch_add(1, Relaxed);
    }
}

impl Drop for Marks {
    fn drop(&mut self) {
        self.2.store(true, Relaxed);
    }
}

fn offer(credentials: &Credentials, name: &str, password: &str) -> Watched {
    let watched = Watched {
        taken: Arc::default(),
        refused: Arc::default(),
        gone: Arc::default(),
    };
    let marks = Marks(
        Arc::clone(&watched.taken),
        Arc::clone(&watched.refused),
        Arc::clone(&watched.gone),
    );
    credentials.offer(Ok(Arc::new(Account {
        username: Some(name.to_owned()),
        password: Some(password.into()),
        observer: Some(Arc::new(marks)),
    })));
    watched
}

/// A server with users `one` and `two`, who act as `dotmac`, and a rig that uses `one`.
async fn start() -> (Postgres, Credentials, Watched, Rig) {
    start_acting("SET ROLE dotmac").await
}

async fn start_acting(role: &str) -> (Postgres, Credentials, Watched, Rig) {
    let server = Postgres::start().await;
    for user in ["one", "two"] {
        let sql = format!("CREATE ROLE {user} LOGIN PASSWORD '{user}' IN ROLE dotmac");
        server.query(&sql).await;
        server.query(&format!("ALTER ROLE {user} {role}")).await;
    }
    let credentials = Credentials::to_come();
    let one = offer(&credentials, "one", "one");
    let mut target = postgres(&server);
    target.credentials = credentials.clone();
    let rig = Rig::ready(config(Target::Postgres(target))).await;
    (server, credentials, one, rig)
}

#[derive(diesel::QueryableByName)]
struct Who {
    #[diesel(sql_type = diesel::sql_types::Text)]
    who: String,
}

/// The user that a query is done as, after it has taken `pause`.
async fn who(db: &Db, pause: Duration) -> String {
    try_who(db, pause).await.unwrap()
}

async fn try_who(db: &Db, pause: Duration) -> Result<String, DbError> {
    db.run("who", async move |c| session_user(c, pause).await)
        .await
}

async fn session_user(c: &mut Connection, pause: Duration) -> Result<String, DbError> {
    use diesel_async::RunQueryDsl as _;
    let sql = format!(
        "SELECT session_user::text AS who, pg_sleep({})",
        pause.as_secs_f64()
    );
    let row = on!(c, |c| diesel::sql_query(sql).get_result::<Who>(c).await)?;
    Ok(row.who)
}

#[actix_web::test]
async fn a_swap_under_load_fails_no_query_and_lets_the_former_account_go_when_its_last_work_is_done()
 {
    let (_server, credentials, one, rig) = start().await;
    let (begun, release) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let long = tokio::spawn({
        let (db, begun, release) = (rig.db.clone(), Arc::clone(&begun), Arc::clone(&release));
        async move {
            db.run("long", async move |c| {
                begun.notify_one();
                release.notified().await;
                session_user(c, Duration::ZERO).await
            })
            .await
        }
    });
    begun.notified().await;
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..6)
        .map(|_| {
            let (db, stop) = (rig.db.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                while !stop.load(Relaxed) {
                    who(&db, Duration::from_millis(20)).await;
                }
            })
        })
        .collect();
    let two = offer(&credentials, "two", "two");
    eventually("new connections to be of the new user", || async {
        (who(&rig.db, Duration::ZERO).await == "two").then_some(())
    })
    .await;
    assert_eq!(two.taken.load(Relaxed), 1);
    assert!(
        !one.gone.load(Relaxed),
        "work of the former account is still under way"
    );
    release.notify_one();
    assert_eq!(long.await.unwrap().unwrap(), "one");
    eventually("the former account to be let go", || async {
        one.gone.load(Relaxed).then_some(())
    })
    .await;
    stop.store(true, Relaxed);
    for worker in load {
        worker.await.unwrap();
    }
    assert!(!two.gone.load(Relaxed));
    assert_eq!(rig.supervisor.board().components[0].restarts, 0);
}

#[actix_web::test]
async fn an_account_that_the_server_refuses_is_reported_and_the_former_one_goes_on() {
    let (server, credentials, one, rig) = start().await;
    let two = offer(&credentials, "two", "not its password");
    rig.until_reason("credentials_refused").await;
    assert!(rig.supervisor.board().readiness.serves());
    assert!(two.refused.load(Relaxed) > 0 && two.taken.load(Relaxed) == 0);
    assert_eq!(who(&rig.db, Duration::ZERO).await, "one");
    server
        .query("ALTER ROLE two PASSWORD 'not its password'")
        .await;
    rig.until(|board| board.components[0].reason.is_none())
        .await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "two");
    eventually("the former account to be let go", || async {
        one.gone.load(Relaxed).then_some(())
    })
    .await;
}

#[actix_web::test]
async fn without_any_account_it_is_not_ready_for_the_reason_given_until_there_is_one() {
    let (_server, credentials, one, rig) = start().await;
    credentials.offer(Err(Reason::new("lease_expired")));
    rig.until_reason("lease_expired").await;
    assert!(!rig.supervisor.board().readiness.serves());
    eventually("the account to be let go", || async {
        one.gone.load(Relaxed).then_some(())
    })
    .await;
    offer(&credentials, "two", "two");
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "two");
}

/// Waits until the monitor and the pool have a connection each, both as the user `one`.
async fn watched_as_one(server: &Postgres) {
    let sql = "SELECT count(*) > 1 AND bool_or(query LIKE '%pg_is_in_recovery%')
               FROM pg_stat_activity WHERE usename = 'one'";
    eventually("the monitor's connection", || async {
        (server.query(sql).await == "t").then_some(())
    })
    .await;
}

/// As when its lease is revoked from outside: its connections stay open.
#[actix_web::test]
async fn a_user_that_is_removed_leaves_what_is_open_at_work_until_there_is_another() {
    let (server, credentials, one, rig) = start().await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "one");
    watched_as_one(&server).await;
    server.query("DROP ROLE one").await;
    rig.until_reason("authentication_failed").await;
    rig.until(|board| board.readiness.serves()).await;
    assert!(one.refused.load(Relaxed) > 0);
    rig.run("CREATE TEMPORARY TABLE still (here BIGINT)").await;
    offer(&credentials, "two", "two");
    rig.until(|board| board.components[0].reason.is_none())
        .await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "two");
}

#[actix_web::test]
async fn a_user_that_is_removed_and_acted_as_itself_is_an_outage_until_there_is_another() {
    let (server, credentials, one, rig) = start_acting("RESET ROLE").await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "one");
    watched_as_one(&server).await;
    server.query("REASSIGN OWNED BY one TO dotmac").await;
    server.query("DROP ROLE one").await;
    rig.until(|board| !board.readiness.serves()).await;
    rig.until_reason("authentication_failed").await;
    assert!(one.refused.load(Relaxed) > 0);
    offer(&credentials, "two", "two");
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "two");
}

/// As when a password arrives in Vault a moment after its user.
#[actix_web::test]
async fn a_user_without_the_password_that_the_server_wants_is_waited_for() {
    let server = Postgres::start().await;
    let credentials = Credentials::to_come();
    credentials.offer(Ok(Arc::new(Account {
        username: Some("dotmac".into()),
        password: None,
        observer: None,
    })));
    let mut target = postgres(&server);
    target.credentials = credentials.clone();
    let rig = Rig::start(config(Target::Postgres(target)));
    rig.until_reason("credentials_missing").await;
    offer(&credentials, "dotmac", PASSWORD);
    rig.until(|board| board.readiness.serves()).await;
}

#[actix_web::test]
async fn a_new_connection_that_is_refused_asks_for_the_next_account_and_waits_for_it() {
    let (server, credentials, one, rig) = start().await;
    // Until it has one of its own, the monitor borrows a connection.
    watched_as_one(&server).await;
    assert_eq!(who(&rig.db, Duration::ZERO).await, "one");
    server.query("ALTER ROLE one PASSWORD 'changed'").await;
    // All connections of the pool are lost at once, and every new one is refused; the monitor keeps its own.
    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
               WHERE usename = 'one' AND query NOT LIKE '%pg_is_in_recovery%'";
    assert_ne!(server.query(sql).await, "0");
    let asking = tokio::spawn({
        let db = rig.db.clone();
        // The first may be lent a connection whose end has not arrived yet.
        async move {
            eventually("an answer", || async {
                try_who(&db, Duration::ZERO).await.ok()
            })
            .await
        }
    });
    eventually("the report of the refusal", || async {
        (one.refused.load(Relaxed) > 0).then_some(())
    })
    .await;
    offer(&credentials, "two", "two");
    assert_eq!(asking.await.unwrap(), "two");
}
