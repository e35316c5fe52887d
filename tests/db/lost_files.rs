//! Mistakes with a SQLite file under a running process: delete, replace, truncate, overwrite it.

use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use diesel::{Connection as _, connection::SimpleConnection, prelude::*};
use dotmac_platform::db::{DbError, Integrity, backup, check_integrity, on};

use crate::{
    load::{Writers, ids, insert},
    rig::{Rig, config, note, sqlite},
};

/// Rows that are there before anything happens.
const BEFORE: i64 = 50;

/// A database with some rows under load, and a backup of it that lacks the newest.
struct Scene {
    directory: tempfile::TempDir,
    rig: Rig,
    writers: Writers,
}

impl Scene {
    async fn set() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rig = Rig::ready(config(sqlite(directory.path())))
            .await
            .with_notes()
            .await;
        for id in 0..BEFORE {
            insert(&rig.db, -1 - id, "before".into()).await.unwrap();
        }
        let scene = Self {
            writers: Writers::start(&rig.db, 4),
            directory,
            rig,
        };
        let (from, to) = (scene.file(), scene.backup());
        let copied = tokio::task::spawn_blocking(move || backup(&from, &to)).await;
        copied.unwrap().unwrap();
        scene.writers.go_on(100).await;
        scene
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("test.db")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("test.db-wal")
    }

    fn backup(&self) -> PathBuf {
        self.directory.path().join("backup.db")
    }

    fn former_log(&self) -> PathBuf {
        self.directory.path().join("test.db-wal.former.1")
    }

    /// Does something to the file, which must be noticed. How soon is printed: within 2 s, unless the machine is busy.
    /// Gives the first row that was tried only after it was done.
    async fn disturb(&self, disturb: impl FnOnce()) -> i64 {
        let begun = Instant::now();
        disturb();
        let from = self.writers.next();
        self.rig.until_reason("unusable_file").await;
        println!("noticed after {:?}", begun.elapsed());
        from
    }

    async fn is_refused(&self) {
        assert!(!self.rig.supervisor.board().readiness.serves());
        let refused = insert(&self.rig.db, -1000, "refused".into()).await;
        assert!(
            matches!(refused, Err(DbError::Unavailable { .. })),
            "{refused:?}"
        );
    }

    /// It does not come back by itself, nor make an empty file.
    async fn stays_away(&self) {
        let back = self.rig.supervisor.until(|board| board.readiness.serves());
        let back = tokio::time::timeout(Duration::from_secs(3), back).await;
        assert!(back.is_err(), "{:?}", self.rig.supervisor.board());
    }

    async fn is_back(&self) {
        self.rig.until(|board| board.readiness.serves()).await;
        self.writers.go_on(50).await;
    }

    /// Ends the load; what was acknowledged, and what is there, in a sound file.
    async fn end(self) -> (Vec<i64>, Vec<i64>, tempfile::TempDir) {
        let acknowledged = self.writers.stop().await;
        let there = ids(&self.rig.db).await;
        assert_eq!(self.rig.supervisor.board().components[0].restarts, 0);
        self.rig.supervisor.halt().await;
        let sound = check_integrity(self.directory.path().join("test.db")).await;
        assert_eq!(sound.unwrap(), Integrity::Sound);
        (acknowledged, there, self.directory)
    }
}

/// Runs a command with files. Not done in this process: to close a file that SQLite has open drops its locks.
fn by_another(command: &str, files: &[&Path]) {
    let ended = std::process::Command::new(command).args(files).status();
    assert!(ended.unwrap().success());
}

fn rows_in(file: &Path) -> Vec<i64> {
    let mut connection = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    diesel::RunQueryDsl::load(note::table.select(note::id), &mut connection).unwrap()
}

/// Those of `acknowledged` that are in none of `places`.
fn lost(acknowledged: &[i64], places: &[&[i64]]) -> Vec<i64> {
    let is_lost = |id: &&i64| !places.iter().any(|place| place.contains(id));
    acknowledged.iter().filter(is_lost).copied().collect()
}

#[actix_web::test]
async fn a_file_that_is_deleted_is_not_created_again_and_can_be_saved_from_the_open_files() {
    let scene = Scene::set().await;
    let file = scene.file();
    scene.disturb(|| fs::remove_file(&file).unwrap()).await;
    scene.is_refused().await;
    scene.stays_away().await;
    assert!(!file.exists());
    // Its content and its log exist while the process runs.
    let saved = tempfile::tempdir().unwrap();
    let open = |name: &str| {
        let open = fs::read_dir("/proc/self/fd").unwrap();
        let mut open = open.filter_map(|entry| Some(entry.ok()?.path()));
        open.find(|fd| fs::read_link(fd).is_ok_and(|it| it.to_str() == Some(name)))
            .unwrap_or_else(|| panic!("{name} is not open"))
    };
    let name = file.to_str().unwrap();
    fs::copy(
        open(&format!("{name} (deleted)")),
        saved.path().join("saved.db"),
    )
    .unwrap();
    fs::copy(
        open(&format!("{name}-wal")),
        saved.path().join("saved.db-wal"),
    )
    .unwrap();
    let saved = rows_in(&saved.path().join("saved.db"));
    // A backup is taken up as soon as it is there.
    fs::rename(scene.backup(), &file).unwrap();
    scene.is_back().await;
    let (acknowledged, there, _) = scene.end().await;
    assert_eq!(lost(&acknowledged, &[&saved, &there]), [0; 0]);
    assert!(there.contains(&-BEFORE));
}

#[actix_web::test]
async fn a_file_that_is_moved_away_and_back_has_lost_nothing() {
    let scene = Scene::set().await;
    let (file, elsewhere) = (scene.file(), scene.directory.path().join("elsewhere.db"));
    scene
        .disturb(|| fs::rename(&file, &elsewhere).unwrap())
        .await;
    scene.is_refused().await;
    scene.stays_away().await;
    fs::rename(&elsewhere, &file).unwrap();
    scene.is_back().await;
    let (acknowledged, there, _) = scene.end().await;
    assert_eq!(lost(&acknowledged, &[&there]), [0; 0]);
}

#[actix_web::test]
async fn a_backup_that_is_moved_over_the_file_is_taken_up_and_the_former_one_kept_apart() {
    let scene = Scene::set().await;
    let former = scene.directory.path().join("former.db");
    fs::hard_link(scene.file(), &former).unwrap();
    let (backup, file) = (scene.backup(), scene.file());
    scene.disturb(|| fs::rename(&backup, &file).unwrap()).await;
    scene.is_refused().await;
    scene.is_back().await;
    let former_log = scene.former_log();
    let (acknowledged, there, _directory) = scene.end().await;
    fs::rename(former_log, former.with_extension("db-wal")).unwrap();
    let former = rows_in(&former);
    assert!(former.len() > there.len() / 2 && there.contains(&-BEFORE));
    assert_eq!(lost(&acknowledged, &[&former, &there]), [0; 0]);
}

/// `cp backup.db dotmac.db`, the commonest mistake there is. Nothing of the former file may get into it.
#[actix_web::test]
async fn a_backup_that_is_copied_over_the_file_is_taken_up_as_it_is() {
    let scene = Scene::set().await;
    let restored = rows_in(&scene.backup());
    let (backup, file) = (scene.backup(), scene.file());
    let from = scene.disturb(|| by_another("cp", &[&backup, &file])).await;
    scene.is_refused().await;
    assert!(scene.former_log().exists());
    scene.is_back().await;
    let (acknowledged, there, _directory) = scene.end().await;
    assert_eq!(lost(&restored, &[&there]), [0; 0]);
    let later: Vec<i64> = acknowledged.into_iter().filter(|id| *id >= from).collect();
    assert!(!later.is_empty());
    assert_eq!(lost(&later, &[&there]), [0; 0]);
    let foreign: Vec<&i64> = there
        .iter()
        .filter(|id| !restored.contains(id) && **id < from)
        .collect();
    assert!(foreign.is_empty(), "{foreign:?} got into the backup");
}

/// A plain copy that was made while the file was open has its size and its header, if no checkpoint since then had to
/// write the first page.
#[actix_web::test]
async fn an_older_copy_with_the_same_header_is_noticed_by_its_pages() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    let filler = "filler ".repeat(100);
    for id in 0..200 {
        insert(&rig.db, id, filler.clone()).await.unwrap();
    }
    let (file, older) = (
        directory.path().join("test.db"),
        directory.path().join("older.db"),
    );
    let checkpoint = || {
        let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        other.batch_execute("PRAGMA wal_checkpoint").unwrap();
    };
    checkpoint();
    by_another("cp", &[&file, &older]);
    let rewrite = |text: &'static str| {
        rig.db.run("rewrite", async move |connection| {
            let all = diesel::update(note::table).set(note::text.eq(text.repeat(100)));
            on!(connection, |c| diesel_async::RunQueryDsl::execute(all, c)
                .await)
        })
    };
    rewrite("FILLER ").await.unwrap();
    checkpoint();
    let length = |path: &Path| fs::metadata(path).unwrap().len();
    assert_eq!(length(&file), length(&older));
    by_another("cmp", &[Path::new("--bytes=100"), &file, &older]);
    for begins_anew in [false, true] {
        if begins_anew {
            rewrite("Filler ").await.unwrap();
            checkpoint();
            // The log begins again.
            insert(&rig.db, 1000, "new".into()).await.unwrap();
        }
        let (input, output) = (
            format!("if={}", older.display()),
            format!("of={}", file.display()),
        );
        by_another(
            "dd",
            &[
                Path::new(&input),
                Path::new(&output),
                Path::new("conv=notrunc"),
            ],
        );
        rig.until_reason("unusable_file").await;
        rig.until(|board| board.readiness.serves()).await;
    }
    rig.supervisor.halt().await;
    assert_eq!(check_integrity(file).await.unwrap(), Integrity::Sound);
}

/// Without that, a plain copy of a file whose process has stopped would lack the newest commits.
#[actix_web::test]
async fn after_a_stop_the_file_alone_is_the_whole_database() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    for id in 0..50 {
        insert(&rig.db, id, "kept".into()).await.unwrap();
    }
    ids(&rig.db).await;
    rig.supervisor.halt().await;
    assert!(!directory.path().join("test.db-wal").exists());
    let copy = directory.path().join("copy.db");
    by_another("cp", &[&directory.path().join("test.db"), &copy]);
    assert_eq!(rows_in(&copy).len(), 50);
}

#[actix_web::test]
async fn a_file_that_is_truncated_is_not_used_until_a_whole_one_is_there() {
    for left in [0, 4096, 8192] {
        let scene = Scene::set().await;
        let file = scene.file();
        let from = scene
            .disturb(|| {
                let size = format!("--size={left}");
                by_another("truncate", &[Path::new(&size), &file]);
            })
            .await;
        scene.is_refused().await;
        scene.stays_away().await;
        by_another("cp", &[&scene.backup(), &file]);
        scene.is_back().await;
        let (acknowledged, there, _) = scene.end().await;
        let later: Vec<i64> = acknowledged.into_iter().filter(|id| *id >= from).collect();
        assert_eq!(lost(&later, &[&there]), [0; 0]);
    }
}

#[actix_web::test]
async fn a_log_that_is_deleted_is_put_into_the_file_and_nothing_is_lost() {
    let scene = Scene::set().await;
    let log = scene.log();
    scene.disturb(|| fs::remove_file(&log).unwrap()).await;
    scene.is_back().await;
    let (acknowledged, there, _) = scene.end().await;
    assert_eq!(lost(&acknowledged, &[&there]), [0; 0]);
}

/// Commits that were only in the log are lost, and this is reported; the file is sound.
#[actix_web::test]
async fn a_log_that_is_truncated_does_not_get_into_the_file() {
    let scene = Scene::set().await;
    let (file, log) = (scene.file(), scene.log());
    // So that the table itself is in the file.
    let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
    other.batch_execute("PRAGMA wal_checkpoint").unwrap();
    drop(other);
    // So that something is in the log alone: a log that is completely in the file begins again, and truncating it does
    // no harm.
    scene.writers.go_on(10).await;
    let from = scene
        .disturb(|| drop(fs::File::create(&log).unwrap()))
        .await;
    scene.is_back().await;
    let (acknowledged, there, _) = scene.end().await;
    let later: Vec<i64> = acknowledged.into_iter().filter(|id| *id >= from).collect();
    assert_eq!(lost(&later, &[&there]), [0; 0]);
}

/// Also without a writer.
#[actix_web::test]
async fn a_log_that_is_truncated_is_noticed_without_any_work() {
    let directory = tempfile::tempdir().unwrap();
    let rig = Rig::ready(config(sqlite(directory.path())))
        .await
        .with_notes()
        .await;
    insert(&rig.db, 1, "in the log".into()).await.unwrap();
    fs::File::create(directory.path().join("test.db-wal")).unwrap();
    rig.until_reason("unusable_file").await;
    rig.until(|board| board.readiness.serves()).await;
    rig.supervisor.halt().await;
}

/// A restart of the component is none of the process: the file is missed all the same.
#[actix_web::test]
async fn a_restarted_component_does_not_make_an_empty_file_of_one_that_is_gone() {
    let scene = Scene::set().await;
    let file = scene.file();
    scene.disturb(|| fs::remove_file(&file).unwrap()).await;
    scene.rig.supervisor.restart("db").unwrap();
    scene
        .rig
        .until(|board| {
            let db = &board.components[0];
            db.generation == 2 && db.reason.is_some_and(|it| it.as_str() == "unusable_file")
        })
        .await;
    scene.stays_away().await;
    assert!(!file.exists());
    fs::rename(scene.backup(), &file).unwrap();
    scene.is_back().await;
    scene.writers.stop().await;
    scene.rig.supervisor.halt().await;
}

/// Allowed changes of a file by other processes, with or without SQLite, are no reason to stop.
#[actix_web::test]
async fn what_does_no_harm_to_the_file_is_let_pass() {
    let scene = Scene::set().await;
    let down = scene
        .rig
        .supervisor
        .until(|board| !board.readiness.serves());
    let (file, log) = (scene.file(), scene.log());
    let changes = tokio::task::spawn_blocking(move || {
        let mut other = diesel::SqliteConnection::establish(file.to_str().unwrap()).unwrap();
        other.batch_execute("PRAGMA busy_timeout = 20000").unwrap();
        for round in 0..5 {
            let statements = [
                format!("CREATE TABLE other{round} (filler BLOB)"),
                format!("INSERT INTO other{round} VALUES (zeroblob(1000000))"),
                "PRAGMA wal_checkpoint(TRUNCATE)".to_owned(),
                format!("DROP TABLE other{round}"),
                "VACUUM".to_owned(),
                "PRAGMA wal_checkpoint(RESTART)".to_owned(),
            ];
            for statement in statements {
                other.batch_execute(&statement).unwrap();
            }
            let link = file.with_extension(round.to_string());
            fs::hard_link(&file, &link).unwrap();
            fs::remove_file(&link).unwrap();
            by_another("touch", &[&file, &log]);
            by_another("cp", &[&file, &file.with_extension("copy")]);
        }
    });
    tokio::select! {
        ended = changes => ended.unwrap(),
        _ = down => panic!("{:?}", scene.rig.supervisor.board()),
    }
    // Some looks later.
    let down = scene
        .rig
        .supervisor
        .until(|board| !board.readiness.serves());
    let down = tokio::time::timeout(Duration::from_secs(2), down).await;
    assert!(down.is_err(), "{:?}", scene.rig.supervisor.board());
    let (acknowledged, there, _) = scene.end().await;
    assert_eq!(lost(&acknowledged, &[&there]), [0; 0]);
}

/// Of a file that is still being copied, nothing is opened.
#[actix_web::test]
async fn a_backup_on_its_way_is_waited_for() {
    let scene = Scene::set().await;
    let (file, whole) = (scene.file(), fs::read(scene.backup()).unwrap());
    scene.disturb(|| fs::remove_file(&file).unwrap()).await;
    let (half, _) = whole.split_at(whole.len() / 2);
    fs::write(&file, half).unwrap();
    scene.stays_away().await;
    fs::write(&file, &whole).unwrap();
    scene.is_back().await;
    let (_, there, _) = scene.end().await;
    assert!(there.contains(&-BEFORE));
}
