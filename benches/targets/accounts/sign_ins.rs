//! Whether sign-ins are bound by the hash alone, and what a flood of them does to `/health`.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use serde_json::json;

use super::{Bed, PASSWORD};
use crate::{
    report::{Report, ms},
    throughput::p99,
};

/// Sign-ins of one measurement, one after another on as many connections as there are threads that hash.
const SIGN_INS: usize = 200;

/// Sign-ins one after another, and for how much of that time a hash was computed.
pub async fn sign_ins(report: &mut Report, bed: &Bed, users: &[String]) {
    let (before, _) = bed.hashed();
    let began = Instant::now();
    // Two at a time: one is hashed while the other one's session is written.
    let turns = join_all((0..2).map(|turn| async move {
        for number in (turn..SIGN_INS).step_by(2) {
            let (status, answer) = bed.sign_in(&users[number % users.len()], number).await;
            assert_eq!(status, 200, "{answer}");
        }
    }));
    turns.await;
    let took = began.elapsed().as_secs_f64();
    let hashing = bed.hashed().0 - before;
    report.row(
        "sign-ins, two at a time, one thread that hashes",
        "a hash is computed for at least 0.9 of the time",
        format!(
            "{:.2} of it, {:.0} sign-ins/s",
            hashing / took,
            SIGN_INS as f64 / took
        ),
        format!("a hash: {:.1} ms", hashing * 1000.0 / SIGN_INS as f64),
        hashing >= 0.9 * took,
    );
}

/// Clients that send a request at once, each second.
const FLOOD: usize = 200;

/// The 99th of a hundred of `/health` while clients send a request at once, again and again; and how many answers had each status.
async fn flooded(
    bed: &Bed,
    request: impl AsyncFn(usize) -> u16,
) -> (Duration, BTreeMap<u16, usize>) {
    let flooding = async {
        let mut statuses = BTreeMap::new();
        let until = Instant::now() + Duration::from_secs(5);
        let mut from = 1000;
        while Instant::now() < until {
            let next = tokio::time::sleep(Duration::from_secs(1));
            for status in join_all((0..FLOOD).map(|number| request(from + number))).await {
                *statuses.entry(status).or_default() += 1;
            }
            from += FLOOD;
            next.await;
        }
        statuses
    };
    let measuring = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        p99(bed.platform.port).await
    };
    let (statuses, p99) = tokio::join!(flooding, measuring);
    (p99, statuses)
}

/// `/health` while 200 clients sign in at once, again and again: against as many whose requests are refused before a password
/// is hashed, while another process computes at the niceness of the threads that hash. What is left is what sign-ins cost the
/// threads of HTTP.
pub async fn flood(report: &mut Report, bed: &Bed, users: &[String]) {
    let alone = p99(bed.platform.port).await;
    let none = json!({ "identifier": "", "password": PASSWORD, "mode": "token" });
    let mut other = Command::new("nice")
        .args(["-n", "10", "sh", "-c", "while :; do :; done"])
        .spawn()
        .unwrap();
    let (refused, _) = flooded(bed, async |from| {
        bed.post("/auth/login", from, none.clone()).await.0
    })
    .await;
    other.kill().unwrap();
    other.wait().unwrap();
    let (signing_in, statuses) = flooded(bed, async |from| {
        bed.sign_in(&users[from % users.len()], from).await.0
    })
    .await;
    report.row(
        "p99 of /health while 200 clients sign in at once",
        "at most 2 ms more than while as many are refused and another process computes",
        format!("{} (answers: {statuses:?})", ms(signing_in)),
        format!("refused: {}; nothing at all: {}", ms(refused), ms(alone)),
        signing_in < refused + Duration::from_millis(2),
    );
}
