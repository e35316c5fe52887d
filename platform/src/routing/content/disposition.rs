//! `Content-Disposition`: the name to save a content under (RFC 6266).

use std::fmt::Write as _;

use super::ContentFacts;

/// The name for old clients in ASCII, and as it is in UTF-8.
pub(super) fn disposition(facts: &ContentFacts) -> String {
    let kind = if facts.is_inline {
        "inline"
    } else {
        "attachment"
    };
    let plain = facts.name.chars().map(|letter| match letter {
        '"' | '\\' | '%' => '_',
        ' '..='~' => letter,
        _ => '_',
    });
    let plain: String = plain.collect();
    let mut text = format!("{kind}; filename=\"{plain}\"");
    if plain != facts.name {
        text += "; filename*=UTF-8''";
        for byte in facts.name.bytes() {
            match byte {
                // RFC 8187, `attr-char`.
                b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => text.push(char::from(byte)),
                b'!' | b'#' | b'$' | b'&' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|'
                | b'~' => {
                    text.push(char::from(byte));
                }
                _ => {
                    // Writing to a text does not fail.
                    write!(text, "%{byte:02X}").unwrap_or_default();
                }
            }
        }
    }
    text
}
