//! The type of a file, detected from its bytes. The declared type only decides between kinds of text, which look alike.

/// Bytes at the beginning of a file by which its type is detected.
pub(crate) const HEAD: usize = 8192;

/// Bytes of a text that are searched for a tag.
const TAGS: usize = 1024;

const OCTETS: &str = "application/octet-stream";
const PLAIN: &str = "text/plain";
const SVG: &str = "image/svg+xml";
const HTML: &str = "text/html";

/// Kinds of text that look like any text.
const TEXTS: [&str; 22] = [
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/sql",
    "application/toml",
    "application/x-ndjson",
    "application/x-yaml",
    "application/xml",
    "application/yaml",
    "text/calendar",
    "text/css",
    "text/csv",
    "text/html",
    "text/javascript",
    "text/markdown",
    "text/plain",
    "text/rtf",
    "text/tab-separated-values",
    "text/vcard",
    "text/vtt",
    "text/x-python",
    "text/xml",
];

/// Kinds that a browser may show: they hold no script.
const INLINE: [&str; 14] = [
    "audio/flac",
    "audio/mpeg",
    "audio/ogg",
    "audio/x-flac",
    "audio/x-wav",
    "image/avif",
    "image/bmp",
    "image/gif",
    "image/jpeg",
    "image/png",
    "image/webp",
    "text/plain",
    "video/mp4",
    "video/webm",
];

/// The media type of a file that begins with `head`; `is_text` says whether all of it is text in UTF-8.
///
/// # Errors
///
/// What it is in place of what was declared, if one is an image, sound, film, font or PDF and the other is not.
pub(crate) fn judge(head: &[u8], is_text: bool, declared: Option<&str>) -> Result<String, String> {
    let declared = declared.map(essence).unwrap_or_default();
    let found = find(head, is_text, &declared);
    match found {
        Some(found) if contradicts(&declared, found) => Err(found.to_owned()),
        Some(found) => Ok(found.to_owned()),
        None => Ok(OCTETS.to_owned()),
    }
}

/// Whether a browser may show it.
pub(crate) fn is_inline(media_type: &str) -> bool {
    INLINE.contains(&media_type)
}

/// The media type as the header says it: a text has its encoding, since it was checked.
pub(crate) fn with_charset(media_type: &str) -> String {
    if TEXTS.contains(&media_type) {
        format!("{media_type}; charset=utf-8")
    } else {
        media_type.to_owned()
    }
}

/// A media type without its parameters.
fn essence(declared: &str) -> String {
    let essence = declared.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn find<'d>(head: &[u8], is_text: bool, declared: &'d str) -> Option<&'d str> {
    if head.is_empty() {
        return TEXTS.contains(&declared).then_some(declared);
    }
    if is_text {
        return Some(text(head, declared));
    }
    infer::get(head).map(|it| it.mime_type())
}

/// The kind of a text. One that a browser would take for a page or a drawing with scripts is that, despite its declared type.
fn text<'d>(head: &[u8], declared: &'d str) -> &'d str {
    let begin = &head[..head.len().min(TAGS)];
    let begin = String::from_utf8_lossy(begin).to_lowercase();
    let begin = begin.trim_start_matches('\u{feff}').trim_start();
    if begin.starts_with('<') {
        if begin.contains("<svg") {
            return SVG;
        }
        let tags = [
            "<!doctype html",
            "<html",
            "<head",
            "<body",
            "<script",
            "<iframe",
            "<title",
        ];
        if tags.iter().any(|tag| begin.contains(tag)) {
            return HTML;
        }
        if begin.starts_with("<?xml") && !declared.ends_with("/xml") {
            return "application/xml";
        }
    }
    if begin.starts_with("#!") {
        return "text/x-shellscript";
    }
    // PDF may be all of ASCII.
    if begin.starts_with("%pdf-") {
        return "application/pdf";
    }
    match declared {
        it if TEXTS.contains(&it) => it,
        _ => PLAIN,
    }
}

fn contradicts(declared: &str, found: &str) -> bool {
    match family(declared) {
        Some(family_of) => family(found) != Some(family_of),
        None => false,
    }
}

/// What a kind is used as, if that is not to be mixed up.
fn family(media_type: &str) -> Option<&'static str> {
    match media_type.split_once('/')? {
        ("image", "svg+xml") => Some("drawing"),
        ("image", _) => Some("image"),
        // Containers hold both.
        ("audio" | "video", _) | ("application", "ogg") => Some("sound or film"),
        ("font", _) => Some("font"),
        ("application", kind) if kind.contains("font") => Some("font"),
        ("application", "pdf") => Some("pdf"),
        _ => None,
    }
}

/// Finds out, piece by piece, whether a file is text in UTF-8.
#[derive(Clone, Debug)]
pub(crate) struct TextSearch {
    is_text: bool,
    /// The beginning of a character of which the rest is in the next piece.
    open: Vec<u8>,
}

impl TextSearch {
    pub(crate) const fn new() -> Self {
        Self {
            is_text: true,
            open: Vec::new(),
        }
    }

    pub(crate) fn read(&mut self, piece: &[u8]) {
        if !self.is_text {
            return;
        }
        let mut rest = piece;
        while !self.open.is_empty() && !rest.is_empty() {
            self.open.push(rest[0]);
            rest = &rest[1..];
            match std::str::from_utf8(&self.open) {
                Ok(_) => self.open.clear(),
                Err(error) if error.error_len().is_some() => {
                    self.is_text = false;
                    return;
                }
                Err(_) => {}
            }
        }
        if rest.contains(&0) {
            self.is_text = false;
            return;
        }
        if let Err(error) = std::str::from_utf8(rest) {
            match error.error_len() {
                None => self.open = rest[error.valid_up_to()..].to_vec(),
                Some(_) => self.is_text = false,
            }
        }
    }

    /// Whether all that was read is text.
    pub(crate) fn is_text(&self) -> bool {
        self.is_text && self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
    const JPEG: &[u8] = b"\xff\xd8\xff\xe0\0\x10JFIF";

    fn of(bytes: &[u8], declared: Option<&str>) -> Result<String, String> {
        let mut search = TextSearch::new();
        search.read(bytes);
        judge(bytes, search.is_text(), declared)
    }

    #[test]
    fn the_bytes_say_what_a_file_is() {
        for (bytes, declared, found) in [
            (PNG, None, "image/png"),
            (PNG, Some("image/png"), "image/png"),
            // Mislabelled, and of use all the same.
            (PNG, Some("image/jpeg"), "image/png"),
            (JPEG, Some("text/html"), "image/jpeg"),
            (
                b"%PDF-1.7\n%\xe2\xe3",
                Some("application/pdf"),
                "application/pdf",
            ),
            (b"hello", None, "text/plain"),
            (
                b"hello",
                Some("application/x-www-form-urlencoded"),
                "text/plain",
            ),
            (b"a,b\n", Some("text/csv; header=present"), "text/csv"),
            (b"{}", Some("Application/JSON"), "application/json"),
            (b" <!DOCTYPE html><p>", Some("text/plain"), "text/html"),
            (
                b"<svg xmlns='http://www.w3.org/2000/svg'/>",
                Some("text/plain"),
                "image/svg+xml",
            ),
            (
                b"<?xml version='1.0'?><svg/>",
                Some("image/svg+xml"),
                "image/svg+xml",
            ),
            (b"<?xml version='1.0'?><a/>", Some("text/xml"), "text/xml"),
            (b"#!/bin/sh\n", Some("text/plain"), "text/x-shellscript"),
            (
                b"\0\x01\x02",
                Some("image/x-unknown"),
                "application/octet-stream",
            ),
            (b"", Some("text/csv"), "text/csv"),
            (b"", Some("image/png"), "application/octet-stream"),
        ] {
            assert_eq!(of(bytes, declared).as_deref(), Ok(found), "{declared:?}");
        }
    }

    #[test]
    fn what_is_said_to_be_an_image_and_is_none_is_refused() {
        for (bytes, declared, found) in [
            (&b"<html><script>"[..], "image/png", "text/html"),
            (b"<svg/>", "image/png", "image/svg+xml"),
            (
                b"MZ\x90\0\x03\0\0\0",
                "image/gif",
                "application/vnd.microsoft.portable-executable",
            ),
            (PNG, "application/pdf", "image/png"),
            (b"PK\x03\x04\x14\0\0\0", "video/mp4", "application/zip"),
            (b"text", "image/svg+xml", "text/plain"),
        ] {
            assert_eq!(
                of(bytes, Some(declared)),
                Err(found.to_owned()),
                "{declared}"
            );
        }
    }

    #[test]
    fn a_text_is_one_wherever_it_is_cut() {
        let text = "aä€😀\u{10ffff}".repeat(3);
        for size in 1..8 {
            let mut search = TextSearch::new();
            text.as_bytes()
                .chunks(size)
                .for_each(|piece| search.read(piece));
            assert!(search.is_text(), "{size}");
        }
        for bytes in [
            &b"a\xff"[..],
            b"a\0",
            b"\xc3",
            b"\xe2\x82",
            b"\xc3(",
            b"\xed\xa0\x80",
        ] {
            for size in 1..4 {
                let mut search = TextSearch::new();
                bytes.chunks(size).for_each(|piece| search.read(piece));
                assert!(!search.is_text(), "{bytes:?} by {size}");
            }
        }
    }

    #[test]
    fn nothing_with_scripts_is_shown() {
        for kind in [
            "text/html",
            "image/svg+xml",
            "application/pdf",
            "text/xml",
            "application/javascript",
        ] {
            assert!(!is_inline(kind), "{kind}");
        }
        assert!(is_inline("image/png") && is_inline("text/plain"));
        assert_eq!(with_charset("text/plain"), "text/plain; charset=utf-8");
        assert_eq!(with_charset("image/png"), "image/png");
    }
}
