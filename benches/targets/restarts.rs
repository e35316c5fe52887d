//! Rolling restarts of two instances under load: no request may fail for a client that honours
//! `Connection: close` and asks only instances that were ready a moment ago.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use crate::{process::Measured, report::Report};

/// How often the balancer looks at readiness; the drain delay is a multiple of it.
const LOOK: Duration = Duration::from_millis(50);
const DRAIN: &str = "300ms";

pub async fn measure(report: &mut Report) {
    let rounds: usize = std::env::var("DOTMAC_BENCH_RESTARTS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(100);
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let start = |which: usize| {
        let instance = Measured::daemon(
            directories[which].path(),
            &[("DOTMAC_SHUTDOWN_DRAIN_DELAY", DRAIN.to_owned())],
        );
        instance.until("/ready");
        instance
    };
    let mut instances = [Some(start(0)), Some(start(1))];
    let ports: Vec<u16> = instances
        .iter()
        .flatten()
        .map(|instance| instance.port)
        .collect();
    let load = Load::begin(ports);
    for round in 0..rounds {
        let which = round % 2;
        if let Some(old) = instances[which].take() {
            old.signal("TERM");
            let code = tokio::task::spawn_blocking(move || old.ended())
                .await
                .unwrap();
            assert_eq!(code, Some(0));
        }
        let new = start(which);
        load.replace(which, new.port);
        instances[which] = Some(new);
        // The balancer must have found the new one before the other goes.
        tokio::time::sleep(LOOK * 4).await;
    }
    let (sent, failed) = load.end().await;
    report.row(
        "rolling restarts under load, requests failed",
        "none",
        format!("{failed} of {sent} in {rounds} restarts"),
        "every request answered".to_owned(),
        failed == 0,
    );
}

/// Clients on kept connections behind a balancer that reads `/ready`.
struct Load {
    ports: Arc<Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    clients: Vec<tokio::task::JoinHandle<()>>,
}

impl Load {
    fn begin(ports: Vec<u16>) -> Self {
        let ready = Arc::new(Mutex::new(ports.clone()));
        let (ports, stop) = (
            Arc::new(Mutex::new(ports)),
            Arc::new(AtomicBool::new(false)),
        );
        let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut clients = vec![tokio::spawn(balance(
            Arc::clone(&ports),
            Arc::clone(&ready),
            Arc::clone(&stop),
        ))];
        for _ in 0..16 {
            clients.push(tokio::spawn(ask(
                Arc::clone(&ready),
                Arc::clone(&stop),
                Arc::clone(&sent),
                Arc::clone(&failed),
            )));
        }
        Self {
            ports,
            stop,
            sent,
            failed,
            clients,
        }
    }

    fn replace(&self, which: usize, port: u16) {
        self.ports.lock().unwrap()[which] = port;
    }

    async fn end(self) -> (u64, u64) {
        self.stop.store(true, Relaxed);
        for client in self.clients {
            client.await.unwrap();
        }
        (self.sent.load(Relaxed), self.failed.load(Relaxed))
    }
}

async fn balance(ports: Arc<Mutex<Vec<u16>>>, ready: Arc<Mutex<Vec<u16>>>, stop: Arc<AtomicBool>) {
    let prober = reqwest::Client::builder()
        .no_proxy()
        .pool_max_idle_per_host(0)
        .timeout(Duration::from_secs(1))
        .build()
        .unwrap();
    while !stop.load(Relaxed) {
        let mut found = Vec::new();
        let known = ports.lock().unwrap().clone();
        for port in known {
            let asked = prober
                .get(format!("http://127.0.0.1:{port}/ready"))
                .send()
                .await;
            if asked.is_ok_and(|answer| answer.status().is_success()) {
                found.push(port);
            }
        }
        *ready.lock().unwrap() = found;
        tokio::time::sleep(LOOK).await;
    }
}

async fn ask(
    ready: Arc<Mutex<Vec<u16>>>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
) {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_secs(10))
        .build()
        .unwrap();
    let mut turn = 0;
    while !stop.load(Relaxed) {
        let ports = ready.lock().unwrap().clone();
        if ports.is_empty() {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        }
        turn += 1;
        let port = ports[turn % ports.len()];
        let answer = client.get(format!("http://127.0.0.1:{port}/")).send().await;
        sent.fetch_add(1, Relaxed);
        match answer {
            Ok(answer) if answer.status().is_success() => drop(answer.bytes().await),
            other => {
                failed.fetch_add(1, Relaxed);
                println!("failed: {other:?}");
            }
        }
    }
}
