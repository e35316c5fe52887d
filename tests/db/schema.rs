//! The migrations against what the code believes of them, and against what they do to tables in use.

use std::{collections::BTreeMap, fs, path::Path};

use diesel::{Connection as _, prelude::*};
use dotmac_platform::db::{
    Target,
    migrations::{Step, migrate},
};

use crate::{
    rig::{config, postgres, sqlite},
    support::{Postgres, files},
};

/// Columns by table and name: what kind of value, and whether it may be absent.
type Columns = BTreeMap<(String, String), (String, bool)>;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The content of `schema.rs`, read as text, since a `table!` has no reflection.
fn believed() -> Columns {
    let text = fs::read_to_string(root().join("actors/db/src/schema.rs")).unwrap();
    let (mut columns, mut table) = (Columns::new(), String::new());
    for line in text.lines().map(str::trim) {
        if let Some((name, kind)) = line.split_once(" -> ") {
            let kind = kind.trim_end_matches(',');
            let nullable = kind
                .strip_prefix("Nullable<")
                .map(|it| it.trim_end_matches('>'));
            let kind = kind_of(nullable.unwrap_or(kind));
            columns.insert((table.clone(), name.into()), (kind, nullable.is_some()));
        } else if let Some((name, _)) = line.split_once(" (") {
            table = name.to_owned();
        }
    }
    columns
}

/// One word for what diesel, PostgreSQL and SQLite call differently.
fn kind_of(name: &str) -> String {
    match name.to_lowercase().as_str() {
        "int8" | "bigint" | "integer" => "whole number",
        "text" | "varchar" | "uuid" => "text",
        "binary" | "blob" | "bytea" => "bytes",
        "timestamp" | "timestamp without time zone" => "moment",
        "bool" | "boolean" => "truth",
        "json" => "json",
        other => return other.to_owned(),
    }
    .to_owned()
}

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = diesel::sql_types::Text)]
    line: String,
}

fn columns(lines: impl IntoIterator<Item = String>) -> Columns {
    let parsed = lines.into_iter().map(|line| {
        let cells: Vec<&str> = line.split('|').collect();
        let [table, column, kind, nullable] = cells.as_slice() else {
            panic!("{line}")
        };
        let place = ((*table).to_owned(), (*column).to_owned());
        (place, (kind_of(kind), *nullable == "YES"))
    });
    // Those of the list of migrations are diesel's and ours to read by name.
    let is_ours = |((table, _), _): &((String, String), _)| {
        table != "__diesel_schema_migrations" && table != "schema_compatible"
    };
    parsed.filter(is_ours).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_code_believes_of_the_schema_what_the_migrations_make_on_both_back_ends() {
    let directory = tempfile::tempdir().unwrap();
    let server = Postgres::start().await;
    let target = sqlite(directory.path());
    let Target::Sqlite(file) = &target else {
        unreachable!()
    };
    migrate(&config(target.clone()), Step::Up).await.unwrap();
    let made = {
        let mut connection =
            diesel::SqliteConnection::establish(file.path().to_str().unwrap()).unwrap();
        // An `INTEGER PRIMARY KEY` is never absent, and SQLite does not say so.
        let query = "SELECT m.name || '|' || c.name || '|' || c.type || '|' || \
                     CASE WHEN c.\"notnull\" OR c.pk THEN 'NO' ELSE 'YES' END AS line \
                     FROM sqlite_master m JOIN pragma_table_info(m.name) c \
                     WHERE m.type = 'table' AND m.name NOT LIKE 'sqlite_%'";
        let lines: Vec<Line> = diesel::sql_query(query).load(&mut connection).unwrap();
        columns(lines.into_iter().map(|line| line.line))
    };
    assert!(!believed().is_empty());
    assert_eq!(believed(), made, "SQLite");

    let target = Target::Postgres(postgres(&server));
    migrate(&config(target), Step::Up).await.unwrap();
    let lines = server
        .query(
            "SELECT string_agg(table_name || '|' || column_name || '|' || data_type || '|' || is_nullable, E'\\n') \
             FROM information_schema.columns WHERE table_schema = 'public'",
        )
        .await;
    let made = columns(lines.lines().map(str::to_owned));
    assert_eq!(believed(), made, "PostgreSQL");
}

/// Statements that block all users of a table, with their replacement. A line `-- locks: REASON` in the
/// script says that it is meant.
fn objections(script: &str) -> Vec<&'static str> {
    if script.lines().any(|line| line.starts_with("-- locks: ")) {
        return Vec::new();
    }
    let code: Vec<&str> = script
        .lines()
        .map(|line| line.split("--").next().unwrap())
        .collect();
    let code = code.join(" ").to_uppercase();
    let made: Vec<&str> = code
        .split("CREATE TABLE ")
        .skip(1)
        .filter_map(|rest| rest.split([' ', '(']).next())
        .collect();
    let mut found = Vec::new();
    for statement in code.split(';').map(str::trim) {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let text = words.join(" ");
        let has = |part: &str| text.contains(part);
        let on_new_table = made.iter().any(|table| {
            has(&format!(" ON {table}")) || text.starts_with(&format!("ALTER TABLE {table} "))
        });
        if on_new_table {
            continue;
        }
        let is_index = text.starts_with("CREATE INDEX") || text.starts_with("CREATE UNIQUE INDEX");
        let rules = [
            (
                is_index && !has("CONCURRENTLY"),
                "an index on a table in use: CREATE INDEX CONCURRENTLY, with run_in_transaction = false",
            ),
            (
                has("ADD COLUMN") && has("NOT NULL") && !has("DEFAULT"),
                "a column that existing rows do not have: nullable or with a default",
            ),
            (
                has("ALTER COLUMN") && has(" TYPE "),
                "a column of another type rewrites the table: add one and drop the old one later",
            ),
            (
                has("SET NOT NULL"),
                "NOT NULL reads the whole table: a CHECK that is NOT VALID first, then VALIDATE",
            ),
            (
                has("ADD CONSTRAINT") && (has("FOREIGN KEY") || has("CHECK")) && !has("NOT VALID"),
                "a constraint on a table in use: NOT VALID, and VALIDATE in a later one",
            ),
            (
                has("ADD CONSTRAINT")
                    && (has(" UNIQUE") || has("PRIMARY KEY"))
                    && !has("USING INDEX"),
                "a key on a table in use: an index made CONCURRENTLY, then USING INDEX",
            ),
            (
                has(" RENAME "),
                "a running release uses the old name: add, move over, drop",
            ),
            (
                text.starts_with("DROP TABLE") || has("DROP COLUMN"),
                "a running release may still use it: say in `-- locks:` why none does",
            ),
            (
                text.starts_with("LOCK ") || text.starts_with("CLUSTER") || has("VACUUM FULL"),
                "it locks a whole table",
            ),
        ];
        found.extend(
            rules
                .into_iter()
                .filter_map(|(broken, why)| broken.then_some(why)),
        );
    }
    found
}

#[test]
fn no_migration_holds_up_a_table_in_use() {
    let scripts = files(&["migrations/postgres"], "sql");
    let ups = scripts.iter().filter(|file| file.ends_with("up.sql"));
    assert!(ups.clone().count() > 1);
    for file in ups {
        let found = objections(&fs::read_to_string(file).unwrap());
        assert!(found.is_empty(), "{}: {found:#?}", file.display());
    }
}

#[test]
fn what_holds_up_a_table_is_found() {
    let one = |script: &str| objections(script).len();
    assert_eq!(one("CREATE INDEX a ON b (c);"), 1);
    assert_eq!(one("CREATE INDEX CONCURRENTLY a ON b (c);"), 0);
    assert_eq!(one("CREATE TABLE b (c INT); CREATE INDEX a ON b (c);"), 0);
    assert_eq!(one("ALTER TABLE b ADD COLUMN c INT NOT NULL"), 1);
    assert_eq!(one("ALTER TABLE b ADD COLUMN c INT NOT NULL DEFAULT 0"), 0);
    assert_eq!(one("alter table b alter column c type text"), 1);
    assert_eq!(one("ALTER TABLE b ADD CONSTRAINT d CHECK (c > 0)"), 1);
    assert_eq!(
        one("ALTER TABLE b ADD CONSTRAINT d CHECK (c > 0) NOT VALID"),
        0
    );
    assert_eq!(one("-- locks: nobody uses it any more\nDROP TABLE b"), 0);
    assert_eq!(one("DROP TABLE b"), 1);
}

/// A mark of compatibility is of the migration that it stands in, and the same on both back ends.
#[test]
fn a_mark_of_compatibility_names_its_own_migration() {
    for file in files(&["migrations"], "sql") {
        if !file.ends_with("up.sql") {
            continue;
        }
        let script = fs::read_to_string(&file).unwrap();
        let name = file
            .parent()
            .unwrap()
            .file_name()
            .unwrap()
            .to_string_lossy();
        let digits: String = name.chars().filter(char::is_ascii_digit).collect();
        let marks = script
            .split("INTO schema_compatible (version) VALUES ('")
            .skip(1);
        for mark in marks.clone() {
            assert!(mark.starts_with(&digits[..14]), "{}", file.display());
        }
        let twin = |back_end: &str| {
            let path = root()
                .join("migrations")
                .join(back_end)
                .join(&*name)
                .join("up.sql");
            fs::read_to_string(path)
                .unwrap()
                .contains("INTO schema_compatible")
        };
        assert_eq!(twin("postgres"), twin("sqlite"), "{name}");
    }
}
