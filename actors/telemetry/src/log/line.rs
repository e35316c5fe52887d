//! The two shapes of a log line, written from one [`Record`].
//!
//! Nothing that was logged can end a line, start another or steer a terminal: control characters,
//! line separators and text-direction marks are escaped in both shapes, also where JSON would allow
//! them.

use std::io::Write as _;

use chrono::{DateTime, SecondsFormat, Utc};
use opentelemetry::trace::{SpanId, TraceId};
use tracing::Level;

use super::fields::{Fields, Value};
use crate::config::LogFormat;

/// Keys that belong to the line itself, and the name under which a field of that name appears.
const RESERVED: [(&str, &str); 7] = [
    ("timestamp", "field.timestamp"),
    ("level", "field.level"),
    ("message", "field.message"),
    ("target", "field.target"),
    ("request_id", "field.request_id"),
    ("trace_id", "field.trace_id"),
    ("span_id", "field.span_id"),
];

/// One event with everything a line says about it.
pub(crate) struct Record<'a> {
    pub(crate) at: DateTime<Utc>,
    pub(crate) level: Level,
    pub(crate) target: &'a str,
    pub(crate) trace: Option<(TraceId, SpanId)>,
    /// The event's own fields, then those of its spans, innermost first: an earlier one hides a
    /// later one.
    pub(crate) scopes: &'a [&'a Fields],
}

impl Record<'_> {
    /// Appends the line with its newline to `out`.
    pub(crate) fn write(&self, format: LogFormat, out: &mut Vec<u8>) {
        match format {
            LogFormat::Json => self.write_json(out),
            LogFormat::Pretty { color } => self.write_pretty(color, out),
        }
        out.push(b'\n');
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"timestamp\":\"");
        out.extend_from_slice(self.timestamp().as_bytes());
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(self.level.as_str().as_bytes());
        out.extend_from_slice(b"\",\"message\":");
        match self.message() {
            Some(Value::Text(text)) => json_string(text, out),
            // `message = 7` is still a text for readers of the lines.
            Some(other) => {
                out.push(b'"');
                json_value(other, out);
                out.push(b'"');
            }
            None => out.extend_from_slice(b"\"\""),
        }
        out.extend_from_slice(b",\"target\":");
        json_string(self.target, out);
        if let Some(id) = self.request_id() {
            out.extend_from_slice(b",\"request_id\":");
            json_value(id, out);
        }
        if let Some((trace, span)) = self.trace {
            append(
                out,
                format_args!(",\"trace_id\":\"{trace}\",\"span_id\":\"{span}\""),
            );
        }
        for (name, value) in self.fields() {
            out.push(b',');
            json_string(name, out);
            out.push(b':');
            json_value(value, out);
        }
        out.push(b'}');
    }

    fn write_pretty(&self, color: bool, out: &mut Vec<u8>) {
        let paint = |code: &'static str| if color { code } else { "" };
        let level = match self.level {
            Level::ERROR => paint("\x1b[1;31m"),
            Level::WARN => paint("\x1b[33m"),
            Level::INFO => paint("\x1b[32m"),
            Level::DEBUG => paint("\x1b[34m"),
            Level::TRACE => paint("\x1b[35m"),
        };
        let (dim, plain) = (paint("\x1b[2m"), paint("\x1b[0m"));
        let at = self.timestamp();
        append(
            out,
            format_args!(
                "{dim}{at}{plain} {level}{:>5}{plain} {dim}",
                self.level.as_str()
            ),
        );
        escape(self.target, out);
        append(out, format_args!(":{plain} "));
        match self.message() {
            Some(Value::Text(text)) => escape(text, out),
            Some(other) => json_value(other, out),
            None => {}
        }
        let trace = self.trace.map(|(trace, _)| Value::Text(trace.to_string()));
        let ids = [
            ("request_id", self.request_id()),
            ("trace_id", trace.as_ref()),
        ];
        let ids = ids
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in self.fields().chain(ids) {
            append(out, format_args!(" {dim}"));
            escape(name, out);
            append(out, format_args!("={plain}"));
            match value {
                Value::Text(text) if is_plain(text) => out.extend_from_slice(text.as_bytes()),
                other => json_value(other, out),
            }
        }
    }

    fn timestamp(&self) -> String {
        self.at.to_rfc3339_opts(SecondsFormat::Micros, true)
    }

    fn message(&self) -> Option<&Value> {
        self.scopes.first().and_then(|event| event.get("message"))
    }

    /// Said by the request's span, or by the event itself.
    fn request_id(&self) -> Option<&Value> {
        self.scopes
            .iter()
            .find_map(|fields| fields.get("request_id"))
    }

    /// All other fields, each key once and none of the reserved ones.
    fn fields(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        let mut seen: Vec<&'static str> = Vec::with_capacity(8);
        self.scopes
            .iter()
            .enumerate()
            .flat_map(|(depth, fields)| {
                fields.iter().map(move |(name, value)| (depth, name, value))
            })
            .filter(|(depth, name, _)| *name != "request_id" && (*depth > 0 || *name != "message"))
            .filter_map(move |(_, name, value)| {
                let key = RESERVED
                    .iter()
                    .find(|(own, _)| *own == name)
                    .map_or(name, |(_, renamed)| renamed);
                let first = !seen.contains(&key);
                first.then(|| {
                    seen.push(key);
                    (key, value)
                })
            })
    }
}

fn append(out: &mut Vec<u8>, args: std::fmt::Arguments<'_>) {
    // A `Vec` takes everything; the result exists for writers that may not.
    drop(out.write_fmt(args));
}

/// Whether a character may appear as it is. The others could end the line, steer a terminal or show
/// text in another order than it has.
fn is_safe(c: char) -> bool {
    let separator = matches!(c, '\u{2028}' | '\u{2029}');
    let direction =
        matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !separator && !direction
}

/// Whether a value is distinct from the next field without quotes.
fn is_plain(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| is_safe(c) && !c.is_whitespace() && !matches!(c, '"' | '\\' | '='))
}

/// Writes text for a person: dangerous characters as `\n`, `\u{1b}` and so on, the others as they
/// are.
pub(crate) fn escape(text: &str, out: &mut Vec<u8>) {
    for c in text.chars() {
        if is_safe(c) {
            out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            append(out, format_args!("{}", c.escape_default()));
        }
    }
}

fn json_value(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(value) => append(out, format_args!("{value}")),
        Value::Signed(value) => append(out, format_args!("{value}")),
        Value::Unsigned(value) => append(out, format_args!("{value}")),
        Value::Float(value) if value.is_finite() => append(out, format_args!("{value:?}")),
        // JSON has no infinity and no NaN.
        Value::Float(value) => append(out, format_args!("\"{value}\"")),
        Value::Text(text) => json_string(text, out),
    }
}

/// Writes a quoted JSON string (RFC 8259, section 7).
fn json_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if is_safe(c) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            // Every unsafe character lies below U+10000: one escape each.
            c => append(out, format_args!("\\u{:04x}", u32::from(c))),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::*;

    type Outcome = Result<(), Box<dyn std::error::Error>>;

    fn fields(list: &[(&'static str, Value)]) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in list {
            fields.set(name, value.clone());
        }
        fields
    }

    fn text(text: &str) -> Value {
        Value::Text(text.to_owned())
    }

    fn line(format: LogFormat, scopes: &[&Fields]) -> Result<String, Box<dyn std::error::Error>> {
        let record = Record {
            at: DateTime::from_timestamp(1_700_000_000, 123_456_789).ok_or("time")?,
            level: Level::WARN,
            target: "dotmac::db",
            trace: Some((TraceId::from(0xabc_u128), SpanId::from(0xdef_u64))),
            scopes,
        };
        let mut out = Vec::new();
        record.write(format, &mut out);
        Ok(String::from_utf8(out)?)
    }

    const PLAIN: LogFormat = LogFormat::Pretty { color: false };

    #[test]
    fn a_json_line_has_the_promised_keys_in_order() -> Outcome {
        let event = fields(&[
            ("message", text("slow query")),
            ("ms", Value::Unsigned(612)),
            ("load", Value::Float(0.5)),
        ]);
        let span = fields(&[("request_id", text("r-1")), ("route", text("/notes/{id}"))]);
        assert_eq!(
            line(LogFormat::Json, &[&event, &span])?,
            "{\"timestamp\":\"2023-11-14T22:13:20.123456Z\",\"level\":\"WARN\",\"message\":\"slow query\",\
             \"target\":\"dotmac::db\",\"request_id\":\"r-1\",\"trace_id\":\"00000000000000000000000000000abc\",\
             \"span_id\":\"0000000000000def\",\"ms\":612,\"load\":0.5,\"route\":\"/notes/{id}\"}\n"
        );
        Ok(())
    }

    #[test]
    fn a_pretty_line_reads_like_a_sentence_with_fields() -> Outcome {
        let event = fields(&[
            ("message", text("slow query")),
            ("sql", text("select 1")),
            ("ok", Value::Bool(true)),
        ]);
        assert_eq!(
            line(PLAIN, &[&event])?,
            "2023-11-14T22:13:20.123456Z  WARN dotmac::db: slow query sql=\"select 1\" ok=true \
             trace_id=00000000000000000000000000000abc\n"
        );
        let coloured = line(LogFormat::Pretty { color: true }, &[&event])?;
        assert!(coloured.contains("\x1b[33m WARN\x1b[0m"), "{coloured:?}");
        Ok(())
    }

    #[test]
    fn no_key_appears_twice_and_no_field_hides_the_lines_own() -> Outcome {
        let event = fields(&[
            ("message", text("m")),
            ("level", text("FAKE")),
            ("timestamp", text("never")),
            ("trace_id", text("mine")),
            ("user", text("event")),
        ]);
        let inner = fields(&[
            ("user", text("inner")),
            ("message", text("of a span")),
            ("level", text("inner")),
        ]);
        let outer = fields(&[
            ("request_id", text("r")),
            ("user", text("outer")),
            ("zone", text("outer")),
        ]);
        let shown = line(LogFormat::Json, &[&event, &inner, &outer])?;
        let json: serde_json::Value = serde_json::from_str(&shown)?;
        for key in [
            "timestamp",
            "level",
            "message",
            "target",
            "request_id",
            "trace_id",
            "span_id",
            "user",
            "field.level",
        ] {
            assert_eq!(
                shown.matches(&format!("\"{key}\":")).count(),
                1,
                "{key} in {shown}"
            );
        }
        assert_eq!(json["level"], "WARN");
        assert_eq!(json["field.level"], "FAKE");
        assert_eq!(json["field.message"], "of a span");
        assert_eq!(json["user"], "event");
        assert_eq!(json["zone"], "outer");
        Ok(())
    }

    #[test]
    fn no_value_can_forge_a_line_or_steer_a_terminal() -> Outcome {
        let evil =
            "a\r\n{\"level\":\"ERROR\"}\u{1b}[2J\u{9b}31m\u{2028}\u{85}\u{202e}\0\u{7f}\" x=1";
        let event = fields(&[("message", text(evil)), ("agent", text(evil))]);
        for format in [LogFormat::Json, PLAIN] {
            let shown = line(format, &[&event])?;
            let body = shown.strip_suffix('\n').ok_or("no newline at the end")?;
            assert!(body.chars().all(is_safe), "{body:?}");
            assert!(!body.contains('\n'));
        }
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &[&event])?)?;
        assert_eq!(json["message"], evil);
        assert_eq!(json["agent"], evil);
        // A value with a blank or `=` is quoted, so that it cannot pose as a second field.
        let event = fields(&[("message", text("m")), ("agent", text("x admin=true"))]);
        assert!(line(PLAIN, &[&event])?.contains("agent=\"x admin=true\""));
        Ok(())
    }

    #[test]
    fn odd_numbers_stay_valid_json() -> Outcome {
        let event = fields(&[
            ("message", Value::Signed(-7)),
            ("nan", Value::Float(f64::NAN)),
            ("huge", Value::Unsigned(u64::MAX)),
            ("tiny", Value::Float(1e-300)),
        ]);
        let json: serde_json::Value = serde_json::from_str(&line(LogFormat::Json, &[&event])?)?;
        assert_eq!(json["message"], "-7");
        assert_eq!(json["nan"], "NaN");
        assert_eq!(json["huge"], u64::MAX);
        Ok(())
    }
}
