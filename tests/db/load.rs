//! Clients that write, and know what was acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use diesel::prelude::*;
use diesel_async::RunQueryDsl;
use dotmac_platform::{
    db::{Db, DbError},
    on,
};
use tokio::task::JoinHandle;

use crate::rig::note;

pub async fn insert(db: &Db, id: i64, text: String) -> Result<usize, DbError> {
    db.transaction("insert", async move |c| {
        let row = (note::id.eq(id), note::text.eq(text));
        on!(c, |c| diesel::insert_into(note::table)
            .values(row)
            .execute(c)
            .await)
    })
    .await
}

/// All of them, as soon as the database answers.
pub async fn ids(db: &Db) -> Vec<i64> {
    crate::support::eventually("the ids", || async {
        let read = db.read("ids", async |c| {
            on!(c, |c| note::table.select(note::id).load(c).await)
        });
        read.await.ok()
    })
    .await
}

/// Clients that insert one row after the other, and remember which were acknowledged.
pub struct Writers {
    stop: Arc<AtomicBool>,
    next: Arc<AtomicI64>,
    clients: Vec<JoinHandle<Vec<i64>>>,
}

impl Writers {
    pub fn start(db: &Db, clients: usize) -> Self {
        let (stop, next) = (
            Arc::new(AtomicBool::new(false)),
            Arc::new(AtomicI64::new(1)),
        );
        let client = |_| {
            let (db, stop, next) = (db.clone(), Arc::clone(&stop), Arc::clone(&next));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                while !AtomicBool::load(&stop, Relaxed) {
                    let id = next.fetch_add(1, Relaxed);
                    match insert(&db, id, "written".into()).await {
                        Ok(_) => acknowledged.push(id),
                        Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    }
                }
                acknowledged
            })
        };
        Self {
            clients: (0..clients).map(client).collect(),
            stop,
            next,
        }
    }

    /// Waits until some more have been tried.
    pub async fn go_on(&self, rows: i64) {
        let until = AtomicI64::load(&self.next, Relaxed) + rows;
        let begun = Instant::now();
        while AtomicI64::load(&self.next, Relaxed) < until {
            assert!(begun.elapsed() < crate::support::PATIENCE);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The row that is tried next, or a later one.
    pub fn next(&self) -> i64 {
        AtomicI64::load(&self.next, Relaxed)
    }

    /// All that were acknowledged.
    pub async fn stop(self) -> Vec<i64> {
        self.stop.store(true, Relaxed);
        let mut all = Vec::new();
        for client in self.clients {
            all.extend(client.await.unwrap());
        }
        all
    }
}
