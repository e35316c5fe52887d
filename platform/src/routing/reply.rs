//! What handlers give back, and what each says of itself in the documentation.

use actix_web::{
    HttpRequest, HttpResponse,
    http::{StatusCode, header},
    web::Json,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{ApiError, Operation};

/// The result of a handler.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no result of a handler",
    note = "give `Json<T>`, `Created<T>`, `NoContent`, or a `Result` of one of them with an `ApiError`"
)]
pub trait Reply: 'static {
    /// Writes down the answers.
    fn describe(operation: &mut Operation);

    /// The answer to `request`.
    fn respond(self, request: &HttpRequest) -> HttpResponse;
}

/// 201: something was made; `Location` says where it is.
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
        operation.answer::<T>(StatusCode::CREATED, "What was made.");
        operation.answer_header(StatusCode::CREATED, "Location", "Where it is.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        HttpResponse::Created()
            .insert_header((header::LOCATION, self.location))
            .json(self.body)
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
        E::ANSWERS
            .iter()
            .for_each(|answer| operation.problem(*answer));
    }

    fn respond(self, request: &HttpRequest) -> HttpResponse {
        match self {
            Ok(reply) => reply.respond(request),
            // With the problem attached, for the log and the span of the request.
            Err(error) => HttpResponse::from_error(error.into_problem()),
        }
    }
}
