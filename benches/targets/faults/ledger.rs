//! Clients that write rows all the time, and remember which of them were acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::task::JoinHandle;

use crate::support::Postgres;

const CLIENTS: i64 = 4;

/// Between two writes of one client: a steady load, far from saturation.
const PACE: Duration = Duration::from_millis(5);

pub struct Ledger {
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<Vec<i64>>>,
}

impl Ledger {
    pub fn begin(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let clients = (0..CLIENTS)
            .map(|client| tokio::spawn(write(port, client, Arc::clone(&stop))))
            .collect();
        Self { stop, clients }
    }

    /// How many writes were acknowledged, and how many of these are not in the table.
    pub async fn end(self, postgres: &Postgres) -> (usize, usize) {
        self.stop.store(true, Relaxed);
        let mut acknowledged = Vec::new();
        for client in self.clients {
            acknowledged.extend(client.await.unwrap());
        }
        let mut found = 0;
        for some in acknowledged.chunks(10_000) {
            let ids: Vec<String> = some.iter().map(i64::to_string).collect();
            let count = format!(
                "SELECT count(*) FROM ledger WHERE id = ANY('{{{}}}')",
                ids.join(",")
            );
            found += postgres.query(&count).await.parse::<usize>().unwrap();
        }
        (acknowledged.len(), acknowledged.len() - found)
    }
}

async fn write(port: u16, client: i64, stop: Arc<AtomicBool>) -> Vec<i64> {
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let mut acknowledged = Vec::new();
    let mut id = client;
    while !stop.load(Relaxed) {
        id += CLIENTS;
        let url = format!("http://127.0.0.1:{port}/faults/ledger?id={id}");
        let answer = http.post(url).send().await;
        if answer.is_ok_and(|answer| answer.status().is_success()) {
            acknowledged.push(id);
        }
        tokio::time::sleep(PACE).await;
    }
    acknowledged
}
