//! From the start of the process to `ready`.

use std::time::Duration;

use crate::{
    process::Measured,
    report::{Report, ms, percentile},
    support::{OpenBao, Postgres, openbao::ROOT_TOKEN, postgres::PASSWORD},
};

const ROUNDS: usize = 21;

pub async fn measure(report: &mut Report) {
    let (mut first, mut later, mut bare) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        first.push(Measured::daemon(directory.path(), &[]).until("/ready"));
        later.push(Measured::daemon(directory.path(), &[]).until("/ready"));
        bare.push(Measured::bare("{}").until("/"));
    }
    let baseline = format!("bare actix-web: {}", ms(percentile(&mut bare, 0.5)));
    let limit = Duration::from_millis(50);
    for (what, times) in [
        (
            "start to ready, SQLite, first boot with migrations",
            &mut first,
        ),
        ("start to ready, SQLite, later boots", &mut later),
    ] {
        let median = percentile(times, 0.5);
        report.row(
            what,
            "median under 50 ms",
            ms(median),
            baseline.clone(),
            median < limit,
        );
    }

    let (bao, postgres) = tokio::join!(OpenBao::start(), Postgres::start());
    bao.write("database/username", "value", "dotmac").await;
    bao.write("database/password", "value", PASSWORD).await;
    let settings = [
        ("DOTMAC_VAULT_ADDR", bao.address()),
        ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN.to_owned()),
        (
            "DOTMAC_DATABASE_URL",
            format!("postgres://127.0.0.1:{}/dotmac", postgres.port),
        ),
    ];
    let directory = tempfile::tempdir().unwrap();
    let mut full: Vec<_> = (0..ROUNDS)
        .map(|_| Measured::daemon(directory.path(), &settings).until("/ready"))
        .collect();
    let median = percentile(&mut full, 0.5);
    let kept = median < Duration::from_millis(300);
    report.row(
        "start to ready, OpenBao and PostgreSQL on loopback",
        "median under 300 ms",
        ms(median),
        baseline,
        kept,
    );
}
