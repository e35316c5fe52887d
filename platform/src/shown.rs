//! The part of a given text that may be shown: no password, no control character, no more than fits
//! a line.

use std::{borrow::Cow, path::Path};

/// A text longer than this is cut in a message.
const SHOWN_CHARS: usize = 100;

/// `text` in quotation marks, with control characters escaped and cut at 100 characters; `None` if it
/// may hold a password, although its key is for none.
pub(crate) fn quoted(text: &str) -> Option<String> {
    (!may_hold_password(text)).then(|| format!("{:?}", shortened(text)))
}

/// The path of a file as [`quoted`] shows a text; `the file` if it may hold a password.
pub(crate) fn quoted_path(path: &Path) -> String {
    quoted(&path.to_string_lossy()).unwrap_or_else(|| "the file".to_owned())
}

/// An argument of the command line as a message quotes it: [`in_line`], but for one that seems to hold a password.
pub(crate) fn quotable(argument: &str) -> String {
    match holds_credentials(argument) {
        true => "[not shown: it may hold a password]".to_owned(),
        false => in_line(argument),
    }
}

/// `text` with control characters escaped and cut at 100 characters.
pub(crate) fn in_line(text: &str) -> String {
    printable(&shortened(text)).into_owned()
}

/// A text of several lines, of which each is [`printable`].
pub(crate) fn in_lines(text: &str) -> String {
    text.split_inclusive('\n')
        .map(|line| match line.strip_suffix('\n') {
            Some(line) => format!("{}\n", printable(line)),
            None => printable(line).into_owned(),
        })
        .collect()
}

/// Whether `text` looks as if it came with a password: a URL, a part of one, or a connection string.
fn may_hold_password(text: &str) -> bool {
    text.contains("://") || holds_credentials(text)
}

/// The same, but for a URL without a user.
fn holds_credentials(text: &str) -> bool {
    text.contains('@') || text.to_ascii_lowercase().contains("password")
}

/// Whether `text` holds a URL with a user and a password.
pub(crate) fn holds_url_with_password(text: &str) -> bool {
    text.split("://").skip(1).any(|rest| {
        rest.split_once('@')
            .is_some_and(|(credentials, _)| credentials.contains(':'))
    })
}

/// `text`, cut at 100 characters.
pub(crate) fn shortened(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(SHOWN_CHARS) {
        None => Cow::Borrowed(text),
        Some((end, _)) => Cow::Owned(format!("{}…", &text[..end])),
    }
}

/// `text` with control characters escaped, so that it stays in its line.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if !text.chars().any(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}
