//! The daemon with files: what docs/services/files.md has a reader do, command by command, and what it measures.

use std::{collections::BTreeSet, fs};

use crate::{
    accounts::{Seen, commands, run},
    page::matches,
    support::{Daemon, eventually, repository},
};

const PAGE: &str = "docs/services/files.md";

#[tokio::test]
async fn the_tour_of_the_page_is_as_it_says() {
    let page = fs::read_to_string(repository().join(PAGE)).unwrap();
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    let address = daemon.base.trim_start_matches("http://");
    let mut seen = Seen::default();
    let commands = commands(&page, "## A tour in ten minutes");
    for (command, expected) in &commands {
        let line = seen.fill(command).replace("localhost:8000", address);
        let shown = run(&line, daemon.directory());
        assert!(
            matches(expected, &shown),
            "{line} shows\n{shown}\nand not\n{expected}"
        );
        seen.note(&shown);
    }
    assert!(commands.len() >= 15, "{commands:?}");
}

#[tokio::test]
async fn every_route_of_the_module_is_on_the_page_and_no_other() {
    let daemon = Daemon::spawn().await;
    let document = daemon.json("/openapi.json").await.1;
    let mut there = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        if path.starts_with("/api/v1/files") || path.starts_with("/f/") {
            let methods = item.as_object().unwrap().keys();
            there.extend(methods.map(|method| format!("{} {path}", method.to_uppercase())));
        }
    }
    let page = fs::read_to_string(repository().join(PAGE)).unwrap();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let quoted = rows.filter_map(|row| row.split('`').next());
    let routes = quoted.filter_map(|text| {
        let (method, path) = text.split_once(" /")?;
        let path = path.split('?').next()?;
        Some(format!("{method} /{path}"))
    });
    let mut named: BTreeSet<String> = routes.collect();
    // `GET` and `HEAD` have one row.
    assert!(page.contains("| `GET`, `HEAD /api/v1/files/{id}/content` |"));
    named.insert("GET /api/v1/files/{id}/content".to_owned());
    assert_eq!(named, there);
}

/// A scrape of a daemon that has measured files.
pub async fn measured() -> String {
    let daemon = Daemon::spawn().await;
    daemon.until("/ready", 200).await;
    eventually("uploads to be measured", || async {
        let text = daemon.get("/metrics").await.text().await.ok()?;
        let names = [
            "dotmac_files_uploads_total{outcome=\"ok\"} 0\n",
            "dotmac_files_orphans 0\n",
        ];
        names.iter().all(|name| text.contains(name)).then_some(text)
    })
    .await
}
