//! What is stored as an answer: ranges, conditional requests, names, and headers by which no browser takes it for a page
//! of this site (RFC 9110, sections 13 and 14; RFC 6266).
//!
//! A handler takes [`ContentRequest`], asks it what is wanted of the content that it has found, opens that part and gives
//! back a [`Content`]. For `HEAD`, and where the client has the content already, nothing is opened.

mod disposition;
mod ranges;

use std::{
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

use self::{disposition::disposition, ranges::ranges_of};
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

    /// What is to be sent of the content. Of several ranges in one request none is taken: all of it is sent. `HEAD` has no ranges
    /// (RFC 9110, 14.2).
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
            .filter(|_| !self.is_head && self.is_range_for(&tag, modified))
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
            "the object has changed since the given version",
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
        // Content has the media type that it was stored with.
        const ANY: &str = "*/*";
        operation.file_answer(StatusCode::OK, ANY, "The content, in its own media type.");
        operation.file_answer(StatusCode::PARTIAL_CONTENT, ANY, "The bytes of `Range`.");
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

#[cfg(test)]
mod tests;
