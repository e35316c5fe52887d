//! Takes a script apart into its statements, to say which one failed.

/// Longest text of a statement in a message.
const SHOWN: usize = 200;

/// The statements of `script`, without what separates them. Strings, quoted names, comments, dollar quotes
/// and the bodies of SQLite's triggers may hold semicolons.
pub(super) fn statements(script: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let (mut begin, mut at) = (0, 0);
    while at < script.len() {
        let rest = &script[at..];
        let step = quoted(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
        if rest.starts_with(';') && !is_open_trigger(&script[begin..at]) {
            found.push(&script[begin..at]);
            begin = at + 1;
        }
        at += step;
    }
    found.push(&script[begin..]);
    found.retain(|statement| !without_comments(statement).is_empty());
    found
}

/// A statement in one line, without comments and not too long.
pub(super) fn shown(statement: &str) -> String {
    let mut text = without_comments(statement);
    if text.len() > SHOWN {
        text.truncate(text.floor_char_boundary(SHOWN));
        text.push('…');
    }
    text
}

/// The length of the comment, string, name or dollar quote that `text` begins with, if it does.
fn quoted(text: &str) -> Option<usize> {
    let until = |from: usize, end: &str| {
        let found = text.get(from..).and_then(|rest| rest.find(end));
        found.map_or(text.len(), |at| from + at + end.len())
    };
    match text.as_bytes() {
        [b'-', b'-', ..] => Some(until(2, "\n")),
        [b'/', b'*', ..] => Some(until(2, "*/")),
        [b'\'', ..] => Some(until(1, "'")),
        [b'"', ..] => Some(until(1, "\"")),
        [b'$', ..] => {
            let tag = text.get(1..)?.find('$')? + 2;
            let is_tag = |c: char| c.is_alphanumeric() || c == '_';
            let name = &text[1..tag - 1];
            let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
            (starts_well && name.chars().all(is_tag)).then(|| until(tag, &text[..tag]))
        }
        _ => None,
    }
}

/// SQLite's triggers hold statements between `BEGIN` and `END`.
fn is_open_trigger(statement: &str) -> bool {
    let text = without_comments(statement).to_uppercase();
    let words: Vec<&str> = text.split_ascii_whitespace().take(4).collect();
    let is_trigger = words.first() == Some(&"CREATE") && words.contains(&"TRIGGER");
    is_trigger && text.contains(" BEGIN ") && !text.ends_with(" END")
}

fn without_comments(statement: &str) -> String {
    let (mut text, mut at) = (String::new(), 0);
    while at < statement.len() {
        let rest = &statement[at..];
        let step = quoted(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
        let piece = &rest[..step];
        let is_comment = piece.starts_with("--") || piece.starts_with("/*");
        text.push_str(if is_comment { " " } else { piece });
        at += step;
    }
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_end_at_semicolons_that_are_not_within_something() {
        let script = "-- first; a comment\nCREATE TABLE a (b TEXT DEFAULT ';');\n\
                      /* ; */ INSERT INTO a VALUES ('it''s; so');;\n\
                      DO $tag$ BEGIN PERFORM 1; END $tag$; SELECT $1; SELECT \"odd;name\"";
        let found: Vec<String> = statements(script).into_iter().map(shown).collect();
        assert_eq!(
            found,
            [
                "CREATE TABLE a (b TEXT DEFAULT ';')",
                "INSERT INTO a VALUES ('it''s; so')",
                "DO $tag$ BEGIN PERFORM 1; END $tag$",
                "SELECT $1",
                "SELECT \"odd;name\"",
            ]
        );
    }

    #[test]
    fn a_trigger_is_one_statement() {
        let script =
            "CREATE TRIGGER t AFTER INSERT ON a BEGIN DELETE FROM b; DELETE FROM c; END; SELECT 1;";
        assert_eq!(statements(script).len(), 2);
    }

    #[test]
    fn what_is_not_closed_goes_to_the_end() {
        assert_eq!(statements("SELECT 'x; y").len(), 1);
        assert_eq!(statements("SELECT /* x; y").len(), 1);
        assert_eq!(statements("  ;; -- nothing\n").len(), 0);
    }
}
