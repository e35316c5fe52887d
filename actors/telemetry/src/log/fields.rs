//! The fields of events and spans as values that outlive the call that recorded them.
//!
//! Recording runs foreign code (`Display` and `Debug` of logged values), so it happens before
//! any lock is taken: such code may itself log, or panic, without harm.

use std::{
    error::Error,
    fmt::{self, Write as _},
};

use tracing::field::{Field, Visit};

/// Longest text kept of one field, in bytes; the rest is cut and its length noted.
const TEXT_LIMIT: usize = 16 * 1024;

/// One recorded value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Bool(bool),
    Signed(i64),
    Unsigned(u64),
    Float(f64),
    Text(String),
}

/// Recorded fields in order, each name once: recording a name again replaces its value.
#[derive(Clone, Debug, Default)]
pub(crate) struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    pub(crate) fn set(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn merge(&mut self, newer: Self) {
        for (name, value) in newer.0 {
            self.set(name, value);
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, value)| value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &Value)> {
        self.0.iter().map(|(name, value)| (*name, value))
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field.name(), Value::Signed(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field.name(), Value::Unsigned(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field.name(), Value::Float(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field.name(), text(format_args!("{value}")));
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        self.set(
            field.name(),
            text(format_args!("{}", dotmac_causes::Chain(value))),
        );
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field.name(), text(format_args!("{value:?}")));
    }
}

fn text(args: fmt::Arguments<'_>) -> Value {
    let mut bounded = Bounded::default();
    // A `Display` that reports an error has written what it could.
    if bounded.write_fmt(args).is_err() {
        bounded.text.push_str("[formatting failed]");
    }
    if bounded.cut > 0 {
        bounded
            .text
            .push_str(&format!("... [{} bytes cut]", bounded.cut));
    }
    Value::Text(bounded.text)
}

/// Takes as much as [`TEXT_LIMIT`] allows and counts the rest.
#[derive(Default)]
struct Bounded {
    text: String,
    cut: usize,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        let room = if self.cut > 0 {
            0
        } else {
            TEXT_LIMIT - self.text.len()
        };
        let end = piece.floor_char_boundary(room.min(piece.len()));
        self.text.push_str(&piece[..end]);
        self.cut += piece.len() - end;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_written_with_all_its_sources() {
        #[derive(Debug, thiserror::Error)]
        #[error("failed to open the pool")]
        struct Outer(#[source] std::io::Error);

        let error = Outer(std::io::Error::other("connection refused"));
        let shown = text(format_args!("{}", dotmac_causes::Chain(&error)));
        assert_eq!(
            shown,
            Value::Text("failed to open the pool: connection refused".to_owned())
        );
    }

    #[test]
    fn a_huge_value_is_cut_at_a_character() {
        let huge = "ä".repeat(TEXT_LIMIT);
        let Value::Text(shown) = text(format_args!("x{huge}")) else {
            return;
        };
        assert!(shown.len() < TEXT_LIMIT + 40, "{}", shown.len());
        assert!(
            shown.ends_with(&format!("... [{} bytes cut]", TEXT_LIMIT + 2)),
            "{}",
            &shown[TEXT_LIMIT - 4..]
        );
    }
}
