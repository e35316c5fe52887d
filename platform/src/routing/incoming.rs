//! Bodies of requests that are read as they arrive: raw ones, and forms with files (RFC 7578).
//!
//! Nothing is kept: a handler takes piece after piece, and the client waits for a handler that is slower. The limit of
//! the route bounds the whole body. Without its end a body has no fingerprint, so such routes take no idempotency key.

use std::{
    future::{Ready, ready},
    marker::PhantomData,
};

use actix_multipart::{Field, Multipart, MultipartError};
use actix_web::{
    FromRequest, HttpRequest, dev,
    http::header::{self, HeaderMap},
    web::{self, Bytes},
};
use futures_util::StreamExt as _;
use utoipa::ToSchema;

use super::{Argument, Operation, ProblemType};
use crate::http::{self, Problem};

const NOT_A_FORM: ProblemType = ProblemType::new(
    415,
    "unsupported_media_type",
    "the body must be sent as multipart/form-data",
);
const MALFORMED: ProblemType = ProblemType::new(
    400,
    "malformed_form",
    "the body is not multipart/form-data with named fields",
);
const INCOMPLETE: ProblemType = ProblemType::new(400, "incomplete_body", "the body is incomplete");

/// The body as it arrives.
pub struct IncomingBody {
    payload: web::Payload,
    announced: Option<u64>,
    content_type: Option<String>,
}

impl IncomingBody {
    /// How many bytes its head announces; `None` of a body in chunks.
    #[must_use]
    pub const fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// What its sender says that it is.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.content_type.as_deref()
    }

    /// The next piece; `None` at its end.
    ///
    /// # Errors
    ///
    /// 400 `incomplete_body` if it ends before its end, 413 `body_too_large` beyond the limit of the route.
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let piece = self.payload.next().await.transpose();
        piece.map_err(|error| http::incomplete_body(&error))
    }
}

impl FromRequest for IncomingBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let payload = web::Payload::from_request(request, payload).into_inner();
        let body = payload.map(|payload| Self {
            payload,
            announced: announced(request.headers()),
            content_type: text(request.headers(), header::CONTENT_TYPE.as_str()),
        });
        ready(body.map_err(|error| Problem::internal(error.to_string())))
    }
}

impl Argument for IncomingBody {
    fn describe(operation: &mut Operation) {
        operation.streams_body = true;
        operation.body::<Vec<u8>>("application/octet-stream");
        operation.problem(INCOMPLETE);
    }
}

/// A form whose fields are read one after another, as they arrive. `T` is what the documentation shows of its fields.
pub struct IncomingForm<T> {
    fields: Multipart,
    announced: Option<u64>,
    described: PhantomData<fn() -> T>,
}

/// A field of a form. What is left of it must be read before the next one is asked for.
pub struct FormField {
    field: Field,
    name: String,
}

impl<T> IncomingForm<T> {
    /// How many bytes the head of the request announces for the whole form.
    #[must_use]
    pub const fn announced(&self) -> Option<u64> {
        self.announced
    }

    /// The next field; `None` at the end of the form.
    ///
    /// # Errors
    ///
    /// 400 `malformed_form` or `incomplete_body`, 413 `body_too_large` beyond the limit of the route.
    pub async fn next(&mut self) -> Result<Option<FormField>, Problem> {
        let Some(field) = self.fields.next().await else {
            return Ok(None);
        };
        let field = field.map_err(|error| refused(&error))?;
        let name = field.name().unwrap_or_default().to_owned();
        Ok(Some(FormField { field, name }))
    }
}

impl FormField {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name that its sender gives to the file, if it is one.
    #[must_use]
    pub fn file_name(&self) -> Option<String> {
        let disposition = self.field.content_disposition()?;
        if let Some(extended) = disposition.get_filename_ext() {
            return Some(String::from_utf8_lossy(&extended.value).into_owned());
        }
        disposition.get_filename().map(str::to_owned)
    }

    /// What its sender says that it is.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        self.field.content_type().map(ToString::to_string)
    }

    /// The next piece; `None` at its end.
    ///
    /// # Errors
    ///
    /// As [`IncomingForm::next`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, Problem> {
        let piece = self.field.next().await.transpose();
        piece.map_err(|error| refused(&error))
    }

    /// All of it as text of at most `most` bytes.
    ///
    /// # Errors
    ///
    /// 422 that names the field if it is longer or no UTF-8, and as [`IncomingForm::next`].
    pub async fn text(mut self, most: usize) -> Result<String, Problem> {
        let mut bytes = Vec::new();
        let mut is_too_long = false;
        while let Some(piece) = self.next().await? {
            is_too_long = is_too_long || bytes.len() + piece.len() > most;
            if !is_too_long {
                bytes.extend_from_slice(&piece);
            }
        }
        let invalid = |problem: String| {
            let refused = super::valid::INVALID.problem();
            refused.field_error(self.name.clone(), problem)
        };
        if is_too_long {
            return Err(invalid(format!("has at most {most} bytes")));
        }
        String::from_utf8(bytes).map_err(|_| invalid("is text in UTF-8".to_owned()))
    }
}

impl<T> FromRequest for IncomingForm<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let kind = text(request.headers(), header::CONTENT_TYPE.as_str()).unwrap_or_default();
        if !kind.to_ascii_lowercase().starts_with("multipart/form-data") {
            return ready(Err(NOT_A_FORM.problem()));
        }
        ready(Ok(Self {
            fields: Multipart::new(request.headers(), payload.take()),
            announced: announced(request.headers()),
            described: PhantomData,
        }))
    }
}

impl<T: ToSchema + 'static> Argument for IncomingForm<T> {
    fn describe(operation: &mut Operation) {
        operation.streams_body = true;
        operation.body::<T>("multipart/form-data");
        operation.problem(NOT_A_FORM);
        operation.problem(MALFORMED);
        operation.problem(INCOMPLETE);
    }
}

fn refused(error: &MultipartError) -> Problem {
    match error {
        MultipartError::Payload(error) => http::incomplete_body(error),
        MultipartError::Incomplete => INCOMPLETE.problem(),
        error => MALFORMED
            .problem()
            .field_error("body", error.to_string().to_lowercase()),
    }
}

fn announced(headers: &HeaderMap) -> Option<u64> {
    text(headers, header::CONTENT_LENGTH.as_str())?
        .trim()
        .parse()
        .ok()
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
