//! What is stored as an answer: ranges, conditional requests, names, and headers by which no browser takes it for a page
//! of this site (RFC 9110, sections 13 and 14; RFC 6266).
//!
//! A handler takes [`ContentRequest`], asks it what is wanted of the content that it has found, opens that part and gives
//! back a [`Content`]. For `HEAD`, and where the client has the content already, nothing is opened.

use std::{
    fmt::Write as _,
    future::{Ready, ready},
    ops::Range,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    body::SizedStream,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, HeaderMap, HeaderName, HeaderValue, HttpDate},
    },
    web::Bytes,
};
use chrono::{DateTime, Utc};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _, stream, stream::LocalBoxStream};
use utoipa::{
    PartialSchema,
    openapi::{
        Required,
        path::{ParameterBuilder, ParameterIn},
    },
};

use super::{Argument, Operation, PreconditionFailed, ProblemType, Reply};
use crate::http::{self, Problem};

const NOT_SATISFIABLE: ProblemType = ProblemType::new(
    416,
    "range_not_satisfiable",
    "the content has no byte of that range; `Content-Range` has its size",
);

/// Keeps a browser from running anything of what it shows, and from taking it for a page of this site.
const SANDBOX: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

/// What a content is.
#[derive(Clone, Debug)]
pub struct ContentFacts {
    /// Its size in bytes.
    pub size: u64,
    /// What stands for exactly these bytes, without quotes: a hash.
    pub tag: String,
    /// When it was written.
    pub modified: DateTime<Utc>,
    /// Its media type.
    pub media_type: String,
    /// The name to save it under.
    pub name: String,
    /// Whether a browser may show it, which is only safe for kinds that hold no script.
    pub is_inline: bool,
}

/// What a request wants of a content: its conditions, `Range` and `If-Range`.
#[derive(Clone, Debug)]
pub struct ContentRequest {
    headers: HeaderMap,
    is_head: bool,
}

/// What is to be sent of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentPart {
    /// All of it.
    Whole,
    /// These bytes.
    Range(Range<u64>),
    /// Nothing: the client has it.
    NotModified,
}

impl ContentRequest {
    /// Whether only the head of the answer is wanted.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        self.is_head
    }

    /// What is to be sent of the content. Of several ranges in one request none is taken: all of it is sent.
    ///
    /// # Errors
    ///
    /// 412 `precondition_failed`, 416 `range_not_satisfiable`.
    pub fn part(&self, facts: &ContentFacts) -> Result<ContentPart, Problem> {
        let tag = format!("\"{}\"", facts.tag);
        let modified = in_seconds(facts.modified);
        match (
            self.tags(&header::IF_MATCH),
            self.date(&header::IF_UNMODIFIED_SINCE),
        ) {
            (Some(tags), _) if !tags.iter().any(|it| it == "*" || *it == tag) => {
                return Err(PreconditionFailed.into());
            }
            (None, Some(date)) if modified > date => return Err(PreconditionFailed.into()),
            _ => {}
        }
        let is_known = match (
            self.tags(&header::IF_NONE_MATCH),
            self.date(&header::IF_MODIFIED_SINCE),
        ) {
            (Some(tags), _) => tags
                .iter()
                .any(|it| it == "*" || it.trim_start_matches("W/") == tag),
            (None, Some(date)) => modified <= date,
            (None, None) => false,
        };
        if is_known {
            return Ok(ContentPart::NotModified);
        }
        let ranges = self
            .headers
            .get(header::RANGE)
            .and_then(|it| it.to_str().ok());
        let ranges = ranges
            .filter(|_| self.is_range_for(&tag, modified))
            .and_then(ranges_of);
        match ranges.as_deref() {
            None => Ok(ContentPart::Whole),
            Some(ranges) => {
                let mut found = ranges.iter().filter_map(|range| range.within(facts.size));
                match (found.next(), found.next()) {
                    (None, _) => Err(not_satisfiable(facts.size)),
                    (Some(only), None) if ranges.len() == 1 => Ok(ContentPart::Range(only)),
                    _ => Ok(ContentPart::Whole),
                }
            }
        }
    }

    /// Whether `If-Range` lets `Range` count.
    fn is_range_for(&self, tag: &str, modified: SystemTime) -> bool {
        let Some(condition) = self.headers.get(header::IF_RANGE) else {
            return true;
        };
        let Ok(condition) = condition.to_str() else {
            return false;
        };
        match condition.trim() {
            it if it.starts_with('"') => it == tag,
            it => it
                .parse()
                .is_ok_and(|date: HttpDate| SystemTime::from(date) == modified),
        }
    }

    fn tags(&self, name: &HeaderName) -> Option<Vec<String>> {
        let mut lines = self.headers.get_all(name).peekable();
        lines.peek()?;
        let tags = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(','));
        Some(tags.map(|tag| tag.trim().to_owned()).collect())
    }

    fn date(&self, name: &HeaderName) -> Option<SystemTime> {
        let date: HttpDate = self.headers.get(name)?.to_str().ok()?.trim().parse().ok()?;
        Some(date.into())
    }
}

/// To the second, which is what dates in headers have.
fn in_seconds(time: DateTime<Utc>) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(seconds)
}

fn not_satisfiable(size: u64) -> Problem {
    let problem = NOT_SATISFIABLE.problem();
    match HeaderValue::try_from(format!("bytes */{size}")) {
        Ok(value) => problem.header(header::CONTENT_RANGE, value),
        Err(_) => problem,
    }
}

/// One of the ranges of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    From(u64, u64),
    Last(u64),
}

impl Wanted {
    fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.trim().split_once('-')?;
        match (first, last) {
            ("", last) => Some(Self::Last(number(last)?)),
            (first, "") => Some(Self::From(number(first)?, u64::MAX)),
            (first, last) => {
                let (first, last) = (number(first)?, number(last)?);
                (first <= last).then_some(Self::From(first, last))
            }
        }
    }

    /// The bytes that it means of so many; `None` if there are none.
    fn within(self, size: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::From(first, last) => first..last.saturating_add(1).min(size),
            Self::Last(most) => size.saturating_sub(most)..size,
        };
        (range.start < range.end).then_some(range)
    }
}

/// A number too large to be held is larger than any content.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The ranges of a header; `None` for what is not understood, which is to be ignored (RFC 9110, 14.2).
fn ranges_of(text: &str) -> Option<Vec<Wanted>> {
    let (unit, ranges) = text.split_once('=')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return None;
    }
    let ranges = ranges.split(',').map(str::trim).filter(|it| !it.is_empty());
    let ranges: Vec<_> = ranges.map(Wanted::parse).collect::<Option<_>>()?;
    (!ranges.is_empty()).then_some(ranges)
}

impl FromRequest for ContentRequest {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Ok(Self {
            headers: request.headers().clone(),
            is_head: http::is_head(request),
        }))
    }
}

impl Argument for ContentRequest {
    fn describe(operation: &mut Operation) {
        for (name, description) in [
            (
                "Range",
                "The bytes that are wanted, as `bytes=0-1023`; of several ranges none is taken.",
            ),
            (
                "If-Range",
                "`Range` counts only if the content still has this `ETag`, or this `Last-Modified`.",
            ),
            (
                "If-None-Match",
                "Answered 304 if the content has one of these tags.",
            ),
        ] {
            operation.parameter(
                ParameterBuilder::new()
                    .name(name)
                    .parameter_in(ParameterIn::Header)
                    .required(Required::False)
                    .description(Some(description))
                    .schema(Some(<String as PartialSchema>::schema()))
                    .build(),
            );
        }
        operation.problem(ProblemType::new(
            412,
            "precondition_failed",
            "the object has changed since it was last seen",
        ));
        operation.problem(NOT_SATISFIABLE);
    }
}

/// 200, 206 or 304: a content, or a part of it.
pub struct Content {
    facts: ContentFacts,
    part: ContentPart,
    pieces: LocalBoxStream<'static, Result<Bytes, Problem>>,
}

impl Content {
    /// The part of a content that consists of `pieces`. One that fails ends the connection, so the client sees that it has
    /// not got all of it.
    pub fn new<E: Into<Problem> + 'static>(
        facts: ContentFacts,
        part: ContentPart,
        pieces: impl Stream<Item = Result<Bytes, E>> + 'static,
    ) -> Self {
        Self {
            facts,
            part,
            pieces: pieces.map_err(Into::into).boxed_local(),
        }
    }

    /// The head alone: for `HEAD`, and where the client has the content.
    #[must_use]
    pub fn head(facts: ContentFacts, part: ContentPart) -> Self {
        Self::new(facts, part, stream::empty::<Result<Bytes, Problem>>())
    }
}

impl Reply for Content {
    fn describe(operation: &mut Operation) {
        const OCTETS: &str = "application/octet-stream";
        operation.file_answer(
            StatusCode::OK,
            OCTETS,
            "The content, in its own media type.",
        );
        operation.file_answer(StatusCode::PARTIAL_CONTENT, OCTETS, "The bytes of `Range`.");
        operation.empty_answer(StatusCode::NOT_MODIFIED, "The client has it already.");
        for (name, description) in [
            ("ETag", "Stands for exactly these bytes."),
            ("Content-Disposition", "The name to save it under."),
        ] {
            operation.answer_header(StatusCode::OK, name, description);
        }
        operation.answer_header(
            StatusCode::PARTIAL_CONTENT,
            "Content-Range",
            "Which bytes these are.",
        );
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        let Self {
            facts,
            part,
            pieces,
        } = self;
        let status = match part {
            ContentPart::Whole => StatusCode::OK,
            ContentPart::Range(_) => StatusCode::PARTIAL_CONTENT,
            ContentPart::NotModified => StatusCode::NOT_MODIFIED,
        };
        let mut response = HttpResponse::build(status);
        response
            .insert_header((header::ETAG, format!("\"{}\"", facts.tag)))
            .insert_header((
                header::LAST_MODIFIED,
                HttpDate::from(in_seconds(facts.modified)),
            ))
            // `no-transform`: compressed, it would not be the bytes that the tag and ranges are about.
            .insert_header((header::CACHE_CONTROL, "private, no-cache, no-transform"))
            .insert_header((header::ACCEPT_RANGES, "bytes"));
        let range = match part {
            ContentPart::NotModified => return response.finish(),
            ContentPart::Whole => 0..facts.size,
            ContentPart::Range(range) => {
                let (first, last, size) = (range.start, range.end - 1, facts.size);
                response.insert_header((
                    header::CONTENT_RANGE,
                    format!("bytes {first}-{last}/{size}"),
                ));
                range
            }
        };
        let octets = HeaderValue::from_static("application/octet-stream");
        let media_type = HeaderValue::try_from(&facts.media_type).unwrap_or(octets);
        response
            .insert_header((header::CONTENT_TYPE, media_type))
            .insert_header((header::CONTENT_DISPOSITION, disposition(&facts)))
            .insert_header((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .insert_header((header::CONTENT_SECURITY_POLICY, SANDBOX))
            .body(SizedStream::new(range.end - range.start, pieces))
    }
}

/// RFC 6266: the name for old clients in ASCII, and as it is in UTF-8.
fn disposition(facts: &ContentFacts) -> String {
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

#[cfg(test)]
mod tests {
    use actix_web::{ResponseError as _, test::TestRequest};

    use super::*;

    fn facts(size: u64) -> ContentFacts {
        ContentFacts {
            size,
            tag: "abc".to_owned(),
            modified: DateTime::from_timestamp(1_000_000_000, 500_000_000).unwrap_or_default(),
            media_type: "text/plain".to_owned(),
            name: "a.txt".to_owned(),
            is_inline: false,
        }
    }

    /// Status of the refusal, or what is sent.
    fn part(size: u64, headers: &[(&'static str, &str)]) -> Result<ContentPart, u16> {
        let mut request = TestRequest::get();
        for (name, value) in headers {
            request = request.append_header((*name, *value));
        }
        let wanted = ContentRequest {
            headers: request.to_http_request().headers().clone(),
            is_head: false,
        };
        let part = wanted.part(&facts(size));
        part.map_err(|problem| problem.status_code().as_u16())
    }

    #[test]
    fn ranges_of_every_shape_are_understood_refused_or_ignored() {
        use ContentPart::{Range, Whole};
        for (range, expected) in [
            ("bytes=0-0", Ok(Range(0..1))),
            ("bytes=0-9", Ok(Range(0..10))),
            ("bytes=3-5", Ok(Range(3..6))),
            ("bytes=3-", Ok(Range(3..10))),
            ("bytes=-3", Ok(Range(7..10))),
            ("bytes=-30", Ok(Range(0..10))),
            ("bytes=9-99999999999999999999999999", Ok(Range(9..10))),
            ("Bytes = 1-2 ", Ok(Range(1..3))),
            ("bytes=1-2,", Ok(Range(1..3))),
            ("bytes=10-", Err(416)),
            ("bytes=10-20,30-", Err(416)),
            ("bytes=-0", Err(416)),
            ("bytes=99999999999999999999999999-", Err(416)),
            ("bytes=0-1,3-4", Ok(Whole)),
            ("bytes=0-1,30-40", Ok(Whole)),
            ("bytes=5-3", Ok(Whole)),
            ("bytes=a-b", Ok(Whole)),
            ("bytes=--1", Ok(Whole)),
            ("bytes=+1-2", Ok(Whole)),
            ("bytes=", Ok(Whole)),
            ("bytes=-", Ok(Whole)),
            ("items=0-1", Ok(Whole)),
            ("bytes 0-1", Ok(Whole)),
        ] {
            assert_eq!(part(10, &[("range", range)]), expected, "{range}");
        }
        assert_eq!(part(0, &[("range", "bytes=0-")]), Err(416));
        assert_eq!(part(0, &[]), Ok(Whole));
    }

    #[test]
    fn conditions_are_judged_in_their_order() {
        use ContentPart::{NotModified, Range, Whole};
        let (at, before, after) = (
            "Sun, 09 Sep 2001 01:46:40 GMT",
            "Sun, 09 Sep 2001 01:46:39 GMT",
            "Sun, 09 Sep 2001 01:46:41 GMT",
        );
        let range = ("range", "bytes=0-0");
        for (headers, expected) in [
            (vec![("if-match", "\"abc\"")], Ok(Whole)),
            (vec![("if-match", "\"x\", \"abc\"")], Ok(Whole)),
            (vec![("if-match", "*")], Ok(Whole)),
            (vec![("if-match", "\"x\"")], Err(412)),
            (vec![("if-match", "W/\"abc\"")], Err(412)),
            (vec![("if-unmodified-since", before)], Err(412)),
            (vec![("if-unmodified-since", at)], Ok(Whole)),
            (vec![("if-none-match", "\"abc\"")], Ok(NotModified)),
            (vec![("if-none-match", "W/\"abc\"")], Ok(NotModified)),
            (
                vec![("if-none-match", "\"x\""), ("if-modified-since", after)],
                Ok(Whole),
            ),
            (vec![("if-modified-since", at)], Ok(NotModified)),
            (vec![("if-modified-since", before)], Ok(Whole)),
            (vec![("if-modified-since", "yesterday")], Ok(Whole)),
            (vec![range, ("if-range", "\"abc\"")], Ok(Range(0..1))),
            (vec![range, ("if-range", "\"x\"")], Ok(Whole)),
            (vec![range, ("if-range", "W/\"abc\"")], Ok(Whole)),
            (vec![range, ("if-range", at)], Ok(Range(0..1))),
            (vec![range, ("if-range", after)], Ok(Whole)),
        ] {
            assert_eq!(part(10, &headers), expected, "{headers:?}");
        }
    }

    #[test]
    fn no_name_breaks_out_of_its_header() {
        let named = |name: &str| {
            disposition(&ContentFacts {
                name: name.to_owned(),
                ..facts(1)
            })
        };
        assert_eq!(named("a b.txt"), "attachment; filename=\"a b.txt\"");
        assert_eq!(
            named("ä\".txt"),
            "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%A4%22.txt"
        );
        assert_eq!(
            named("a\r\nSet-Cookie: b"),
            "attachment; filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b"
        );
    }
}
