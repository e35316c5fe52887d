//! Refuses the character NUL in the text of a request.
//!
//! PostgreSQL takes it in no text, SQLite does. It is refused here, so that a client gets the same answer with either
//! database. Text is what comes as JSON, as a form, in the path and in the query; other bodies are bytes, which may
//! have any value, as are those that a route takes as they arrive: curl sends a file as a form.

use actix_web::http::{
    Uri,
    header::{self, HeaderMap},
};

use super::Problem;

/// 422 that names the part of the request.
pub(super) fn refused(part: &'static str) -> Problem {
    Problem::invalid("a text of this request has the character NUL, which is not allowed")
        .code("invalid_value")
        .field_error(part, "has the character NUL; leave it out")
}

/// The part of a request's target that has a NUL, `path` or `query`.
pub(super) fn part_of(uri: &Uri) -> Option<&'static str> {
    let has_nul = |text: &str| text.contains("%00");
    if has_nul(uri.path()) {
        Some("path")
    } else {
        uri.query().is_some_and(has_nul).then_some("query")
    }
}

/// Looks for a NUL in a body that comes in pieces.
#[derive(Clone, Copy, Debug)]
pub(super) struct NulSearch {
    /// The encoding of a NUL in bodies of this kind.
    escape: &'static [u8],
    /// In JSON a backslash that follows another is a character like any.
    is_json: bool,
    /// How much of the escape the last bytes were.
    matched: usize,
}

impl NulSearch {
    /// For the body of a request with these headers, if it is text.
    pub(super) fn of(headers: &HeaderMap) -> Option<Self> {
        let kind = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        let kind = kind.split(';').next()?.trim().to_ascii_lowercase();
        let is_json = kind == "application/json" || kind.ends_with("+json");
        let escape: &[u8] = match kind.as_str() {
            _ if is_json => br"\u0000",
            "application/x-www-form-urlencoded" => b"%00",
            _ => return None,
        };
        Some(Self {
            escape,
            is_json,
            matched: 0,
        })
    }

    /// Whether a NUL ends in this piece, which follows the former ones.
    pub(super) fn finds(&mut self, piece: &[u8]) -> bool {
        // In JSON it is a mistake as it is.
        if !self.is_json && piece.contains(&0) {
            return true;
        }
        let first = self.escape[0];
        let mut left = piece;
        loop {
            if self.matched == 0 {
                match left.iter().position(|byte| *byte == first) {
                    Some(at) => left = &left[at + 1..],
                    None => return false,
                }
                self.matched = 1;
            }
            let Some((byte, rest)) = left.split_first() else {
                return false;
            };
            if *byte == self.escape[self.matched] {
                self.matched += 1;
                left = rest;
                if self.matched == self.escape.len() {
                    return true;
                }
            } else {
                if self.is_json && self.matched == 1 {
                    // The escaped character ends the escape, also a backslash.
                    left = rest;
                }
                self.matched = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::http::header::HeaderValue;

    fn found(kind: &'static str, body: &[u8], step: usize) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        let search = NulSearch::of(&headers);
        search.is_some_and(|mut search| body.chunks(step).any(|piece| search.finds(piece)))
    }

    /// However the body is cut into pieces.
    #[test]
    fn a_nul_is_found_in_text_and_nothing_else_is_taken_for_one() {
        const JSON: &str = "application/json; charset=utf-8";
        const FORM: &str = "application/x-www-form-urlencoded";
        let cases: [(&str, &[u8], bool); 15] = [
            (JSON, br#"{"a":"x\u0000y"}"#, true),
            ("application/merge-patch+json", br#"["\u0000"]"#, true),
            (JSON, br#"["\\\u0000"]"#, true),
            (JSON, br#"["\u0001\u0000"]"#, true),
            (JSON, br#"["\u00\u0000"]"#, true),
            (JSON, br#"["\\u0000"]"#, false),
            (JSON, br#"["\u0001", "0000", "u0000"]"#, false),
            (JSON, br#"["a%00b"]"#, false),
            (FORM, b"a=x%00y", true),
            (FORM, b"a=x\0y", true),
            (FORM, b"a=%0%00", true),
            (FORM, b"a=%25%2500", false),
            (FORM, br"a=\u0000", false),
            ("application/octet-stream", br"\u0000%00", false),
            ("text/plain", b"%00", false),
        ];
        for (kind, body, expected) in cases {
            for step in [1, 2, 3, 5, 100] {
                let text = String::from_utf8_lossy(body);
                assert_eq!(found(kind, body, step), expected, "{kind} {text} by {step}");
            }
        }
    }

    #[test]
    fn path_and_query_are_distinguished() {
        for (target, part) in [
            ("/notes/a%00", Some("path")),
            ("/notes?text=%00", Some("query")),
            ("/notes/a%20b?text=%01", None),
        ] {
            assert_eq!(part_of(&Uri::from_static(target)), part, "{target}");
        }
    }
}
