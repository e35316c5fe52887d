//! Values that are encrypted at rest, in real columns: what is stored, and what a change of keys does to it.

use std::{
    collections::BTreeMap,
    fmt::Debug,
    fs,
    path::Path,
    process::Command,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{
        Config, Db, DbError, Share, Target, TenantId, Tx,
        sealing::{
            KeyId, Keyring, ResealError, Resealed, Resealing, Sealed, SealedColumn, Sealer,
            SealingError, count,
        },
        types::Id,
    },
    on,
    secrets::{ExposeSecret, SecretString},
};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use crate::{
    rig::{Rig, config, is_postgres, on_both, postgres, sqlite},
    support::{self, tool},
};

/// Texts that must not appear.
const PLANTED: &str = "planted-secret-4711";
const SECRET: SealedColumn = SealedColumn::new("endpoint", "secret");
/// Keys as operators write them.
const OLD: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const NEW: &str = "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    endpoint (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        secret -> Nullable<Binary>,
    }
}

#[derive(Clone, Debug, Insertable, Queryable, Selectable)]
#[diesel(table_name = endpoint)]
struct Endpoint {
    id: Id<Endpoint>,
    tenant_id: TenantId,
    secret: Option<Sealed<str>>,
}

async fn make_table(rig: &Rig) {
    if !is_postgres(&rig.db).await {
        rig.run("CREATE TABLE endpoint (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, secret BLOB)")
            .await;
        return;
    }
    for statement in [
        "CREATE TABLE endpoint (id UUID NOT NULL PRIMARY KEY, tenant_id UUID NOT NULL, secret BYTEA)",
        "ALTER TABLE endpoint ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE endpoint FORCE ROW LEVEL SECURITY",
        "CREATE POLICY tenant ON endpoint USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'))",
    ] {
        rig.run(statement).await;
    }
}

fn sealer(keys: &str) -> Sealer {
    let keyring = Keyring::new("DOTMAC_APP_MASTER_KEY");
    keyring.set(&keys.into()).unwrap();
    Sealer::new(keyring)
}

fn id_of(key: &str) -> KeyId {
    sealer(key).keyring().ids()[0]
}

async fn insert(tx: &mut Tx, row: Endpoint) -> Result<(), DbError> {
    let insert = diesel::insert_into(endpoint::table).values(row);
    on!(tx, |c| insert.execute(c).await).map(drop)
}

/// Adds a row whose secret is `secret`, of its own tenant.
async fn add(db: &Db, sealer: &Sealer, secret: Option<&str>) -> Id<Endpoint> {
    let id = Id::new();
    let sealed = secret.map(|secret| sealer.seal(SECRET.of(id), secret).unwrap());
    let row = Endpoint {
        id,
        tenant_id: TenantId::new(),
        secret: sealed,
    };
    let adding = db.transaction("add", async move |tx| insert(tx, row).await);
    adding.await.unwrap();
    id
}

async fn find(db: &Db, id: Id<Endpoint>) -> Endpoint {
    let found = db.read("find", async move |c| {
        on!(c, |c| {
            let query = endpoint::table.find(id);
            query.select(Endpoint::as_select()).first(c).await
        })
    });
    let found: Result<_, DbError> = found.await;
    found.unwrap()
}

fn opened(sealer: &Sealer, row: &Endpoint) -> Result<SecretString, SealingError> {
    sealer.open(SECRET.of(row.id), row.secret.as_ref().unwrap())
}

/// Looks for secrets in all that the whole process logs, at every level.
#[derive(Clone, Default)]
struct LogWatch(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    events: usize,
    leaks: Vec<String>,
}

impl LogWatch {
    /// From here on, permanently: other tests of this program are watched too.
    fn begin() -> Self {
        static WATCH: OnceLock<LogWatch> = OnceLock::new();
        let begin = || {
            let watch = Self::default();
            let subscriber = tracing_subscriber::registry().with(watch.clone());
            tracing::subscriber::set_global_default(subscriber).unwrap();
            watch
        };
        WATCH.get_or_init(begin).clone()
    }
}

impl Visit for &LogWatch {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let value = format!("{value:?}");
        if [PLANTED, OLD, NEW]
            .iter()
            .any(|secret| holds(value.as_bytes(), secret))
        {
            let leak = format!("{}: {value}", field.name());
            self.0.lock().unwrap().leaks.push(leak);
        }
    }
}

impl<S: Subscriber> Layer<S> for LogWatch {
    fn on_new_span(&self, attributes: &span::Attributes<'_>, _: &span::Id, _: Context<'_, S>) {
        attributes.record(&mut &*self);
    }

    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        values.record(&mut &*self);
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        self.0.lock().unwrap().events += 1;
        event.record(&mut &*self);
        if *event.metadata().level() == tracing::Level::ERROR {
            // Among them is why a test panicked.
            event.record(&mut |field: &Field, value: &dyn Debug| eprintln!("{field}: {value:?}"));
        }
    }
}

/// Every file of SQLite's, or what `pg_dump` writes.
fn dump(directory: &Path, port: Option<u16>) -> Vec<u8> {
    if let Some(port) = port {
        // Debian's own `pg_dump` is a wrapper that goes by its name.
        let dumped = Command::new(tool("psql").with_file_name("pg_dump"))
            .args(["--host=127.0.0.1", &format!("--port={port}")])
            // The superuser sees through row-level security.
            .args(["--username=postgres", "--inserts", "dotmac"])
            .env("PGPASSWORD", "postgres")
            .output()
            .unwrap();
        assert!(
            dumped.status.success(),
            "{}",
            String::from_utf8_lossy(&dumped.stderr)
        );
        return dumped.stdout;
    }
    let files = fs::read_dir(directory).unwrap();
    files
        .flat_map(|file| fs::read(file.unwrap().path()).unwrap())
        .collect()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    let hexadecimal: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let is_there = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
    is_there(text.as_bytes()) || is_there(hexadecimal.as_bytes())
}

#[actix_web::test]
async fn a_planted_secret_is_in_no_dump_no_log_and_no_debug() {
    let server = support::Postgres::start().await;
    let directory = tempfile::tempdir().unwrap();
    let log = LogWatch::begin();
    for (target, port) in [
        (sqlite(directory.path()), None),
        (Target::Postgres(postgres(&server)), Some(server.port)),
    ] {
        // Every statement is slow, so every one is logged.
        let rig = Rig::ready(Config {
            slow_query: Duration::ZERO,
            ..config(target)
        });
        let rig = rig.await;
        make_table(&rig).await;
        let db = rig.db.for_module("hooks", Share::HALF).system("a test");
        let (old, both) = (sealer(OLD), sealer(&format!("{NEW},{OLD}")));
        let id = add(&db, &old, Some(PLANTED)).await;
        let row = find(&db, id).await;
        assert_eq!(opened(&old, &row).unwrap().expose_secret(), PLANTED);
        let resealed = Resealing::new(SECRET).step(&db, &both, 10).await;
        let error = opened(&sealer(NEW), &row).unwrap_err();
        let shown = format!("{row:?} {old:?} {both:?} {resealed:?} {error} {error:?}");
        rig.supervisor.halt().await;
        assert!(shown.contains("Sealed(key "), "{shown}");
        let dumped = dump(directory.path(), port);
        assert!(holds(&dumped, "endpoint"), "the dump is none");
        for secret in [PLANTED, OLD, NEW] {
            assert!(!holds(&dumped, secret), "it is in the dump");
            assert!(!holds(shown.as_bytes(), secret), "{shown}");
        }
    }
    let seen = log.0.lock().unwrap();
    assert!(seen.events > 0 && seen.leaks.is_empty(), "{:?}", seen.leaks);
}

#[actix_web::test]
async fn a_value_that_is_copied_to_another_row_does_not_open() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.for_module("hooks", Share::HALF).system("a test");
            let sealer = sealer(OLD);
            let theirs = find(&db, add(&db, &sealer, Some(PLANTED)).await).await;
            let mine = add(&db, &sealer, Some("mine")).await;
            let stolen = theirs.secret.clone();
            let copying = db.transaction("copy", async move |tx| {
                let row = endpoint::table.find(mine);
                let copy = diesel::update(row).set(endpoint::secret.eq(stolen));
                on!(tx, |c| copy.execute(c).await)
            });
            assert_eq!(
                copying
                    .await
                    .unwrap_or_else(|error: DbError| panic!("{error}")),
                1
            );
            let error = opened(&sealer, &find(&db, mine).await).unwrap_err();
            let (table, column) = ("endpoint", "secret");
            assert_eq!(error, SealingError::Damaged { table, column });
        },
    )
    .await;
}

#[actix_web::test]
async fn after_a_change_of_keys_the_old_one_can_go_when_nothing_is_left_of_it() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.for_module("hooks", Share::HALF).system("a test");
            let (old, new) = (id_of(OLD), id_of(NEW));
            let sealer = sealer(OLD);
            let mut rows = Vec::new();
            for number in 0..25 {
                rows.push(add(&db, &sealer, Some(&format!("secret {number}"))).await);
            }
            add(&db, &sealer, None).await;
            let counted = async || count(&db, SECRET).await.unwrap();
            assert_eq!(counted().await, BTreeMap::from([(Some(old), 25)]));

            // Followed live: the same sealer has the new key from here on.
            let keyring = sealer.keyring();
            keyring.set(&format!("{NEW},{OLD}").into()).unwrap();
            add(&db, &sealer, Some("already new")).await;
            let mut resealing = Resealing::new(SECRET);
            let mut steps = Vec::new();
            for left in [15, 5, 0] {
                steps.push(resealing.step(&db, &sealer, 10).await.unwrap());
                let counts = counted().await;
                assert_eq!(counts.get(&Some(old)).copied().unwrap_or(0), left);
                assert_eq!(counts[&Some(new)], 26 - left);
            }
            let step = |moved, is_done| Resealed {
                moved,
                failed: 0,
                is_done,
            };
            assert_eq!(steps, [step(10, false), step(10, false), step(5, true)]);
            assert_eq!(
                resealing.step(&db, &sealer, 10).await.unwrap(),
                step(0, true)
            );

            keyring.set(&NEW.into()).unwrap();
            for (number, id) in rows.into_iter().enumerate() {
                let secret = opened(&sealer, &find(&db, id).await).unwrap();
                assert_eq!(secret.expose_secret(), format!("secret {number}"));
            }
        },
    )
    .await;
}

#[actix_web::test]
async fn a_key_that_was_removed_too_early_is_named_and_holds_up_nothing() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.for_module("hooks", Share::HALF).system("a test");
            let lost = add(&db, &sealer(OLD), Some("lost")).await;
            let without = Keyring::new("DOTMAC_APP_MASTER_KEY");
            let mut resealing = Resealing::new(SECRET);
            let error = resealing
                .step(&db, &Sealer::new(without), 10)
                .await
                .unwrap_err();
            let origin = "DOTMAC_APP_MASTER_KEY";
            let expected = SealingError::NoKey { origin };
            assert!(matches!(error, ResealError::Sealing(error) if error == expected));

            let new = sealer(NEW);
            let error = opened(&new, &find(&db, lost).await)
                .unwrap_err()
                .to_string();
            assert!(error.contains(&id_of(OLD).to_string()), "{error}");
            assert!(error.contains("DOTMAC_APP_MASTER_KEY"), "{error}");
            let third = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWY=";
            let other = add(&db, &sealer(third), Some("other")).await;
            let some = sealer(&format!("{NEW},{third}"));
            let mut sum = (0, 0);
            for _ in 0..2 {
                let step = resealing.step(&db, &some, 1).await.unwrap();
                sum = (sum.0 + step.moved, sum.1 + step.failed);
            }
            assert_eq!(sum, (1, 1), "moved and failed");
            assert!(opened(&new, &find(&db, other).await).is_ok());
            let counts = count(&db, SECRET).await.unwrap();
            assert_eq!(counts[&Some(id_of(OLD))], 1);
            assert!(resealing.step(&db, &some, 1).await.unwrap().is_done);
        },
    )
    .await;
}

#[actix_web::test]
async fn a_value_that_changes_meanwhile_stays_as_it_was_changed() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.for_module("hooks", Share::HALF).system("a test");
            let (old, both) = (sealer(OLD), sealer(&format!("{NEW},{OLD}")));
            let mut rows = Vec::new();
            for _ in 0..20 {
                rows.push(add(&db, &old, Some("before")).await);
            }
            let changing = async {
                for id in rows.clone() {
                    let sealed = old.seal(SECRET.of(id), "after").unwrap();
                    let change = db.transaction("change", async move |tx| {
                        let row = endpoint::table.find(id);
                        let change = diesel::update(row).set(endpoint::secret.eq(sealed));
                        on!(tx, |c| change.execute(c).await)
                    });
                    let changed: Result<_, DbError> = change.await;
                    assert_eq!(changed.unwrap(), 1);
                }
            };
            let resealing = async {
                let mut resealing = Resealing::new(SECRET);
                for _ in 0..10 {
                    resealing.step(&db, &both, 3).await.unwrap();
                }
            };
            tokio::join!(changing, resealing);
            for id in &rows {
                let secret = opened(&both, &find(&db, *id).await).unwrap();
                assert_eq!(secret.expose_secret(), "after");
            }
        },
    )
    .await;
}
