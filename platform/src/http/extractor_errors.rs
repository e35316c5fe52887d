//! Turns what actix's extractors refuse into problems that say where the mistake is.

use actix_web::{
    HttpRequest,
    error::{JsonPayloadError, PathError, PayloadError, QueryPayloadError, UrlencodedError},
    http::StatusCode,
    web::{FormConfig, JsonConfig, PathConfig, PayloadConfig, QueryConfig, ServiceConfig},
};

use super::{Problem, problem::FieldError};

/// Registers the body limit, in bytes, and the error handlers of all extractors.
pub(super) fn configure(app: &mut ServiceConfig, body_limit: usize) {
    app.app_data(PayloadConfig::new(body_limit))
        .app_data(JsonConfig::default().limit(body_limit).error_handler(json))
        .app_data(FormConfig::default().limit(body_limit).error_handler(form))
        .app_data(PathConfig::default().error_handler(path))
        .app_data(QueryConfig::default().error_handler(query));
}

/// 413 for a body over `limit` bytes.
pub(super) fn too_large(limit: usize) -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
        .detail(format!(
            "the body is larger than the limit of {limit} bytes"
        ))
        .code("body_too_large")
}

fn json(error: JsonPayloadError, _: &HttpRequest) -> actix_web::Error {
    match error {
        JsonPayloadError::OverflowKnownLength { limit, .. }
        | JsonPayloadError::Overflow { limit } => too_large(limit),
        JsonPayloadError::ContentType => unsupported("application/json"),
        JsonPayloadError::Deserialize(error) => malformed_json(&error, ""),
        JsonPayloadError::Payload(error) => body(&error),
        other => Problem::internal(other.to_string()),
    }
    .into()
}

/// 400 with the place of the mistake: line and column, and the field, where the shape is wrong. `place` is the path to what
/// was being read.
pub(crate) fn malformed_json(error: &serde_json::Error, place: &str) -> Problem {
    let text = error.to_string();
    // serde_json appends the place, which has fields of its own here.
    let message = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(message, _)| message)
        .to_owned();
    let (code, detail) = if error.is_data() {
        (
            "invalid_body",
            "the body is JSON, but does not match the schema",
        )
    } else {
        ("malformed_json", "the body is not JSON")
    };
    let place = if error.is_data() { place } else { "" };
    let (field, kind) = field_at_fault(place, &message);
    let field = field.unwrap_or_else(|| "body".to_owned());
    Problem::bad_request(detail).code(code).field(FieldError {
        line: Some(error.line()),
        column: Some(error.column()),
        ..FieldError::new(field, kind, message)
    })
}

/// Which field one of serde's sentences is about, and what is wrong with it in a word. `place` is the path to what was
/// being read, empty or `.` for the whole, which is no field.
pub(crate) fn field_at_fault(place: &str, message: &str) -> (Option<String>, String) {
    let within = Some(place).filter(|place| !matches!(*place, "" | "."));
    let Some(field) = named_field(message) else {
        return (within.map(str::to_owned), "invalid".to_owned());
    };
    let kind = message.split(" field `").next().unwrap_or_default();
    let named = match within {
        // A second one is met where the first one was.
        Some(place) if place == field || place.ends_with(&format!(".{field}")) => place.to_owned(),
        // The place is that of the object whose field it is.
        Some(object) => format!("{object}.{field}"),
        None => field.to_owned(),
    };
    (Some(named), format!("{kind}_field"))
}

/// The field in serde's own sentences: ``missing field `name` ``, ``unknown field `x`, expected ..``.
fn named_field(message: &str) -> Option<&str> {
    ["missing field `", "unknown field `", "duplicate field `"]
        .into_iter()
        .find_map(|sentence| message.strip_prefix(sentence))
        .and_then(|rest| rest.split('`').next())
}

fn form(error: UrlencodedError, _: &HttpRequest) -> actix_web::Error {
    match error {
        UrlencodedError::Overflow { limit, .. } => too_large(limit),
        UrlencodedError::ContentType => unsupported("application/x-www-form-urlencoded"),
        UrlencodedError::UnknownLength => Problem::new(StatusCode::LENGTH_REQUIRED)
            .detail("a form needs the header `Content-Length`"),
        UrlencodedError::Payload(error) => body(&error),
        other => Problem::bad_request("the body is a form, but does not match the schema")
            .code("invalid_body")
            .field_error("body", other.to_string()),
    }
    .into()
}

fn path(error: PathError, request: &HttpRequest) -> actix_web::Error {
    // Of several parts it is not known which one is meant.
    let mut parts = request.match_info().iter().map(|(name, _)| name.to_owned());
    let field = match (parts.next(), parts.next()) {
        (Some(only), None) => only,
        _ => "path".to_owned(),
    };
    let message = match error {
        PathError::Deserialize(error) => error.to_string(),
        other => other.to_string(),
    };
    Problem::bad_request("a part of the path is not valid")
        .code("invalid_path")
        .field_error(field, message)
        .into()
}

fn query(error: QueryPayloadError, _: &HttpRequest) -> actix_web::Error {
    let message = match error {
        QueryPayloadError::Deserialize(error) => error.to_string(),
        other => other.to_string(),
    };
    let field = named_field(&message).unwrap_or("query").to_owned();
    Problem::bad_request("the query is not valid")
        .code("invalid_query")
        .field_error(field, message)
        .into()
}

pub(crate) fn unsupported(wanted: &str) -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE)
        .detail(format!("the body must be sent as {wanted}"))
        .code("unsupported_media_type")
}

/// A body that did not arrive whole.
pub(crate) fn body(error: &PayloadError) -> Problem {
    match error {
        PayloadError::Overflow => Problem::new(StatusCode::PAYLOAD_TOO_LARGE)
            .detail("the body is too large")
            .code("body_too_large"),
        PayloadError::EncodingCorrupted => {
            Problem::bad_request("the body's encoding is corrupt").code("malformed_body")
        }
        _ => Problem::bad_request("the body is incomplete").code("incomplete_body"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_says_which_field_it_missed() {
        assert_eq!(named_field("missing field `name`"), Some("name"));
        assert_eq!(
            named_field("unknown field `x`, expected `a` or `b`"),
            Some("x")
        );
        assert_eq!(named_field("invalid type: string \"`\", expected u8"), None);
    }
}
