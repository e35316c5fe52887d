//! The database of a house, read and changed past the program.

use std::future::Future;

use crate::{Answer, House};

impl House {
    /// Runs statements on the database, past the program.
    pub(crate) async fn sql(&self, statements: &str) {
        match &self.postgres {
            Some(postgres) => drop(postgres.query(statements).await),
            None => {
                let file = self.directory.path().join("house.db");
                dotmac_testkit::sqlite::execute(&file, statements);
            }
        }
    }

    /// How many rows a table has.
    pub(crate) async fn rows(&self, table: &str) -> i64 {
        match &self.postgres {
            Some(postgres) => {
                let query = format!("SELECT count(*) FROM {table}");
                postgres.query(&query).await.trim().parse().unwrap()
            }
            None => {
                let file = self.directory.path().join("house.db");
                dotmac_testkit::sqlite::count(&file, table)
            }
        }
    }

    /// Sends the request while a transaction on PostgreSQL holds all users, as a change of how they sign in does, and has made
    /// that change, which is committed 4 s later.
    pub(crate) async fn while_user_is_held(
        &self,
        change: &str,
        request: impl Future<Output = Answer>,
    ) -> Answer {
        let postgres = self.postgres.as_ref().unwrap();
        let changing = format!(
            "BEGIN; SELECT 1 FROM users FOR NO KEY UPDATE; {change}; SELECT pg_sleep(4); COMMIT"
        );
        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
        let requested = async {
            dotmac_testkit::eventually("the change to be under way", || async {
                (postgres.query(sleeps).await == "1").then_some(())
            })
            .await;
            request.await
        };
        tokio::join!(postgres.query(&changing), requested).1
    }

    /// All that the database holds, as text.
    pub(crate) async fn dump(&self) -> String {
        match &self.postgres {
            Some(postgres) => postgres.dump().await,
            None => dotmac_testkit::sqlite::dump(&self.directory.path().join("house.db")),
        }
    }
}
