//! URLs of servers that speak HTTP, and what URLs need.

use url::Url;

use crate::settings::{Invalid, Setting};

/// An `http:` or `https:` URL without user, password, query or fragment.
impl Setting for Url {
    const EXAMPLE: &'static str = "https://server.example:8200";

    fn expected() -> String {
        "an http:// or https:// URL".to_owned()
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        let url = Self::parse(text).map_err(|error| Invalid::because(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(Invalid::plain());
        }
        // Looked for in the text: `http://me:pass/word@host` is a right URL, of the host `me`.
        if text.contains(['@', '\\']) || text.contains(char::is_whitespace) {
            return Err(Invalid::because(
                "it holds an `@`, a `\\` or a space; a user name or a password would be logged",
            ));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(Invalid::because("it holds a query or a fragment"));
        }
        Ok(url)
    }

    // A wrong URL may hold a password anywhere, so only a right one is shown.
    fn shown(text: &str) -> Option<String> {
        <Self as Setting>::parse(text)
            .is_ok()
            .then(|| text.to_owned())
    }
}

/// `text` with `%41` turned into `A`; `None` if a `%` is not followed by two hexadecimal digits or
/// if the result is not UTF-8.
pub(crate) fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(rest.next()?).to_digit(16)?;
            let low = char::from(rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}
