//! Supervision in figures: restarts, calls, hangs. In this process, on actix alone.

use std::time::{Duration, Instant};

use actix::prelude::*;
use dotmac_platform::supervision::{
    ActorHandle, ChildSpec, Policy, SupervisionTree, SupervisorHandle,
};
use futures_util::future::join_all;

use crate::{
    report::{Report, percentile, us},
    subject::{Ask, Subject},
};

/// The same actor without a supervisor, on its own arbiter.
struct Raw;

impl Actor for Raw {
    type Context = Context<Self>;
}

impl Handler<Ask> for Raw {
    type Result = u64;

    fn handle(&mut self, _: Ask, _: &mut Self::Context) -> u64 {
        0
    }
}

pub fn measure(report: &mut Report) {
    std::panic::set_hook(Box::new(|_| {}));
    System::new().block_on(async {
        restarts(report).await;
        calls(report).await;
        hang(report).await;
    });
}

fn tree(policy: Policy) -> (ActorHandle<Subject>, SupervisorHandle) {
    let mut tree = SupervisionTree::new(policy).unwrap();
    let handle = tree
        .add(ChildSpec::new("subject", Subject).required())
        .unwrap();
    (handle, tree.start())
}

async fn restarts(report: &mut Report) {
    let policy = Policy {
        intensity: 100_000,
        period: Duration::from_secs(3600),
        backoff_min: Duration::ZERO,
        backoff_max: Duration::ZERO,
        ..Policy::default()
    };
    let (subject, supervisor) = tree(policy);
    supervisor.until(|board| board.readiness.serves()).await;
    let (mut back, mut refused) = (Vec::new(), Vec::new());
    for _ in 0..500 {
        let began = Instant::now();
        subject.call(Ask::Panic).await.unwrap_err();
        refused.push(began.elapsed());
        while subject.call(Ask::Ping).await.is_err() {
            tokio::task::yield_now().await;
        }
        back.push(began.elapsed());
    }
    supervisor.halt().await;
    let (p50, p99) = (percentile(&mut back, 0.5), percentile(&mut back, 0.99));
    let baseline = || "actix alone: never".to_owned();
    report.row(
        "panic to answering again, backoff 0",
        "p99 under 5 ms",
        format!("p50 {}, p99 {}", us(p50), us(p99)),
        baseline(),
        p99 < Duration::from_millis(5),
    );
    let worst = percentile(&mut refused, 1.0);
    report.row(
        "caller of a panicking actor is answered",
        "within 50 ms",
        format!("worst {}", us(worst)),
        baseline(),
        worst < Duration::from_millis(50),
    );
}

async fn calls(report: &mut Report) {
    let (subject, supervisor) = tree(Policy::default());
    supervisor.until(|board| board.readiness.serves()).await;
    let raw = Raw::start_in_arbiter(&actix::Arbiter::new().handle(), |_| Raw);
    for (what, callers, each) in [
        ("a call by handle, 1 caller", 1_usize, 50_000_u32),
        ("a call by handle, 64 callers", 64, 5_000),
    ] {
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..5 {
            theirs.push(
                per_call(callers, each, || async {
                    raw.send(Ask::Ping).await.unwrap()
                })
                .await,
            );
            ours.push(
                per_call(callers, each, || async {
                    subject.call(Ask::Ping).await.unwrap()
                })
                .await,
            );
        }
        let (ours, theirs) = (percentile(&mut ours, 0.5), percentile(&mut theirs, 0.5));
        let more = ours.saturating_sub(theirs);
        report.row(
            what,
            "at most 2 µs more than `Addr::send`",
            format!("{} ({} more)", us(ours), us(more)),
            format!("`Addr::send`: {}", us(theirs)),
            more <= Duration::from_micros(2),
        );
    }
    supervisor.halt().await;
}

async fn per_call<F: Future<Output = u64>>(
    callers: usize,
    each: u32,
    call: impl Fn() -> F,
) -> Duration {
    let call = &call;
    let began = Instant::now();
    join_all((0..callers).map(|_| async move {
        for _ in 0..each {
            call().await;
        }
    }))
    .await;
    began.elapsed() / (callers as u32 * each)
}

async fn hang(report: &mut Report) {
    let hang_after = Duration::from_secs(1);
    let policy = Policy {
        heartbeat: Duration::from_millis(200),
        hang_after,
        stop_timeout: Duration::from_millis(100),
        call_timeout: Duration::from_secs(30),
        ..Policy::default()
    };
    let (subject, supervisor) = tree(policy);
    supervisor.until(|board| board.readiness.serves()).await;
    let began = Instant::now();
    subject
        .call(Ask::Hang(Duration::from_secs(3)))
        .await
        .unwrap_err();
    let noticed = began.elapsed();
    supervisor.halt().await;
    let ratio = noticed.as_secs_f64() / hang_after.as_secs_f64();
    report.row(
        "a hang is noticed",
        "within 1.5 × `HANG_AFTER`",
        format!("{ratio:.2} ×"),
        "actix alone: never".to_owned(),
        ratio <= 1.5,
    );
}
