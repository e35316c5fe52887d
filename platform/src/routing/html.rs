//! Pages for people: an answer as HTML, and one that is JSON for programs and HTML for browsers.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
};

use super::{Operation, Reply};

/// A page loads nothing, runs no script, and may send its forms to this program alone.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; \
                      base-uri 'none'; frame-ancestors 'none'";

const TYPE: &str = "text/html; charset=utf-8";

/// 200: a page, kept by no cache. Its author must escape untrusted text ([`escaped`]).
#[derive(Clone, Debug)]
pub struct Html(pub String);

/// An answer for programs, or the same as a page for a client that asks for `text/html` before anything else, as browsers do.
#[derive(Clone, Debug)]
pub struct JsonOrHtml<R> {
    /// For programs.
    pub json: R,
    /// For browsers.
    pub page: Html,
}

/// `text` as it stands in HTML, in an attribute too.
#[must_use]
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            letter => out.push(letter),
        }
    }
    out
}

fn page(html: Html) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((header::CONTENT_TYPE, TYPE))
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::CACHE_CONTROL, "no-store"))
        .body(html.0)
}

impl Reply for Html {
    fn describe(operation: &mut Operation) {
        operation.file_answer(StatusCode::OK, "text/html", "A page.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        page(self)
    }
}

impl<R: Reply> Reply for JsonOrHtml<R> {
    fn describe(operation: &mut Operation) {
        R::describe(operation);
    }

    fn respond(self, request: &HttpRequest) -> HttpResponse {
        let accept = request.headers().get(header::ACCEPT);
        let accept = accept.and_then(|it| it.to_str().ok()).unwrap_or_default();
        let mut answer = match is_browser(accept) {
            true => page(self.page),
            false => self.json.respond(request),
        };
        let vary = header::HeaderValue::from_static("accept");
        answer.headers_mut().append(header::VARY, vary);
        answer
    }
}

/// Whether HTML comes before JSON in what a client accepts.
fn is_browser(accept: &str) -> bool {
    let mut types = accept.split(',').map(|it| it.split(';').next());
    let first = types.find_map(|it| match it.unwrap_or_default().trim() {
        "text/html" | "application/xhtml+xml" => Some(true),
        "application/json" | "*/*" => Some(false),
        _ => None,
    });
    first.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn browsers_get_pages_and_programs_json() {
        for (accept, is_page) in [
            (
                "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
                true,
            ),
            ("*/*", false),
            ("", false),
            ("application/json, text/html", false),
            ("text/html;q=0.9", true),
        ] {
            assert_eq!(is_browser(accept), is_page, "{accept}");
        }
        assert_eq!(
            escaped("<a href=\"x\">'&"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;"
        );
    }
}
