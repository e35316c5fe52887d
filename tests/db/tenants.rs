//! Rows of tenants: by type and filter on both back ends, by row-level security on PostgreSQL.

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Connection, DbError, PoolSize, Share, TenantId, TenantScope, TenantTx, types::Id},
    on,
};

use crate::rig::{Rig, is_postgres, on_both};

diesel::table! {
    use dotmac_platform::db::types::sql::*;

    item (id) {
        id -> Uuid,
        tenant_id -> Uuid,
        text -> Text,
    }
}

#[derive(Clone, Insertable)]
#[diesel(table_name = item)]
struct Item {
    id: Id<Item>,
    tenant_id: TenantId,
    text: String,
}

async fn make_table(rig: &Rig) {
    if !is_postgres(&rig.db).await {
        rig.run("CREATE TABLE item (id TEXT NOT NULL PRIMARY KEY, tenant_id TEXT NOT NULL, text TEXT NOT NULL)")
            .await;
        return;
    }
    for statement in [
        "CREATE TABLE item (id UUID NOT NULL PRIMARY KEY, tenant_id UUID NOT NULL, text TEXT NOT NULL)",
        "ALTER TABLE item ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE item FORCE ROW LEVEL SECURITY",
        "CREATE POLICY tenant ON item USING (current_setting('dotmac.tenant_id', true) IN (tenant_id::text, '*'))",
    ] {
        rig.run(statement).await;
    }
}

async fn insert(c: &mut Connection, tenant_id: TenantId, text: &str) -> Result<Id<Item>, DbError> {
    let id = Id::new();
    let row = Item {
        id,
        tenant_id,
        text: text.to_owned(),
    };
    on!(c, |c| diesel::insert_into(item::table)
        .values(&row)
        .execute(c)
        .await)?;
    Ok(id)
}

async fn add(tx: &mut TenantTx, text: &str) -> Result<Id<Item>, DbError> {
    let tenant = tx.tenant();
    insert(tx, tenant, text).await
}

async fn texts(tx: &mut TenantTx) -> Result<Vec<String>, DbError> {
    let tenant = tx.tenant();
    on!(tx, |c| item::table
        .filter(item::tenant_id.eq(tenant))
        .order(item::id)
        .select(item::text)
        .load(c)
        .await)
}

/// As of a programmer who forgets the filter.
async fn all(c: &mut Connection) -> Result<Vec<String>, DbError> {
    on!(c, |c| item::table
        .order(item::id)
        .select(item::text)
        .load(c)
        .await)
}

fn scope(why: &'static str) -> TenantScope {
    TenantScope::system(TenantId::new(), why)
}

#[actix_web::test]
async fn a_tenant_finds_its_own_rows_by_ids_of_its_own_and_no_others() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let (one, other) = (scope("a test"), scope("a test"));
            let module = rig.db.for_module("items", Share::HALF);
            for (scope, text) in [(&one, "one's"), (&other, "other's"), (&one, "one's too")] {
                let db = module.tenant(scope);
                assert_eq!(db.tenant(), scope.tenant());
                let id = db
                    .transaction("add", async |tx| add(tx, text).await)
                    .await
                    .unwrap();
                let found = db.read("find", async move |tx| {
                    let tenant = tx.tenant();
                    on!(tx, |c| item::table
                        .find(id)
                        .filter(item::tenant_id.eq(tenant))
                        .select((item::id, item::tenant_id))
                        .first::<(Id<Item>, TenantId)>(c)
                        .await)
                });
                assert_eq!(found.await.unwrap(), (id, scope.tenant()));
            }
            let (one, other) = (module.tenant(&one), module.tenant(&other));
            let seen = one.read("list", async |tx| texts(tx).await);
            assert_eq!(seen.await.unwrap(), ["one's", "one's too"]);
            let seen = other.read("list", async |tx| texts(tx).await);
            assert_eq!(seen.await.unwrap(), ["other's"]);
            let system = module.system("a test counts");
            let everything = system.read("all", async |c| all(c).await);
            assert_eq!(everything.await.unwrap().len(), 3);
        },
    )
    .await;
}

#[actix_web::test]
async fn what_only_reads_for_a_tenant_cannot_write() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.tenant(&scope("a test"));
            let refused = db.read("write", async |tx| add(tx, "text").await).await;
            assert!(matches!(&refused, Err(DbError::ReadOnly(_))), "{refused:?}");
        },
    )
    .await;
}

/// With one connection, so that what one borrower leaves behind the next would find.
#[actix_web::test]
async fn row_level_security_shows_a_transaction_the_rows_of_its_tenant_though_no_filter_does() {
    on_both(
        |config| config.pool_size = PoolSize::new(1),
        async |rig| {
            if !is_postgres(&rig.db).await {
                return;
            }
            make_table(rig).await;
            let (one, other) = (scope("a test"), scope("a test"));
            for scope in [&one, &other] {
                let db = rig.db.tenant(scope);
                db.transaction("add", async |tx| add(tx, "row").await)
                    .await
                    .unwrap();
                let seen = db.read("all", async |tx| all(tx).await);
                assert_eq!(seen.await.unwrap(), ["row"]);
                // Nothing of the scope is left on the connection.
                let seen = rig.db.read("all", async |c| all(c).await);
                assert_eq!(seen.await.unwrap(), Vec::<String>::new());
            }
            let foreign = other.tenant();
            let rows_of_one = rig.db.tenant(&one);
            let written = rows_of_one.transaction("write for another", async move |tx| {
                insert(tx, foreign, "foreign").await
            });
            assert!(written.await.is_err());
            let written = rig.db.run("write for nobody", async move |c| {
                insert(c, foreign, "x").await
            });
            assert!(written.await.is_err());
            let system = rig.db.for_module("items", Share::HALF).system("a test");
            for count in [2, 2] {
                let seen = system.read("all", async |c| all(c).await).await.unwrap();
                assert_eq!(seen.len(), count);
            }
            let removed = system.run("remove", async |c| {
                on!(c, |c| diesel::delete(item::table).execute(c).await)
            });
            assert_eq!(removed.await.unwrap(), 2);
        },
    )
    .await;
}

#[actix_web::test]
async fn a_transaction_of_a_tenant_that_meets_another_is_tried_again_in_its_scope() {
    on_both(
        |_| {},
        async |rig| {
            make_table(rig).await;
            let db = rig.db.tenant(&scope("a test"));
            let retry = dotmac_platform::db::Retry::serializable().tries(20);
            let adds = (0..6).map(|_| {
                db.retrying_transaction("add if few", retry, async |tx| {
                    if texts(tx).await?.len() < 3 {
                        add(tx, "text").await?;
                    }
                    Ok::<_, DbError>(())
                })
            });
            for added in futures_util::future::join_all(adds).await {
                added.unwrap();
            }
            let seen = db.read("list", async |tx| texts(tx).await).await.unwrap();
            assert_eq!(seen.len(), 3);
        },
    )
    .await;
}
