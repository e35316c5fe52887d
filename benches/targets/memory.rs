//! Resident memory of a daemon that has nothing to do.

use std::time::Duration;

use crate::{
    modules,
    process::Measured,
    report::Report,
    support::{OpenBao, Postgres, collector::Collector, openbao::ROOT_TOKEN, postgres::PASSWORD},
};

pub async fn measure(report: &mut Report) {
    let (bao, postgres, collector) =
        tokio::join!(OpenBao::start(), Postgres::start(), Collector::start());
    bao.write("database/username", "value", "dotmac").await;
    bao.write("database/password", "value", PASSWORD).await;
    let everything = [
        ("DOTMAC_VAULT_ADDR", bao.address()),
        ("DOTMAC_VAULT_TOKEN", ROOT_TOKEN.to_owned()),
        (
            "DOTMAC_DATABASE_URL",
            format!("postgres://127.0.0.1:{}/dotmac", postgres.port),
        ),
        ("DOTMAC_TELEMETRY_OTLP_ENDPOINT", collector.endpoint()),
        ("DOTMAC_TELEMETRY_METRIC_INTERVAL", "1s".to_owned()),
    ];
    let directory = tempfile::tempdir().unwrap();
    let alone = tempfile::tempdir().unwrap();
    let (alone, full, plain, bare) = (
        Measured::this_program(alone.path(), modules::ASKED, &[]),
        Measured::daemon(directory.path(), &everything),
        Measured::daemon(directory.path(), &[]),
        Measured::bare("{}"),
    );
    alone.until("/ready");
    full.until("/ready");
    plain.until("/ready");
    bare.until("/");
    // Some exports and checks, so that what they need is counted.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let baseline = format!("bare actix-web: {:.1} MiB", bare.memory());
    for (what, target, limit, memory) in [
        (
            "idle memory, runtime alone",
            "under 22 MiB",
            22.0,
            alone.memory(),
        ),
        (
            "idle memory, every service, nothing configured",
            "under 40 MiB",
            40.0,
            plain.memory(),
        ),
        (
            "idle memory, every service, OpenBao, PostgreSQL and OTLP export on",
            "under 40 MiB",
            40.0,
            full.memory(),
        ),
    ] {
        let measured = format!("{memory:.1} MiB");
        report.row(what, target, measured, baseline.clone(), memory < limit);
    }
}
