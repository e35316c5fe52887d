//! Metrics in the OpenMetrics text format, which has what the Prometheus text format lacks: exemplars.
//!
//! Source: OpenMetrics 1.0.0, "Text format". The families are the same as in the other format, and so
//! are the names of all samples; a counter's family goes without the `_total` that its samples have.

use std::{
    collections::HashMap,
    fmt::{self, Write as _},
    time::UNIX_EPOCH,
};

use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType};

use super::{
    UNTYPED,
    exemplars::{Exemplar, Exemplars, signature},
};

/// Units that a family names in its metadata, as they end its name.
const UNITS: [&str; 2] = ["seconds", "bytes"];

/// All `families` as one document.
///
/// # Errors
///
/// None: writing to a `String` does not fail.
pub(crate) fn encode(
    families: &[MetricFamily],
    exemplars: &Exemplars,
) -> Result<String, fmt::Error> {
    let mut text = String::new();
    for family in families {
        encode_family(&mut text, family, exemplars)?;
    }
    text.push_str("# EOF\n");
    Ok(text)
}

fn encode_family(text: &mut String, family: &MetricFamily, exemplars: &Exemplars) -> fmt::Result {
    let kind = family.get_field_type();
    let name = match kind {
        MetricType::COUNTER => family.name().trim_end_matches("_total"),
        _ => family.name(),
    };
    let word = match kind {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE if UNTYPED.contains(&name) => "unknown",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        // Nothing of ours makes any.
        MetricType::SUMMARY | MetricType::UNTYPED => return Ok(()),
    };
    writeln!(text, "# TYPE {name} {word}")?;
    let unit = |unit: &&&str| {
        name.strip_suffix(**unit)
            .is_some_and(|rest| rest.ends_with('_'))
    };
    if let Some(unit) = UNITS.iter().find(unit) {
        writeln!(text, "# UNIT {name} {unit}")?;
    }
    writeln!(text, "# HELP {name} {}", Escaped(family.help()))?;
    let noted = match kind {
        MetricType::HISTOGRAM => exemplars.of(name),
        _ => HashMap::new(),
    };
    for metric in family.get_metric() {
        match kind {
            MetricType::COUNTER => {
                let value = metric.get_counter().get_value();
                sample(text, name, "_total", metric, None, value)?;
                text.push('\n');
            }
            MetricType::GAUGE => {
                sample(text, name, "", metric, None, metric.get_gauge().get_value())?;
                text.push('\n');
            }
            _ => encode_histogram(text, name, metric, &noted)?,
        }
    }
    Ok(())
}

fn encode_histogram(
    text: &mut String,
    name: &str,
    metric: &Metric,
    noted: &HashMap<String, Vec<Option<Exemplar>>>,
) -> fmt::Result {
    let histogram = metric.get_histogram();
    let labels = metric.get_label().iter();
    let labels = labels.map(|label| (label.name().to_owned(), label.value().to_owned()));
    let noted = noted.get(&signature(labels));
    let count = histogram.get_sample_count() as f64;
    let finite = histogram
        .get_bucket()
        .iter()
        .filter(|bucket| bucket.upper_bound().is_finite())
        .map(|bucket| (bucket.upper_bound(), bucket.cumulative_count() as f64));
    for (index, (bound, below)) in finite.chain([(f64::INFINITY, count)]).enumerate() {
        sample(text, name, "_bucket", metric, Some(bound), below)?;
        if let Some(Some(exemplar)) = noted.and_then(|buckets| buckets.get(index)) {
            write!(text, "{exemplar}")?;
        }
        text.push('\n');
    }
    sample(text, name, "_sum", metric, None, histogram.get_sample_sum())?;
    text.push('\n');
    sample(text, name, "_count", metric, None, count)?;
    text.push('\n');
    Ok(())
}

/// One sample, without the end of its line.
fn sample(
    text: &mut String,
    name: &str,
    suffix: &str,
    metric: &Metric,
    bound: Option<f64>,
    value: f64,
) -> fmt::Result {
    write!(text, "{name}{suffix}")?;
    let labels = metric.get_label().iter().map(LabelText::of);
    let labels = labels.chain(bound.map(LabelText::Bound));
    for (index, label) in labels.enumerate() {
        text.push(if index == 0 { '{' } else { ',' });
        write!(text, "{label}")?;
    }
    if bound.is_some() || !metric.get_label().is_empty() {
        text.push('}');
    }
    write!(text, " {}", Number(value))
}

enum LabelText<'a> {
    Given(&'a LabelPair),
    Bound(f64),
}

impl<'a> LabelText<'a> {
    fn of(label: &'a LabelPair) -> Self {
        Self::Given(label)
    }
}

impl fmt::Display for LabelText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Given(label) => write!(f, "{}=\"{}\"", label.name(), Escaped(label.value())),
            // A bound is written as a float, also where it is whole.
            Self::Bound(bound) if bound.is_finite() => write!(f, "le=\"{bound:?}\""),
            Self::Bound(_) => f.write_str("le=\"+Inf\""),
        }
    }
}

impl fmt::Display for Exemplar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.at.duration_since(UNIX_EPOCH).unwrap_or_default();
        write!(
            f,
            " # {{trace_id=\"{}\",span_id=\"{}\"}} {} {:.3}",
            self.trace,
            self.span,
            Number(self.value),
            at.as_secs_f64()
        )
    }
}

struct Number(f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => f.write_str("NaN"),
            f64::INFINITY => f.write_str("+Inf"),
            f64::NEG_INFINITY => f.write_str("-Inf"),
            value => write!(f, "{value}"),
        }
    }
}

/// A text in which no quotation mark and no line ends early.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                other => f.write_char(other)?,
            }
        }
        Ok(())
    }
}
