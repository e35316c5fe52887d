//! What an authenticated route costs against a public one, and what it costs to check a token for the first time and again.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use serde_json::json;

use super::Bed;
use crate::{
    report::{Report, median, percentile, us},
    support::tool,
    throughput::{CONNECTIONS, requests_a_second},
};

const ROUNDS: usize = 5;
/// Access tokens of one session, each checked for the first time once; each takes two refreshes, of 60 a minute.
const TOKENS: usize = 25;

/// Requests a second with a token, and without.
pub fn routes(report: &mut Report, bed: &Bed, token: &str) {
    let rate = |path: &str, header: Option<&str>| {
        let mut wrk = Command::new(tool("wrk"));
        if let Some(header) = header {
            wrk.args(["-H", header]);
        }
        requests_a_second(wrk, CONNECTIONS, bed.platform.port, path)
    };
    let header = format!("authorization: Bearer {token}");
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        theirs.push(rate("/api/v1/routed/public", None));
        ours.push(rate("/api/v1/routed/own", Some(&header)));
    }
    let (ours, theirs) = (median(&mut ours), median(&mut theirs));
    report.row(
        "authenticated route, the same token again and again, 64 connections",
        "at least 0.9 of a public route",
        format!("{:.2} of it ({ours:.0}/s)", ours / theirs),
        format!("public route, same answer: {theirs:.0}/s"),
        ours >= 0.9 * theirs,
    );
    let added = 1_000_000.0 / ours - 1_000_000.0 / theirs;
    report.row(
        "check of a token that was checked before",
        "under 2 µs a request",
        format!("{added:.1} µs more of the machine a request"),
        format!("public route: {:.1} µs", 1_000_000.0 / theirs),
        added < 2.0,
    );
}

/// The extra time of the first check of a token: not of the first one of its generation, which is written down.
pub async fn checks(report: &mut Report, bed: &Bed) {
    let mut session = bed.admin(1).await;
    let mut tokens = Vec::new();
    for number in 0..TOKENS {
        let body = json!({ "refresh_token": session["refresh_token"] });
        let (status, first) = bed.post("/auth/refresh", 2 * number, body.clone()).await;
        assert_eq!(status, 200, "{first}");
        let (status, again) = bed.post("/auth/refresh", 2 * number + 1, body).await;
        assert_eq!(status, 200, "{again}");
        let [seen, token] = [&first, &again].map(|it| it["access_token"].as_str().unwrap());
        assert_ne!(seen, token, "a second token of the generation");
        bed.asked(seen).await;
        tokens.push(token.to_owned());
        session = again;
    }
    let signature = Signature::new();
    let mut alone = Vec::new();
    // Of the server's time on the processor: how soon a process is woken is another matter.
    let spent = async |alone: &mut Vec<Duration>| {
        let mut spent = Vec::new();
        for token in &tokens {
            let before = bed.platform.cpu_time();
            bed.asked(token).await;
            // What is done after the answer, and until its threads sleep.
            tokio::time::sleep(Duration::from_millis(2)).await;
            spent.push(bed.platform.cpu_time().saturating_sub(before));
            // After a request, as for the server: the caches of the machine have something else.
            alone.push(signature.verified());
        }
        percentile(&mut spent, 0.5)
    };
    let (cold, warm) = (spent(&mut alone).await, spent(&mut alone).await);
    let alone = percentile(&mut alone, 0.5);
    let added = cold.saturating_sub(warm);
    report.row(
        "first check of a token, its session known",
        "at most 15 µs more than to verify an ES256 signature",
        format!("{} of a core", us(added)),
        format!(
            "one signature, after a request as well: {}; again and again: {}",
            us(alone),
            us(signature.again_and_again())
        ),
        added < alone + Duration::from_micros(15),
    );
}

/// The signature of a token of a usual length.
struct Signature {
    public: UnparsedPublicKey<Vec<u8>>,
    bytes: Vec<u8>,
}

impl Signature {
    const MESSAGE: [u8; 600] = [b'x'; 600];

    fn new() -> Self {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let signature = pair.sign(&SystemRandom::new(), &Self::MESSAGE).unwrap();
        let public = pair.public_key().as_ref().to_vec();
        Self {
            public: UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public),
            bytes: signature.as_ref().to_vec(),
        }
    }

    /// How long it takes to verify it.
    fn verified(&self) -> Duration {
        let began = Instant::now();
        self.public.verify(&Self::MESSAGE, &self.bytes).unwrap();
        began.elapsed()
    }

    fn again_and_again(&self) -> Duration {
        const TIMES: u32 = 1000;
        (0..TIMES).map(|_| self.verified()).sum::<Duration>() / TIMES
    }
}
