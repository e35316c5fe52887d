//! The schema: up, down, by many at once, and by a migration that fails.

use std::{collections::BTreeSet, path::Path, time::Duration};

use diesel::{Connection as _, SqliteConnection, connection::SimpleConnection};
use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use dotmac_platform::db::{
    MIGRATION_FAILED, OpenError, Scripts, Target,
    migrations::{Step, migrate},
};

use crate::{
    rig::{Rig, config, execute, postgres, sqlite},
    support::Postgres,
};

static FAILING_SCRIPTS: EmbeddedMigrations = embed_migrations!("tests/db/failing");

const FAILING: Scripts = Scripts {
    postgres: &FAILING_SCRIPTS,
    sqlite: &FAILING_SCRIPTS,
};

fn down(steps: u32) -> Step {
    let owner = "platform".to_owned();
    Step::Down { owner, steps }
}

#[test]
fn both_back_ends_have_the_same_migrations_each_with_its_way_back() {
    let names = |back_end: &str| -> BTreeSet<String> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("migrations")
            .join(back_end);
        let entries = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().path());
        entries
            .map(|migration| {
                for file in ["up.sql", "down.sql"] {
                    assert!(
                        migration.join(file).is_file(),
                        "{} lacks {file}",
                        migration.display()
                    );
                }
                migration
                    .file_name()
                    .unwrap()
                    .to_string_lossy()
                    .into_owned()
            })
            .collect()
    };
    assert_eq!(names("postgres"), names("sqlite"));
}

#[tokio::test(flavor = "multi_thread")]
async fn up_down_and_up_again_ends_where_it_began() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let config = config(target);
        let up = migrate(&config, Step::Up).await.unwrap();
        assert!(
            !up.changed.is_empty() && up.status.pending().is_empty(),
            "{up:?}"
        );
        let down = migrate(&config, down(100)).await.unwrap();
        assert_eq!(down.status.applied(), Vec::<String>::new());
        assert_eq!(migrate(&config, Step::Up).await.unwrap().status, up.status);
        assert_eq!(
            migrate(&config, Step::Up).await.unwrap().changed,
            Vec::<String>::new()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn six_at_once_migrate_once() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let config = config(target);
        let migrators = (0..6).map(|_| migrate(&config, Step::Up));
        let outcomes = futures_util::future::join_all(migrators).await;
        let changed = outcomes
            .into_iter()
            .filter(|outcome| !outcome.as_ref().unwrap().changed.is_empty());
        assert_eq!(changed.count(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_migration_is_named_and_leaves_the_schema_as_it_was() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let mut config = config(target);
        config.migrations = vec![FAILING.owned_by("platform")];
        for _ in 0..2 {
            // Were the first statement's table still there, the second try would fail for that.
            let refused = migrate(&config, Step::Up).await.unwrap_err();
            let OpenError::Migration(text) = &refused else {
                panic!("{refused:?}")
            };
            assert!(
                text.contains(
                    "`2026-01-01-000001_half` in statement 2, `SELECT no_such_function()`"
                ),
                "{text}"
            );
        }
        assert_eq!(
            migrate(&config, Step::Look).await.unwrap().status.applied(),
            Vec::<String>::new()
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_newer_schema_nothing_is_run() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    let newer = "INSERT INTO __diesel_schema_migrations (version) VALUES ('20990101000000')";
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let config = config(target);
        migrate(&config, Step::Up).await.unwrap();
        migrate(&config, down(1)).await.unwrap();
        execute(&config.target, newer).await;
        let refused = migrate(&config, Step::Up).await.unwrap_err();
        assert!(
            matches!(&refused, OpenError::SchemaNewer { versions, .. } if versions == "20990101000000"),
            "{refused:?}"
        );
        let status = migrate(&config, Step::Look).await.unwrap().status;
        assert_eq!(status.pending().len(), 1, "{status:?}");
    }
}

/// The operator who corrects it decides on the retry.
#[actix_web::test]
async fn a_migration_that_fails_is_not_run_again_until_a_restart_of_the_actor() {
    let server = Postgres::start().await;
    let mut config = config(Target::Postgres(postgres(&server)));
    config.migrations = vec![FAILING.owned_by("platform")];
    let rig = Rig::start(config);
    rig.until_reason("migration_failed").await;
    server
        .query("CREATE FUNCTION no_such_function() RETURNS INT LANGUAGE sql AS 'SELECT 1'")
        .await;
    let anything_else = rig.supervisor.until(|board| {
        let db = &board.components[0];
        db.generation > 1 || db.reason != Some(MIGRATION_FAILED)
    });
    // Several times as long as between two tries to open a database that does not answer.
    let waited = tokio::time::timeout(Duration::from_secs(2), anything_else).await;
    assert!(waited.is_err(), "{:?}", rig.supervisor.board());
    rig.supervisor.restart("db").unwrap();
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}

/// Such a lock is no fault of a migration's: it is tried again, and not given up as one that failed.
#[tokio::test(flavor = "multi_thread")]
async fn who_locks_the_table_of_migrations_is_named_at_each_step() {
    let server = Postgres::start().await;
    let mut config = config(Target::Postgres(postgres(&server)));
    config.lock_timeout = Duration::from_millis(200);
    migrate(&config, Step::Up).await.unwrap();
    let (holder, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    holder
        .batch_execute("BEGIN; LOCK TABLE __diesel_schema_migrations")
        .await
        .unwrap();
    for step in [Step::Look, Step::Up, down(1)] {
        let refused = migrate(&config, step.clone()).await.unwrap_err();
        assert!(
            matches!(&refused, OpenError::SchemaLocked { holders } if holders.contains("process")),
            "{step:?}: {refused:?}"
        );
        assert!(!refused.is_permanent());
    }
    holder.batch_execute("COMMIT").await.unwrap();
    migrate(&config, Step::Up).await.unwrap();
    drop(holder);
    driver.await.unwrap().unwrap();
}

/// A file that another process writes to for long is not a server that cannot be reached.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_another_process_writes_to_is_locked_for_migrations() {
    let directory = tempfile::tempdir().unwrap();
    let config = config(sqlite(directory.path()));
    migrate(&config, Step::Up).await.unwrap();
    let file = directory.path().join("test.db");
    let mut other = SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let refused = migrate(&config, down(1)).await.unwrap_err();
    assert_eq!(refused.reason().as_str(), "locked", "{refused:?}");
    other.batch_execute("COMMIT").unwrap();
    migrate(&config, down(1)).await.unwrap();
}

/// A migration that waits for a table's lock holds up everybody who comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_migration_gives_way_to_who_uses_its_table_and_is_run_when_it_can() {
    let server = Postgres::start().await;
    let mut config = config(Target::Postgres(postgres(&server)));
    config.lock_timeout = Duration::from_millis(200);
    migrate(&config, Step::Up).await.unwrap();
    let (user, connection) = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls)
        .await
        .unwrap();
    let driver = tokio::spawn(connection);
    user.batch_execute("BEGIN; SELECT count(*) FROM runtime_journal")
        .await
        .unwrap();
    let refused = migrate(&config, down(100)).await.unwrap_err();
    assert!(
        matches!(&refused, OpenError::MigrationGaveWay(text) if text.contains("runtime_journal")),
        "{refused:?}"
    );
    user.batch_execute("COMMIT").await.unwrap();
    migrate(&config, down(1)).await.unwrap();
    drop(user);
    driver.await.unwrap().unwrap();
}
