//! Asks the probes all the time, knowing when something that is required is broken.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use crate::process;

/// How long `/ready` may go on saying ready.
const GRACE: Duration = Duration::from_secs(2);

/// Between two looks.
const PACE: Duration = Duration::from_millis(20);

/// The observations.
#[derive(Default)]
pub struct Seen {
    pub probes: u64,
    pub falsely_ready: u64,
    pub not_live: u64,
    /// For how long required parts were broken in all.
    pub broken: Duration,
}

/// Since when a required part is broken, and for how long one was before.
#[derive(Default)]
struct Truth {
    since: Option<Instant>,
    before: Duration,
}

pub struct Watch {
    truth: Arc<Mutex<Truth>>,
    stop: Arc<AtomicBool>,
    looking: JoinHandle<Seen>,
}

impl Watch {
    pub fn begin(port: u16) -> Self {
        let (truth, stop) = (
            Arc::<Mutex<Truth>>::default(),
            Arc::new(AtomicBool::new(false)),
        );
        let (known, until) = (Arc::clone(&truth), Arc::clone(&stop));
        Self {
            looking: std::thread::spawn(move || look(port, &known, &until)),
            truth,
            stop,
        }
    }

    /// To be called when a required part has just been broken.
    pub fn broken(&self) {
        self.truth.lock().unwrap().since = Some(Instant::now());
    }

    /// To be called just before it is mended.
    pub fn mending(&self) {
        let mut truth = self.truth.lock().unwrap();
        if let Some(since) = truth.since.take() {
            truth.before += since.elapsed();
        }
    }

    pub fn end(self) -> Seen {
        self.stop.store(true, Relaxed);
        let mut seen = self.looking.join().unwrap();
        seen.broken = self.truth.lock().unwrap().before;
        seen
    }
}

fn look(port: u16, truth: &Mutex<Truth>, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let since = || truth.lock().unwrap().since;
    let status = |path| process::get(port, path).map(|(status, _)| status);
    while !stop.load(Relaxed) {
        seen.probes += 1;
        if status("/health") != Some(200) {
            seen.not_live += 1;
            println!("not live: {:?}", process::get(port, "/health"));
        }
        let (asked, broken) = (Instant::now(), since());
        let ready = status("/ready") == Some(200);
        // Not if it was mended while we asked.
        if let Some(broken) = broken.filter(|broken| ready && since() == Some(*broken))
            && asked.duration_since(broken) > GRACE
        {
            seen.falsely_ready += 1;
            println!(
                "ready after {:?} of an outage",
                asked.duration_since(broken)
            );
        }
        std::thread::sleep(PACE);
    }
    seen
}
