//! From the start of the process to `ready`.

use std::time::Duration;

use crate::{
    modules,
    process::Measured,
    report::{Report, ms, percentile},
    support::{OpenBao, Postgres, openbao::ROOT_TOKEN, postgres::PASSWORD},
};

const ROUNDS: usize = 21;

pub async fn measure(report: &mut Report) {
    let (mut alone, mut first) = (Vec::new(), Vec::new());
    let (mut later, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let directory = tempfile::tempdir().unwrap();
        let runtime = Measured::this_program(directory.path(), modules::ASKED, &[]);
        alone.push(runtime.until("/ready"));
        drop(runtime);
        let directory = tempfile::tempdir().unwrap();
        first.push(Measured::daemon(directory.path(), &[]).until("/ready"));
        later.push(Measured::daemon(directory.path(), &[]).until("/ready"));
        bare.push(Measured::bare("{}").until("/"));
    }
    let baseline = format!("bare actix-web: {}", ms(percentile(&mut bare, 0.5)));
    for (what, target, limit, times) in [
        (
            "start to ready, runtime alone, SQLite, first boot",
            "median under 20 ms",
            20,
            &mut alone,
        ),
        (
            "start to ready, every service, SQLite, first boot with migrations",
            "median under 80 ms",
            80,
            &mut first,
        ),
        (
            "start to ready, every service, SQLite, later boots",
            "median under 50 ms",
            50,
            &mut later,
        ),
    ] {
        let median = percentile(times, 0.5);
        let kept = median < Duration::from_millis(limit);
        report.row(what, target, ms(median), baseline.clone(), kept);
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
    let kept = median < Duration::from_millis(100);
    report.row(
        "start to ready, every service, OpenBao and PostgreSQL on loopback",
        "median under 100 ms",
        ms(median),
        baseline,
        kept,
    );
}
