//! Rendering: templates of tenants, which may be hostile, and those of services.
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

/// What is wrong, for the template's author. Nothing of the data is in it.
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
            ("{{ 'x' * 10000000000 }}", "steps"),
            ("{{ '%10000000000d' | format(1) }}", "steps"),
            ("{{ 'a' | indent(10000000000, true) }}", "steps"),
            ("{{ [1] | batch(10000000000, 0) }}", "steps"),
            ("{{ [1] | slice(10000000000, 0) }}", "steps"),
            ("{{ range(100000000) | list }}", "line 1"),
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
}
