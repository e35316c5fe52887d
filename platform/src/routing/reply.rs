//! What handlers give back, and what each says of itself in the documentation.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Json,
};
use dotmac_db::idempotency::KeptAnswer;
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, Operation, Versioned, conditional::etag, idempotency};
use crate::http::Problem;

/// The result of a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no result of a handler",
    note = "give `Json<T>`, `Created<T>`, `NoContent`, `Download<K>`, or a `Result` of one of them with an `ApiError`"
)]
pub trait Reply: 'static {
    /// Writes down the answers.
    fn describe(operation: &mut Operation);

    /// The answer to `request`.
    fn respond(self, request: &HttpRequest) -> HttpResponse;
}

/// A reply that says that something was made: one that can be given again to a repeat of its request.
pub trait Creation: Reply {
    /// Status, `Location`, `ETag` and body.
    ///
    /// # Errors
    ///
    /// The body cannot be written as JSON.
    fn answer(&self) -> serde_json::Result<KeptAnswer>;
}

/// 201: something was made; `Location` says where it is. Of a [`Versioned`] body `ETag` names the version.
#[derive(Clone, Debug)]
pub struct Created<T> {
    /// The path of what was made, as `/api/v1/notes/0192…`.
    pub location: String,
    /// What was made.
    pub body: T,
}

/// 204: done, and there is nothing to say.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoContent;

impl<T: Serialize + ToSchema + 'static> Reply for Json<T> {
    fn describe(operation: &mut Operation) {
        operation.answer::<T>(StatusCode::OK, "What was asked for.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok().json(self.0)
    }
}

impl<T: Serialize + ToSchema + 'static> Reply for Created<T> {
    fn describe(operation: &mut Operation) {
        operation.creates();
        operation.answer::<T>(StatusCode::CREATED, "What was made.");
        operation.answer_header(StatusCode::CREATED, "Location", "Where it is.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        respond(&self)
    }
}

impl<T: Serialize + ToSchema + 'static> Creation for Created<T> {
    fn answer(&self) -> serde_json::Result<KeptAnswer> {
        answer(StatusCode::CREATED, &self.location, None, &self.body)
    }
}

impl<T: Serialize + ToSchema + 'static> Reply for Created<Versioned<T>> {
    fn describe(operation: &mut Operation) {
        Created::<T>::describe(operation);
        operation.answer_header(StatusCode::CREATED, "ETag", "Names this version of it.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        respond(&self)
    }
}

impl<T: Serialize + ToSchema + 'static> Creation for Created<Versioned<T>> {
    fn answer(&self) -> serde_json::Result<KeptAnswer> {
        let Versioned { version, body } = &self.body;
        let etag = Some(etag(*version));
        answer(StatusCode::CREATED, &self.location, etag, body)
    }
}

/// The parts of a reply that says that something was made.
pub(super) fn answer(
    status: StatusCode,
    location: &str,
    etag: Option<String>,
    body: &impl Serialize,
) -> serde_json::Result<KeptAnswer> {
    Ok(KeptAnswer {
        status: Some(i32::from(status.as_u16())),
        location: Some(location.to_owned()),
        etag,
        body: Some(serde_json::to_vec(body)?),
    })
}

/// The response of a reply that says that something was made.
pub(super) fn respond(reply: &impl Creation) -> HttpResponse {
    match reply.answer() {
        Ok(answer) => idempotency::created(answer),
        Err(error) => HttpResponse::from_error(Problem::internal(error)),
    }
}

impl Reply for NoContent {
    fn describe(operation: &mut Operation) {
        operation.empty_answer(StatusCode::NO_CONTENT, "Done.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::NoContent().finish()
    }
}

/// Plain text.
impl Reply for String {
    fn describe(operation: &mut Operation) {
        operation.text_answer(StatusCode::OK, "Plain text.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Ok()
            .content_type(header::ContentType::plaintext())
            .body(self)
    }
}

impl<R: Reply, E: ApiError> Reply for Result<R, E> {
    fn describe(operation: &mut Operation) {
        R::describe(operation);
        E::PROBLEMS
            .iter()
            .for_each(|problem| operation.problem_of_error(*problem));
    }

    fn respond(self, request: &HttpRequest) -> HttpResponse {
        match self {
            Ok(reply) => reply.respond(request),
            // With the problem attached, for the log and the span of the request.
            Err(error) => HttpResponse::from_error(error.into_problem()),
        }
    }
}
