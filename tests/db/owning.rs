//! Migrations of many owners in one database.

use std::{fs, path::Path, process::Command};

use diesel_migrations::{EmbeddedMigrations, embed_migrations};
use dotmac_platform::{
    MIGRATIONS,
    db::{
        Config, Migrations, MigrationsError, OpenError, SCHEMA_NEWER, Scripts, Target,
        migrations::{Step, in_order, migrate},
    },
};

use crate::{
    rig::{Rig, config, execute, postgres, sqlite},
    support::Postgres,
};

static ACCOUNTS: EmbeddedMigrations = embed_migrations!("tests/db/owners/accounts");
static NOTES: EmbeddedMigrations = embed_migrations!("tests/db/owners/notes");
/// The first of [`NOTES`], as of an older release.
static OLDER: EmbeddedMigrations = embed_migrations!("tests/db/owners/older");

const fn of(owner: &'static str, scripts: &'static EmbeddedMigrations) -> Migrations {
    let scripts = Scripts {
        postgres: scripts,
        sqlite: scripts,
    };
    scripts.owned_by(owner)
}

const BOTH: [Migrations; 3] = [
    of("notes", &NOTES).after(&["accounts"]),
    of("accounts", &ACCOUNTS),
    MIGRATIONS,
];

/// Runs `test` on both back ends, migrated by a program that has the platform, notes and accounts.
async fn on_both(test: impl AsyncFn(Config)) {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let mut config = config(target);
        config.migrations = BOTH.to_vec();
        test(config).await;
    }
}

fn down(owner: &str, steps: u32) -> Step {
    let owner = owner.to_owned();
    Step::Down { owner, steps }
}

fn with(config: &Config, migrations: &[Migrations]) -> Config {
    let mut config = config.clone();
    config.migrations = migrations.to_vec();
    config
}

/// Both use the same time; notes refer to accounts.
#[tokio::test(flavor = "multi_thread")]
async fn owners_run_after_those_they_name_and_go_back_each_alone() {
    on_both(async |config| {
        let up = migrate(&config, Step::Up).await.unwrap();
        let others: Vec<_> = up.changed.iter().filter(|it| it.contains('/')).collect();
        assert_eq!(
            others,
            [
                "accounts/2026-01-01-000001_account",
                "notes/2026-01-01-000001_note",
                "notes/2026-01-02-000001_tag"
            ]
        );
        assert_eq!(up.changed.len(), up.status.applied().len());
        assert!(!up.changed[0].contains('/'), "the platform is the first");
        assert!(
            up.status
                .applied()
                .contains(&"notes/20260101000001".to_owned())
        );

        let back = migrate(&config, down("notes", 2)).await.unwrap();
        let expected = [
            "notes/2026-01-02-000001_tag",
            "notes/2026-01-01-000001_note",
        ];
        assert_eq!(back.changed, expected);
        assert_eq!(back.status.of("notes").unwrap().pending.len(), 2);
        assert_eq!(back.status.of("accounts").unwrap().applied.len(), 1);
        assert_eq!(migrate(&config, Step::Up).await.unwrap().status, up.status);

        let refused = migrate(&config, down("nobody", 1)).await.unwrap_err();
        assert!(
            refused.to_string().contains("`nobody` owns no migrations"),
            "{refused}"
        );
    })
    .await;
}

#[actix_web::test]
async fn what_an_owner_ran_that_the_program_does_not_have_is_left_alone() {
    let server = Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    for target in [
        sqlite(directory.path()),
        Target::Postgres(postgres(&server)),
    ] {
        let mut all = config(target);
        all.migrations = BOTH.to_vec();
        let alone = with(&all, &[MIGRATIONS]);
        let (migrating, then) = (all.clone(), alone.clone());
        // A runtime of several threads, as migrations need; the test's has one.
        let up = tokio::task::spawn_blocking(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(migrate(&migrating, Step::Up)).unwrap();
            runtime.block_on(migrate(&then, Step::Up)).unwrap()
        });
        let up = up.await.unwrap();
        assert_eq!(up.changed, Vec::<String>::new());
        let notes = up.status.of("notes").unwrap();
        assert!(notes.is_absent && notes.applied.len() == 2, "{notes:?}");
        assert_eq!(up.status.unknown(), Vec::<String>::new());
        let rig = Rig::ready(alone).await;
        rig.supervisor.halt().await;
    }
}

/// The message names the command that takes back what is too new, and it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_is_newer_by_one_owner_is_refused_with_a_remedy_that_works() {
    on_both(async |config| {
        migrate(&config, Step::Up).await.unwrap();
        let older = of("notes", &OLDER).after(&["accounts"]);
        let older = with(&config, &[MIGRATIONS, of("accounts", &ACCOUNTS), older]);
        let refused = migrate(&older, Step::Up).await.unwrap_err();
        assert_eq!(refused.reason(), SCHEMA_NEWER);
        let text = refused.to_string();
        assert!(text.contains("notes/20260102000001"), "{text}");
        let command = text.split("`migrate down --owner ").nth(1).unwrap();
        let command: Vec<&str> = command.split(['`', ' ']).collect();
        let ["notes", "--steps", steps, ..] = command.as_slice() else {
            panic!("{text}")
        };
        let newer = &config;
        migrate(newer, down("notes", steps.parse().unwrap()))
            .await
            .unwrap();
        migrate(&older, Step::Up).await.unwrap();

        migrate(newer, Step::Up).await.unwrap();
        let mark = "INSERT INTO schema_compatible (version) VALUES ('notes/20260102000001')";
        execute(&config.target, mark).await;
        let up = migrate(&older, Step::Up).await.unwrap();
        assert_eq!(up.status.unknown(), ["notes/20260102000001"]);
        assert_eq!(up.changed, Vec::<String>::new());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_for_one_back_end_alone_is_refused_by_name() {
    let lacking = Scripts {
        postgres: &NOTES,
        sqlite: &OLDER,
    };
    let lacking = lacking.owned_by("notes");
    let refused = lacking.check().unwrap_err();
    assert!(
        matches!(&refused, MigrationsError::OneBackEnd { owner, back_end: "SQLite", names }
            if owner == "notes" && names == "`2026-01-02-000001_tag`"),
        "{refused:?}"
    );
    on_both(async |config| {
        let config = with(&config, &[MIGRATIONS, of("accounts", &ACCOUNTS), lacking]);
        let refused = migrate(&config, Step::Up).await.unwrap_err();
        assert!(matches!(&refused, OpenError::Migrations(_)), "{refused:?}");
        assert!(refused.is_permanent(), "a start ends with it");
        assert!(
            refused.to_string().contains("`2026-01-02-000001_tag`"),
            "{refused}"
        );
        let nothing = migrate(&with(&config, &[MIGRATIONS]), Step::Look)
            .await
            .unwrap();
        assert_eq!(nothing.status.applied(), Vec::<String>::new());
    })
    .await;
}

#[test]
fn mistakes_of_a_program_are_named() {
    let refused = |all: &[Migrations]| in_order(all).unwrap_err();
    assert_eq!(
        refused(&[of("Notes", &NOTES)]),
        MigrationsError::Name("Notes".into())
    );
    assert_eq!(
        refused(&[of("notes", &NOTES), of("notes", &OLDER)]),
        MigrationsError::OwnerTwice("notes".into())
    );
    assert_eq!(
        refused(&[
            of("one", &NOTES).after(&["two"]),
            of("three", &NOTES),
            of("two", &NOTES).after(&["one"])
        ]),
        MigrationsError::Circle("`one`, `two`".into())
    );
    // No migration waits for an owner that is not in the program.
    let order = in_order(&[of("notes", &NOTES).after(&["gone"]), MIGRATIONS]).unwrap();
    let owners: Vec<_> = order.iter().map(|it| it.owner).collect();
    assert_eq!(owners, ["platform", "notes"]);
}

/// With the build script that `migrations!` requires cargo recompiles a crate for a new folder, and only then.
#[test]
fn a_new_migration_is_compiled_in() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "Cargo.toml",
        "[package]\nname = \"tracked\"\nedition = \"2024\"\n[workspace]\n",
    );
    write(
        "src/lib.rs",
        "pub const TRACKED: &str = env!(\"DOTMAC_MIGRATIONS\");\n",
    );
    write(
        "migrations/sqlite/2026-01-01-000001_one/up.sql",
        "SELECT 1;",
    );
    let platform =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("platform/build.rs"));
    let lines = platform.unwrap().replace("../migrations", "migrations");
    assert!(
        lines.contains("cargo::rerun-if-changed=migrations\""),
        "{lines}"
    );
    write("build.rs", &lines);
    let is_fresh = || {
        let built = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--message-format", "json"])
            .current_dir(directory.path())
            .env("CARGO_TARGET_DIR", directory.path().join("target"))
            .output()
            .unwrap();
        let said = String::from_utf8(built.stdout).unwrap();
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let is_lib = |line: &&str| line.contains("compiler-artifact") && line.contains("\"lib\"");
        let artifact = said.lines().find(is_lib).unwrap();
        artifact.contains("\"fresh\":true")
    };
    assert!(!is_fresh());
    assert!(is_fresh());
    write(
        "migrations/sqlite/2026-01-02-000001_two/up.sql",
        "SELECT 2;",
    );
    assert!(!is_fresh());
}
