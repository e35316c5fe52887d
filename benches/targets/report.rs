//! The rows, and the document that they become.

use std::{fmt::Write as _, path::Path, process::Command, time::Duration};

/// One promise, measured.
struct Row {
    what: &'static str,
    target: &'static str,
    measured: String,
    baseline: String,
    kept: bool,
}

/// The head of the table.
const HEAD: &str = "| what | target | measured | baseline | | at |";

#[derive(Default)]
pub struct Report(Vec<Row>);

impl Report {
    pub fn row(
        &mut self,
        what: &'static str,
        target: &'static str,
        measured: String,
        baseline: String,
        kept: bool,
    ) {
        println!(
            "{} {what}: {measured} (target: {target}; baseline: {baseline})",
            if kept { "kept  " } else { "MISSED" }
        );
        self.0.push(Row {
            what,
            target,
            measured,
            baseline,
            kept,
        });
    }

    /// Writes the document: a whole one, or the rows that were measured in the place of those of the same name.
    pub fn write(&self, is_whole: bool) {
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/benchmarks.md");
        let before = std::fs::read_to_string(&file).unwrap_or_default();
        let kept = before.lines().filter(|_| !is_whole);
        std::fs::write(&file, self.document(kept)).unwrap();
    }

    fn document<'a>(&self, before: impl Iterator<Item = &'a str>) -> String {
        let mut text = format!(
            "# Benchmarks\n\nWritten by `make bench`; do not edit. Each figure has its baseline from the same run: \
            rounds of\n\
             both alternate and medians are compared. Load and server share the machine, so absolute figures are low and\n\
             noisy; the comparison is what counts.\n\n\
             Machine: {}. dotmac {}, {}.\n\n{HEAD}\n|---|---|---|---|---|---|\n",
            machine(),
            env!("CARGO_PKG_VERSION"),
            first_line("rustc", &["--version"]),
        );
        let commit = first_line("git", &["describe", "--always", "--dirty"]);
        let mut measured: Vec<_> = self.0.iter().map(|row| (row, false)).collect();
        for line in before.filter(|line| is_row(line)) {
            match measured.iter_mut().find(|(row, _)| row.is_in(line)) {
                Some((row, is_written)) => {
                    row.write(&mut text, &commit);
                    *is_written = true;
                }
                None => writeln!(text, "{line}").unwrap(),
            }
        }
        let others = measured.iter().filter(|(_, is_written)| !is_written);
        others.for_each(|(row, _)| row.write(&mut text, &commit));
        text
    }
}

impl Row {
    fn write(&self, text: &mut String, commit: &str) {
        let Self {
            what,
            target,
            measured,
            baseline,
            kept,
        } = self;
        let verdict = if *kept { "kept" } else { "**missed**" };
        writeln!(
            text,
            "| {what} | {target} | {measured} | {baseline} | {verdict} | {commit} |"
        )
        .unwrap();
    }

    /// Whether the line of a document has what this row has.
    fn is_in(&self, line: &str) -> bool {
        line.strip_prefix("| ")
            .and_then(|line| line.strip_prefix(self.what))
            .is_some_and(|rest| rest.starts_with(" |"))
    }
}

/// Whether the line of a document is a row of the table, under its head.
fn is_row(line: &str) -> bool {
    line.starts_with("| ") && line != HEAD
}

fn machine() -> String {
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |name| {
            name.trim_start_matches([':', '\t', ' '])
        });
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!(
        "{cores} cores of {model}, Linux {}, {}",
        first_line("uname", &["-r"]),
        first_line("date", &["-u", "+%Y-%m-%d"])
    )
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or("unknown")
        .to_owned()
}

/// The value below which the share `p` of `sorted` lies.
pub fn percentile(sorted: &mut [Duration], p: f64) -> Duration {
    sorted.sort_unstable();
    sorted[((sorted.len() - 1) as f64 * p).round() as usize]
}

pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

pub fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

pub fn us(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1_000_000.0)
}
