//! What holds back the vacuum is named: sessions, prepared transactions, replication slots.

use dotmac_db::Connection;
use dotmac_durable::jobs::vacuum_holders;

use crate::{
    rig::{Rig, postgres},
    support::{Postgres, eventually},
};

#[actix::test]
async fn a_prepared_transaction_and_a_replication_slot_that_hold_back_the_vacuum_are_named() {
    let mut server = Postgres::start().await;
    for setting in ["max_prepared_transactions = 2", "wal_level = logical"] {
        server.query(&format!("ALTER SYSTEM SET {setting}")).await;
    }
    server.kill().await;
    server.restart().await;
    let rig = Rig::start(&postgres(server.port), |_| Vec::new()).await;
    let holders = async || {
        let read = async |c: &mut Connection| vacuum_holders(c).await;
        rig.system().read("holders", read).await.unwrap()
    };
    assert_eq!(holders().await, []);
    // The slot first: making one waits for transactions that are under way.
    let slot = "SELECT slot_name FROM pg_create_logical_replication_slot('unread', 'pgoutput')";
    assert_eq!(server.query(slot).await, "unread");
    let connected = tokio_postgres::connect(&server.url(), tokio_postgres::NoTls).await;
    let (client, connection) = connected.unwrap();
    let connection = tokio::spawn(connection);
    let prepare = "BEGIN; INSERT INTO done VALUES (1, 'x'); PREPARE TRANSACTION 'forgotten `one`'";
    client.batch_execute(prepare).await.unwrap();
    drop(client);
    connection.await.unwrap().unwrap();
    let found = eventually("both to be named", || async {
        let found = holders().await;
        (found.len() == 2).then_some(found)
    })
    .await;
    assert_eq!(found[0].name, "prepared transaction `forgotten  one `,");
    assert!(found[0].seconds.is_some_and(|it| it >= 10), "{found:?}");
    let slot = "replication slot `unread`, inactive (for system tables alone), ";
    assert!(found[1].name.starts_with(slot), "{found:?}");
    assert_eq!(found[1].seconds, None);
    rig.supervisor.halt().await;
}
