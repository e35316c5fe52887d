//! Behaviour of SQLite: readers and writers at once, a full disk, a locked file; and backups.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use diesel::{Connection as _, connection::SimpleConnection, prelude::*};
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{BackupError, DbError, Integrity, PoolSize, backup, check_integrity},
    on,
};

use crate::{
    rig::{Rig, config, note, sqlite},
    support::{small_disk::SmallDisk, sqlite::damage},
};

async fn insert(rig: &Rig, id: i64, text: String) -> Result<usize, DbError> {
    rig.db
        .run("insert", async move |c| {
            let row = (note::id.eq(id), note::text.eq(text));
            on!(c, |c| diesel::insert_into(note::table)
                .values(row)
                .execute(c)
                .await)
        })
        .await
}

async fn count(rig: &Rig) -> Result<i64, DbError> {
    rig.db
        .read("count", async |c| {
            on!(c, |c| note::table.count().get_result(c).await)
        })
        .await
}

fn rows_in(file: &Path) -> i64 {
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    diesel::RunQueryDsl::get_result(note::table.count(), &mut connection).unwrap()
}

#[actix_web::test]
async fn readers_go_on_while_many_write_and_no_caller_gets_locked() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = config(sqlite(directory.path()));
    settings.pool_size = PoolSize::new(6);
    // How fast a disk syncs is not what this is about.
    settings.pool_timeout = std::time::Duration::from_secs(60);
    let rig = Arc::new(Rig::ready(settings).await.with_notes().await);
    let done = Arc::new(AtomicBool::new(false));
    let readers = (0..8).map(|_| {
        let (rig, done) = (Arc::clone(&rig), Arc::clone(&done));
        async move {
            let mut last = 0;
            while !AtomicBool::load(&done, Relaxed) {
                let now = count(&rig).await.unwrap();
                assert!(now >= last, "what was committed is gone");
                last = now;
            }
        }
    });
    let writers = async {
        let writers = (0..40).map(|writer| {
            let rig = Arc::clone(&rig);
            async move {
                for n in 0..10 {
                    insert(&rig, writer * 100 + n, "text".into()).await.unwrap();
                }
            }
        });
        futures_util::future::join_all(writers).await;
        done.store(true, Relaxed);
    };
    tokio::join!(futures_util::future::join_all(readers), writers);
    assert_eq!(count(&rig).await.unwrap(), 400);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_new_file_is_for_its_owner_alone_and_the_mode_of_one_that_is_there_stays() {
    let directory = tempfile::tempdir().unwrap();
    let modes = || {
        ["test.db", "test.db-wal", "test.db-shm"].map(|name| {
            let found = fs::metadata(directory.path().join(name)).unwrap();
            format!("{:o}", found.permissions().mode() & 0o777)
        })
    };
    let settings = || config(sqlite(directory.path()));
    let rig = Rig::ready(settings()).await.with_notes().await;
    insert(&rig, 1, "one".into()).await.unwrap();
    assert_eq!(modes(), ["600"; 3]);
    rig.supervisor.halt().await;

    let file = directory.path().join("test.db");
    fs::set_permissions(file, fs::Permissions::from_mode(0o640)).unwrap();
    let rig = Rig::ready(settings()).await;
    insert(&rig, 2, "two".into()).await.unwrap();
    assert_eq!(modes(), ["640"; 3]);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_write_is_refused_where_only_reading_was_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    let refused = rig.db.read("write", async |c| {
        on!(c, |c| diesel::delete(note::table).execute(c).await)
    });
    let refused = refused.await.unwrap_err();
    assert!(matches!(refused, DbError::ReadOnly(_)), "{refused:?}");
    insert(&rig, 1, "still".into()).await.unwrap();
    assert!(rig.supervisor.board().readiness.serves());
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_full_disk_is_reported_as_such_and_forgiven_when_there_is_space() {
    let Some(disk) = SmallDisk::mount(2048) else {
        return;
    };
    disk.take(512);
    let rig = Rig::ready(config(sqlite(disk.path())))
        .await
        .with_notes()
        .await;
    let mut id = 0;
    let refused = loop {
        id += 1;
        assert!(id < 100, "the disk does not fill");
        if let Err(refused) = insert(&rig, id, "x".repeat(50_000)).await {
            break refused;
        }
    };
    assert!(matches!(refused, DbError::DiskFull(_)), "{refused:?}");
    rig.until_reason("disk_full").await;
    disk.free();
    rig.until(|board| board.readiness.serves()).await;
    assert_eq!(count(&rig).await.unwrap(), id - 1);
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_disk_that_is_full_at_the_start_is_no_fault_of_a_migration_and_forgiven() {
    // Room for the file and its log, and for some of the migrations.
    let Some(disk) = SmallDisk::mount(512) else {
        return;
    };
    disk.take(512 - 48);
    let rig = Rig::start(config(sqlite(disk.path())));
    rig.until_reason("disk_full").await;
    disk.free();
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_file_that_another_process_holds_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    let file = directory.path().join("test.db");
    let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let write = insert(&rig, 1, "after".into());
    let release = async {
        // Longer than two looks: a lock of working code is no sign of a fault.
        tokio::time::sleep(std::time::Duration::from_millis(1200)).await;
        assert!(rig.supervisor.board().readiness.serves());
        other.batch_execute("COMMIT").unwrap();
    };
    let (written, ()) = tokio::join!(write, release);
    written.unwrap();
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_write_that_waits_too_long_for_another_lock_is_a_conflict() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    let file = directory.path().join("test.db");
    let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let refused = insert(&rig, 1, "never".into()).await.unwrap_err();
    assert!(matches!(refused, DbError::Conflict(_)), "{refused:?}");
    assert!(refused.retry_after().is_some());
    assert_eq!(count(&rig).await.unwrap(), 0, "who reads does not wait");
    other.batch_execute("ROLLBACK").unwrap();
    insert(&rig, 1, "after".into()).await.unwrap();
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_file_that_another_process_has_for_itself_is_locked_until_it_lets_go() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other
        .batch_execute("CREATE TABLE theirs (id INT); BEGIN EXCLUSIVE")
        .unwrap();
    let rig = Rig::start(config(sqlite(directory.path())));
    rig.until_reason("locked").await;
    assert!(!rig.supervisor.board().readiness.serves());
    other.batch_execute("COMMIT").unwrap();
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}

#[actix_web::test]
async fn a_backup_under_load_is_of_one_moment_and_can_be_started_from() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    for id in 0..50 {
        insert(&rig, id, "before".into()).await.unwrap();
    }
    let restored = directory.path().join("restored");
    fs::create_dir(&restored).unwrap();
    let (from, to) = (directory.path().join("test.db"), restored.join("test.db"));
    let copying = {
        let (from, to) = (from.clone(), to.clone());
        tokio::task::spawn_blocking(move || backup(&from, &to))
    };
    let mut id = 50;
    while !copying.is_finished() || id < 60 {
        insert(&rig, id, "meanwhile".into()).await.unwrap();
        id += 1;
    }
    assert!(copying.await.unwrap().unwrap() > 0);
    let copied = rows_in(&to);
    assert!((50..=id).contains(&copied), "{copied}");
    rig.supervisor.halt().await;
    let again = Rig::ready(config(sqlite(&restored))).await;
    assert_eq!(count(&again).await.unwrap(), copied);
    again.supervisor.halt().await;
}

#[test]
fn a_backup_writes_over_nothing_and_a_damaged_database_makes_none() {
    let directory = tempfile::tempdir().unwrap();
    let (from, to) = (directory.path().join("a.db"), directory.path().join("b.db"));
    assert!(matches!(
        backup(&from, &to),
        Err(BackupError::Missing { .. })
    ));
    let mut connection = diesel::SqliteConnection::establish(from.to_str().unwrap()).unwrap();
    let child = "PRAGMA foreign_keys = OFF; CREATE TABLE parent (id INTEGER PRIMARY KEY); \
                 CREATE TABLE child (parent INTEGER REFERENCES parent (id)); \
                 INSERT INTO child VALUES (7)";
    connection.batch_execute(child).unwrap();
    let refused = backup(&from, &to).unwrap_err();
    assert!(
        matches!(&refused, BackupError::Damaged { problem, .. } if problem.contains("child")),
        "{refused:?}"
    );
    connection.batch_execute("DELETE FROM child").unwrap();
    let left: Vec<_> = fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("b.db"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    backup(&from, &to).unwrap();
    assert!(matches!(
        backup(&from, &to),
        Err(BackupError::Exists { .. })
    ));
}

#[actix_web::test]
async fn a_damaged_page_is_reported_when_work_meets_it_and_makes_no_backup() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.db");
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    for id in 0..50 {
        insert(&rig, id, "text".into()).await.unwrap();
    }
    assert_eq!(
        check_integrity(file.clone()).await.unwrap(),
        Integrity::Sound
    );
    rig.supervisor.halt().await;
    damage(&file, "note");

    // Its first page is good, so it opens and takes writes; the rest works.
    let rig = Rig::ready(config(sqlite(directory.path()))).await;
    rig.run("CREATE TABLE other (id BIGINT)").await;
    let failed = rig.db.read("texts", async |c| {
        on!(c, |c| note::table
            .select(note::text)
            .load::<String>(c)
            .await)
    });
    let failed = failed.await.unwrap_err();
    assert!(matches!(failed, DbError::Query(_)), "{failed:?}");
    rig.until_reason("data_corrupted").await;
    assert!(rig.supervisor.board().readiness.serves());
    rig.run("INSERT INTO other VALUES (1)").await;

    let found = check_integrity(file.clone()).await.unwrap_err();
    assert_eq!(found.reason().as_str(), "unusable_file");
    assert!(found.to_string().contains("restore a backup"), "{found}");
    let copy = directory.path().join("copy.db");
    let refused = backup(&file, &copy).unwrap_err();
    assert!(
        matches!(
            refused,
            BackupError::Database(_) | BackupError::Damaged { .. }
        ),
        "{refused:?}"
    );
    assert!(!copy.exists());
    rig.supervisor.halt().await;
}

/// The statement goes on where it is, so its connection must not be lent, nor waited for.
#[actix_web::test]
async fn a_statement_that_its_own_work_gives_up_spoils_nothing_for_others() {
    let directory = tempfile::tempdir().unwrap();
    let mut settings = config(sqlite(directory.path()));
    settings.pool_size = PoolSize::new(2);
    let rig = Rig::ready(settings).await.with_notes().await;
    for _ in 0..3 {
        let given_up = rig.db.read("give up", async |c| {
            let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 3000000) \
                           SELECT count(*) FROM n";
            let slow = async { on!(c, |c| diesel::sql_query(endless).execute(c).await) };
            let limit = std::time::Duration::from_millis(20);
            Ok::<_, DbError>(tokio::time::timeout(limit, slow).await.is_err())
        });
        assert!(given_up.await.unwrap(), "it was not slow");
        assert_eq!(count(&rig).await.unwrap(), 0);
    }
    rig.supervisor.halt().await;
}
