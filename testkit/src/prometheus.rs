//! A Prometheus of a test's own that scrapes one daemon, and `promtool`.

use std::{
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use super::{eventually, free_port, process::Process, tool};

/// A running server. Killed when dropped.
pub struct Prometheus {
    process: Process,
    /// Kept until the server is gone.
    _directory: tempfile::TempDir,
    port: u16,
}

impl Prometheus {
    /// Scrapes `target`, as `127.0.0.1:8000`, every second, and evaluates the rule files.
    pub async fn scraping(target: &str, rules: &[&Path]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let rules: String = rules
            .iter()
            .map(|file| format!("  - {}\n", file.display()))
            .collect();
        let configuration = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files:\n{rules}scrape_configs:\n  - job_name: dotmac\n    static_configs: [{{targets: ['{target}']}}]\n"
        );
        let file = directory.path().join("prometheus.yml");
        std::fs::write(&file, configuration).unwrap();
        let port = free_port();
        let mut command = Command::new(tool("prometheus"));
        command
            .current_dir(directory.path())
            .arg("--config.file=prometheus.yml")
            .arg("--storage.tsdb.path=data")
            .arg("--enable-feature=exemplar-storage")
            .arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = Process::spawn(&mut command);
        let prometheus = Self {
            process,
            _directory: directory,
            port,
        };
        eventually("Prometheus to be up", || {
            prometheus.get("status/config", &[])
        })
        .await;
        prometheus
    }

    /// `data` of an answer of its API; `None` while it has none.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Option<Value> {
        let mut url =
            url::Url::parse(&format!("http://127.0.0.1:{}/api/v1/{path}", self.port)).unwrap();
        url.query_pairs_mut().extend_pairs(query);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer: Value = client.get(url).send().await.ok()?.json().await.ok()?;
        (answer["status"] == "success").then(|| answer["data"].clone())
    }

    /// The series that an expression has now, once it has any.
    pub async fn query(&self, expression: &str) -> Vec<Value> {
        eventually(
            &format!("a value of {expression}; log: {:#?}", self.process.lines()),
            || async {
                let data = self.get("query", &[("query", expression)]).await?;
                let result = data["result"].as_array()?.clone();
                (!result.is_empty()).then_some(result)
            },
        )
        .await
    }
}

/// The findings of `promtool check metrics`; empty if there are none.
pub fn objections(metrics: &str) -> String {
    promtool(&["check", "metrics"], metrics)
}

/// The errors of `promtool`.
pub fn promtool(arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(tool("promtool"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.success() && output.stderr.is_empty() {
        return String::new();
    }
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}
