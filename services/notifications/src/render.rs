//! Rendering: templates of tenants, which may be written by people who want to break out, and those of services.
//!
//! A template reads what it is given and nothing else; a variable that is not there is an error. Steps, depth, output and
//! time are bounded. Values are escaped in HTML.

use std::{
    io,
    time::{Duration, Instant},
};

use minijinja::{
    AutoEscape, Environment, ErrorKind, UndefinedBehavior,
    value::{Serde, Value},
};
use serde_json::{Map, Value as Json};

/// The largest source of one part of a template, in bytes.
pub(crate) const MAX_SOURCE: usize = 256 * 1024;
/// The largest part that is rendered, in bytes.
const MAX_OUTPUT: usize = 4 * 1024 * 1024;
/// The longest that rendering one message may take.
const MAX_TIME: Duration = Duration::from_millis(50);
/// Steps of one part: far more than a mail takes, and a few milliseconds.
const FUEL: u64 = 100_000;
/// Calls within calls.
const DEPTH: usize = 50;

/// The parts of a template. Those that are not there are not rendered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sources<'a> {
    pub(crate) subject: Option<&'a str>,
    pub(crate) text: Option<&'a str>,
    pub(crate) html: Option<&'a str>,
    pub(crate) title: Option<&'a str>,
    pub(crate) body: Option<&'a str>,
}

/// What became of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) subject: Option<String>,
    pub(crate) text: Option<String>,
    pub(crate) html: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) body: Option<String>,
}

/// Why a template cannot be rendered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RenderFault {
    /// The part: `subject`.
    pub(crate) part: &'static str,
    pub(crate) problem: String,
}

impl<'a> Sources<'a> {
    fn parts(&self) -> [(&'static str, Option<&'a str>); 5] {
        [
            ("subject", self.subject),
            ("text", self.text),
            ("html", self.html),
            ("title", self.title),
            ("body", self.body),
        ]
    }

    /// Whether each part is a template, and every one that is not.
    pub(crate) fn check(&self) -> Vec<RenderFault> {
        let environment = environment();
        let given = self.parts().into_iter();
        let given = given.filter_map(|(part, source)| Some((part, source?)));
        let fault = |(part, source): (&'static str, &str)| {
            let parsed = environment.template_from_named_str(name(part), source);
            parsed.err().map(|error| RenderFault {
                part,
                problem: explained(&error),
            })
        };
        given.filter_map(fault).collect()
    }

    /// Renders each part with `data`.
    ///
    /// # Errors
    ///
    /// [`RenderFault`] of the first part that cannot be rendered.
    pub(crate) fn render(&self, data: &Map<String, Json>) -> Result<Rendered, RenderFault> {
        let began = Instant::now();
        let environment = environment();
        let data = Value::from(Serde(data));
        let mut rendered = [const { None }; 5];
        for ((part, source), place) in self.parts().into_iter().zip(&mut rendered) {
            let Some(source) = source else { continue };
            let fault = |problem| RenderFault { part, problem };
            let text = render_part(&environment, part, source, data.clone()).map_err(fault)?;
            if began.elapsed() > MAX_TIME {
                return Err(fault(format!("takes longer than {MAX_TIME:?}")));
            }
            if matches!(part, "subject" | "title") && text.chars().any(char::is_control) {
                return Err(fault(
                    "has a line end or another control character".to_owned(),
                ));
            }
            *place = Some(text);
        }
        let [subject, text, html, title, body] = rendered;
        Ok(Rendered {
            subject,
            text,
            html,
            title,
            body,
        })
    }
}

fn render_part(
    environment: &Environment<'_>,
    part: &'static str,
    source: &str,
    data: Value,
) -> Result<String, String> {
    let template = environment
        .template_from_named_str(name(part), source)
        .map_err(|error| explained(&error))?;
    let mut output = Bounded(Vec::new());
    template
        .render_captured_to(data, &mut output)
        .map_err(|error| explained(&error))?;
    String::from_utf8(output.0).map_err(|_| "is not text".to_owned())
}

/// Output up to its bound.
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.len() + bytes.len() > MAX_OUTPUT {
            return Err(io::Error::other("too large"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Whether values are escaped goes by the name.
fn name(part: &'static str) -> &'static str {
    match part {
        "html" => "html.html",
        part => part,
    }
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(DEPTH);
    environment.set_auto_escape_callback(|name| match name {
        "html.html" => AutoEscape::Html,
        _ => AutoEscape::None,
    });
    environment
}

/// What is wrong, for who wrote the template. Nothing of the data is in it.
fn explained(error: &minijinja::Error) -> String {
    let line = error
        .line()
        .map(|line| format!("line {line}: "))
        .unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::OutOfFuel => "takes too many steps".to_owned(),
        ErrorKind::WriteFailure => format!("is larger than {MAX_OUTPUT} bytes"),
        kind => match error.detail() {
            Some(detail) => format!("{kind}: {detail}"),
            None => kind.to_string(),
        },
    };
    let mut what = format!("{line}{what}");
    what.truncate(what.floor_char_boundary(300));
    what
}

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
                let close = format!("</{word}");
                let lower = rest.to_ascii_lowercase();
                let end = lower.find(&close).unwrap_or(rest.len());
                rest = &rest[end..];
                rest = rest.find('>').map_or("", |at| &rest[at + 1..]);
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn data(data: Json) -> Map<String, Json> {
        data.as_object().unwrap().clone()
    }

    fn text(source: &str, with: Json) -> Result<String, RenderFault> {
        let sources = Sources {
            text: Some(source),
            ..Sources::default()
        };
        Ok(sources.render(&data(with))?.text.unwrap())
    }

    #[test]
    fn values_are_escaped_in_html_alone() {
        let sources = Sources {
            subject: Some("Hello {{ name }}"),
            text: Some("{{ name }}"),
            html: Some("<p>{{ name }}</p>"),
            ..Sources::default()
        };
        let rendered = sources
            .render(&data(json!({"name": "<b>Ann</b>"})))
            .unwrap();
        assert_eq!(rendered.subject.unwrap(), "Hello <b>Ann</b>");
        assert_eq!(rendered.text.unwrap(), "<b>Ann</b>");
        let html = rendered.html.unwrap();
        assert!(
            html.starts_with("<p>&lt;b&gt;Ann") && !html.contains("<b>"),
            "{html}"
        );
    }

    #[test]
    fn what_loops_reads_too_much_or_is_not_there_is_refused() {
        for (source, expected) in [
            (
                "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
                "steps",
            ),
            ("{{ nothing }}", "undefined"),
            ("{{ name.secret }}", "undefined"),
            ("{{ ''.__class__ }}", "undefined"),
            ("{% include '/etc/passwd' %}", "line 1"),
            ("{{ name", "line 1"),
            ("{{ name | nothing }}", "filter"),
            ("{{ open('x') }}", "line 1"),
        ] {
            let began = Instant::now();
            let fault = text(source, json!({"name": "Ann"})).unwrap_err();
            assert!(
                fault.problem.contains(expected),
                "{source}: {}",
                fault.problem
            );
            assert!(began.elapsed() < Duration::from_secs(2), "{source}");
        }
    }

    #[test]
    fn a_subject_is_one_line() {
        let sources = Sources {
            subject: Some("{{ name }}"),
            ..Sources::default()
        };
        let fault = sources
            .render(&data(json!({"name": "a\r\nBcc: x"})))
            .unwrap_err();
        assert_eq!(fault.part, "subject");
        assert_eq!(
            sources
                .render(&data(json!({"name": "a"})))
                .unwrap()
                .subject
                .unwrap(),
            "a"
        );
    }

    #[test]
    fn every_wrong_part_of_a_template_is_named() {
        let sources = Sources {
            subject: Some("{{ a"),
            text: Some("fine"),
            html: Some("{% if %}"),
            ..Sources::default()
        };
        let parts: Vec<_> = sources.check().into_iter().map(|it| it.part).collect();
        assert_eq!(parts, ["subject", "html"]);
    }

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
    }
}
