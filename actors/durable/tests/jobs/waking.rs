//! Wake-ups between instances, as another client of the server sees and sends them.

use std::{future::poll_fn, time::Duration};

use dotmac_durable::jobs::{Job, JobError, JobHandler, Run};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::{
    rig::{Rig, postgres},
    support::{PATIENCE, Postgres, eventually, postgres::PASSWORD},
};

/// A kind that no other test has: wake-ups reach all of this process.
#[derive(Clone, Serialize, Deserialize)]
struct Woken;

impl Job for Woken {
    const KIND: &'static str = "test.woken";
    type Output = ();
}

/// A client that listens, and what it hears.
async fn client(port: u16) -> (Client, mpsc::UnboundedReceiver<String>) {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(port).dbname("dotmac");
    config.user("dotmac").password(PASSWORD);
    let (client, mut connection) = config.connect(NoTls).await.unwrap();
    let (sender, heard) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notification(it) = message {
                sender.send(it.payload().to_owned()).ok();
            }
        }
    });
    client.batch_execute("LISTEN dotmac_wake").await.unwrap();
    (client, heard)
}

#[actix::test]
async fn other_instances_are_woken_after_a_commit_and_an_instance_by_others() {
    let server = Postgres::start().await;
    // By itself it looks for jobs once an hour.
    let set = |runner: dotmac_durable::jobs::Runner| runner.poll(Duration::from_secs(3600));
    let handler = |_: &_| vec![JobHandler::new(async |_: Run<Woken>| Ok::<_, JobError>(()))];
    let rig = Rig::with(&postgres(server.port), set, handler).await;
    let (client, mut heard) = client(server.port).await;
    // Until the instance listens it gets no notifications; and other tests of this process have other kinds.
    let silent = async {
        loop {
            rig.enqueue(Woken).await;
            let heard = tokio::time::timeout(Duration::from_secs(1), heard.recv()).await;
            let payload = heard.ok().flatten().unwrap_or_default();
            if payload.split(' ').any(|word| word == Woken::KIND) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, silent).await.unwrap();

    let left = async || {
        let count = "SELECT count(*) FROM job WHERE state <> 'completed'";
        client.query_one(count, &[]).await.unwrap().get::<_, i64>(0)
    };
    let enqueued = "SET dotmac.tenant_id = '*'; WITH it AS (INSERT INTO job (id, tenant_id, kind, queue, state, priority, \
        run_at, max_attempts, created_at) SELECT gen_random_uuid(), tenant_id, kind, queue, 'ready', 0, run_at, 1, run_at \
        FROM job LIMIT 1 RETURNING id, tenant_id) \
        INSERT INTO job_payload (job_id, tenant_id, args) SELECT id, tenant_id, 'null' FROM it";
    client.batch_execute(enqueued).await.unwrap();
    eventually("the job of another program to be done", || async {
        let notify = "SELECT pg_notify('dotmac_wake', 'another test.other test.woken')";
        client.batch_execute(notify).await.unwrap();
        (left().await == 0).then_some(())
    })
    .await;
    rig.supervisor.halt().await;
}
