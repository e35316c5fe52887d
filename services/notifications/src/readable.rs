//! Text and HTML that stand for each other: what a mail says is in it as both, whichever its sender wrote.

/// HTML that says the same as `text`: paragraphs, and links that can be followed.
pub(crate) fn html_of(text: &str) -> String {
    format!(
        "<!doctype html><html><body>{}</body></html>",
        paragraphs(text)
    )
}

/// The same without what stands around it.
pub(crate) fn paragraphs(text: &str) -> String {
    let mut html = String::new();
    for paragraph in text.replace("\r\n", "\n").split("\n\n") {
        if paragraph.trim().is_empty() {
            continue;
        }
        let lines: Vec<_> = paragraph.trim_end().split('\n').map(linked).collect();
        html += &format!("<p>{}</p>", lines.join("<br>"));
    }
    html
}

/// A line of text as HTML, with its links.
pub(crate) fn linked(line: &str) -> String {
    use dotmac_platform::routing::escaped;
    let mut html = String::new();
    for (place, word) in line.split(' ').enumerate() {
        if place > 0 {
            html.push(' ');
        }
        let end = word
            .trim_end_matches(['.', ',', ';', ':', ')', '>', '"', '\''])
            .len();
        let begin = word.len() - word.trim_start_matches(['(', '<', '"', '\'']).len();
        let (before, link, after) = match word.get(begin..end.max(begin)) {
            Some(link) if is_link(link) => (&word[..begin], link, &word[end.max(begin)..]),
            _ => (word, "", ""),
        };
        html += &escaped(before);
        if !link.is_empty() {
            let link = escaped(link);
            html += &format!("<a href=\"{link}\" rel=\"noreferrer\">{link}</a>");
        }
        html += &escaped(after);
    }
    html
}

/// Whether `text` is a link that a reader may follow.
pub(crate) fn is_link(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://"))
        && text.len() <= 2048
        && url::Url::parse(text).is_ok_and(|it| it.host().is_some())
}

/// The text of HTML, for readers that show none: tags are left out, and blocks end a line.
pub(crate) fn text_of(html: &str) -> String {
    let mut text = String::new();
    let mut rest = html;
    while let Some(at) = rest.find('<') {
        text += &rest[..at];
        rest = &rest[at..];
        let end = rest.find('>').map_or(rest.len(), |at| at + 1);
        let tag = rest[..end]
            .trim_matches(['<', '>', '/'])
            .to_ascii_lowercase();
        let word = tag.split([' ', '\t', '\n', '/']).next().unwrap_or_default();
        match word {
            // What is in them is no text.
            "style" | "script" | "head" | "title" => {
                rest = behind_end_of(word, &rest[end..]);
                continue;
            }
            "p" | "br" | "div" | "li" | "tr" | "h1" | "h2" | "h3" | "h4" => text.push('\n'),
            _ => {}
        }
        rest = &rest[end..];
    }
    text += rest;
    let text = text
        .replace("&nbsp;", " ")
        .replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&");
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let mut text = lines.join("\n");
    while text.contains("\n\n\n") {
        text = text.replace("\n\n\n", "\n\n");
    }
    text.trim().to_owned() + "\n"
}

/// What of `html` follows the end of the element `word`; nothing if it has no end. Reads each byte once: `html` may be large.
fn behind_end_of<'h>(word: &str, html: &'h str) -> &'h str {
    let mut ends = html.match_indices("</");
    let end = ends.find(|(at, _)| {
        let name = html.as_bytes().get(at + 2..at + 2 + word.len());
        name.is_some_and(|it| it.eq_ignore_ascii_case(word.as_bytes()))
    });
    let rest = end.map_or("", |(at, _)| &html[at..]);
    rest.find('>').map_or("", |at| &rest[at + 1..])
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn text_and_html_stand_for_each_other() {
        let html = html_of("Hello <Ann>,\n\nsee https://example.com/a?b=1&c=2.\nBye");
        assert_eq!(
            html,
            "<!doctype html><html><body><p>Hello &lt;Ann&gt;,</p><p>see <a \
             href=\"https://example.com/a?b=1&amp;c=2\" rel=\"noreferrer\">https://example.com/a?b=1&amp;c=2</a>.<br>Bye</p></body></html>"
        );
        assert!(!linked("javascript:alert(1) https://").contains("<a"));
        let text =
            text_of("<html><head><style>p{}</style></head><p>Hello &amp; bye</p><br>x</html>");
        assert_eq!(text, "Hello & bye\n\nx\n");
        let text = text_of("a<STYLE>p{}</Style >b<script>x</p></scripty>c<title>never closed</tit");
        assert_eq!(text, "abc\n");
    }

    #[test]
    fn the_text_of_large_html_is_found_in_no_time() {
        for piece in [
            "<style></style>",
            "<style></",
            "</style>",
            "<",
            "<style",
            "\n",
            "&amp;",
            "<p>",
        ] {
            let html = piece.repeat(4 * 1024 * 1024 / piece.len());
            let began = Instant::now();
            text_of(&html);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(5), "{piece}: {took:?}");
        }
    }
}
