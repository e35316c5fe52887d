//! Acts, and what is found of them.

use std::sync::Arc;

use diesel_async::RunQueryDsl;
use dotmac_db::{
    Connection, ModuleDb, Target, TenantId, TenantScope, TenantTx, Tx, on,
    sealing::{Keyring, Sealer},
};
use dotmac_durable::audit::{
    Acts as _, Audit as _, Audited, Entry, Fault, SigningKeys, Verification, Verified, seal_some,
};
use dotmac_supervision::WorkerSpec;

pub use crate::instance::{Rig, on_both, patiently, postgres, scope, sqlite};
use crate::support;

const KEY: &str = "AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=";
const OTHER_KEY: &str = "ISIjJCUmJygpKissLS4vMDEyMzQ1Njc4OTo7PD0+P0A=";

/// Keys that everything is sealed with.
pub fn master() -> Sealer {
    keys(KEY)
}

/// Others.
pub fn other_master() -> Sealer {
    keys(OTHER_KEY)
}

/// Others that seal, and the first ones to open with: while the master key is changed.
pub fn both_masters() -> Sealer {
    keys(&format!("{OTHER_KEY},{KEY}"))
}

/// Without keys, until [`give_keys`].
pub fn no_keys() -> Sealer {
    Sealer::new(Keyring::new("the test's keys"))
}

/// Gives it those of [`master`].
pub fn give_keys(sealer: &Sealer) {
    sealer.keyring().set(&KEY.into()).unwrap();
}

fn keys(text: &str) -> Sealer {
    let keyring = Keyring::new("the test's keys");
    keyring.set(&text.into()).unwrap();
    Sealer::new(keyring)
}

pub fn another_scope() -> TenantScope {
    TenantScope::system(TenantId::from_uuid(uuid::Uuid::from_u128(2)), "test")
}

impl Rig {
    /// Starts one; needs an actix system. With a table of what acts change.
    pub async fn start(
        target: &Target,
        workers: impl FnOnce(&ModuleDb) -> Vec<WorkerSpec>,
    ) -> Self {
        let table = "CREATE TABLE IF NOT EXISTS changed (number BIGINT NOT NULL)";
        Self::start_with(table, target, workers).await
    }

    /// Does an act for each number.
    pub async fn act(&self, scope: &TenantScope, numbers: std::ops::Range<i64>) {
        for number in numbers {
            patiently(async || {
                let act = async move |tx: &mut TenantTx| change(tx, number).await;
                self.db.tenant(scope).act("change", act).await
            })
            .await;
        }
    }

    /// Writes an entry for each number, many at a time.
    pub async fn enter(&self, scope: &TenantScope, numbers: std::ops::Range<i64>) {
        for first in numbers.clone().step_by(100) {
            let some = first..numbers.end.min(first + 100);
            let act = async move |tx: &mut TenantTx| {
                for number in some {
                    let entry = Entry::new("number_add", "test.number", number.to_string());
                    let _ = tx.audit(entry)?.of(());
                }
                Ok::<_, dotmac_db::DbError>(())
            };
            let entered = self.db.tenant(scope).transaction("enter", act).await;
            entered.unwrap();
        }
    }

    /// Links all that is there, with signed checkpoints; how many entries.
    pub async fn seal(&self) -> usize {
        let mut sealed = 0;
        loop {
            let done = patiently(async || seal_some(&self.system(), Some(&master())).await).await;
            if done.entries == 0 {
                return sealed;
            }
            sealed += done.entries;
        }
    }

    pub async fn keys(&self, sealer: Option<&Sealer>) -> Arc<SigningKeys> {
        let sealer = sealer.cloned();
        let load = async move |c: &mut Connection| SigningKeys::load(c, sealer.as_ref()).await;
        Arc::new(self.system().read("load keys", load).await.unwrap())
    }

    pub async fn verification(&self, tenant: TenantId) -> Verification {
        Verification::new(tenant, self.keys(Some(&master())).await)
    }

    pub async fn verified(&self, tenant: TenantId) -> Verified {
        let found = self.verified_once(tenant).await;
        match &found.broken {
            // The sealer may have made its key after the keys were loaded.
            Some(broken) if broken.fault == Fault::Signature => self.verified_once(tenant).await,
            _ => found,
        }
    }

    async fn verified_once(&self, tenant: TenantId) -> Verified {
        let verification = self.verification(tenant).await;
        patiently(async || verification.clone().run(&self.system(), || {}).await).await
    }

    /// What a query that gives one number gives.
    pub async fn number(&self, sql: &'static str) -> i64 {
        #[derive(diesel::QueryableByName)]
        struct Number {
            #[diesel(sql_type = diesel::sql_types::BigInt)]
            number: i64,
        }
        patiently(async || {
            let ask = async move |c: &mut Connection| {
                let query = diesel::sql_query(sql);
                let found: Number = on!(c, |c| query.get_result(c).await)?;
                Ok(found.number)
            };
            self.system().read("ask", ask).await
        })
        .await
    }

    /// Changes the database as no part of the program does; how many rows.
    pub async fn tamper(&self, sql: &str) -> usize {
        let triggers = match self.is_postgres().await {
            true => ["entry", "link", "checkpoint"]
                .map(|it| format!("ALTER TABLE audit_{it} DISABLE TRIGGER append_only")),
            false => ["entry", "link", "checkpoint"]
                .map(|it| format!("DROP TRIGGER IF EXISTS audit_{it}_append_only")),
        };
        for trigger in triggers {
            self.execute(trigger).await;
        }
        self.execute(sql.to_owned()).await
    }

    pub async fn execute(&self, sql: String) -> usize {
        patiently(async || {
            let sql = sql.clone();
            let run = async move |tx: &mut Tx| on!(tx, |c| diesel::sql_query(sql).execute(c).await);
            self.system().transaction("run", run).await
        })
        .await
    }

    async fn is_postgres(&self) -> bool {
        let ask = async |c: &mut Connection| {
            Ok::<_, dotmac_db::DbError>(matches!(c, Connection::Postgres(_)))
        };
        self.system().read("ask", ask).await.unwrap()
    }
}

/// A row, and its entry.
pub async fn change(tx: &mut TenantTx, number: i64) -> Result<Audited<i64>, dotmac_db::DbError> {
    let sql = format!("INSERT INTO changed VALUES ({number})");
    on!(tx, |c| diesel::sql_query(sql).execute(c).await)?;
    let entry = Entry::new("number_add", "test.number", number.to_string());
    Ok(tx.audit(entry.detail("text", "Buy milk"))?.of(number))
}

/// Waits until the whole chain of the tenant of [`scope`] has `entries`, all right.
pub async fn until_sealed(rig: &Rig, entries: i64) -> Verified {
    support::eventually(&format!("{entries} entries in the chain"), || async {
        let found = rig.verified(scope().tenant()).await;
        assert_eq!(found.broken, None);
        (found.last == entries).then_some(found)
    })
    .await
}

/// Waits until the chain of the tenant of [`scope`] is signed up to `number` or further.
pub async fn until_signed(rig: &Rig, number: i64) {
    support::eventually("a signature", || async {
        let found = rig.verified(scope().tenant()).await;
        found.signed.filter(|it| *it >= number)
    })
    .await;
}
