//! Long work: 202 with the operation that does it, and the one shape in which all services show operations.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse, http::StatusCode};
use dotmac_db::{idempotency::KeptAnswer, types::Moment};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use super::{Creation, Operation, Reply, reply};

/// 202: the work was accepted and is not done; `Location` is the path of the operation that shows how far it is.
#[derive(Clone, Debug)]
pub struct Accepted<T> {
    /// The path of the operation, as `/api/v1/jobs/0192…`.
    pub location: String,
    /// The operation as it is now: an [`OperationResource`].
    pub body: T,
}

/// Long work, as clients see it: what the `Location` of an [`Accepted`] answers with.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[schema(as = Operation)]
pub struct OperationResource {
    /// Its id.
    pub id: Uuid,
    /// What it does: `files.copy`.
    #[schema(example = "files.copy")]
    pub kind: String,
    /// How it is.
    pub state: OperationState,
    /// How far it is.
    pub progress: OperationProgress,
    /// What came of it, once it is `completed`.
    pub result: Option<serde_json::Value>,
    /// Why its last try failed.
    pub error: Option<OperationError>,
    /// Paths that belong to it, by what is there: `self`, `result`, `cancel`.
    pub links: BTreeMap<String, String>,
}

/// How an operation is. `completed`, `failed` and `cancelled` are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// It is to begin at a later time.
    Scheduled,
    /// It can begin, and waits for its turn.
    Ready,
    /// It is being done.
    Running,
    /// A try failed; there will be another.
    Retrying,
    /// It is done.
    Completed,
    /// It was given up; `error` says why.
    Failed,
    /// It was called off.
    Cancelled,
    /// It is held until an operator decides.
    Parked,
}

impl OperationState {
    /// Whether it stays so.
    #[must_use]
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// How far an operation is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct OperationProgress {
    /// Finished parts, in the operation's own unit.
    pub done: u64,
    /// All parts, if their number is known.
    pub total: Option<u64>,
    /// What it is doing, for people.
    pub message: Option<String>,
}

/// Why a try failed.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OperationError {
    /// For programs: stable, lower case, joined by `_`.
    pub code: String,
    /// For people.
    pub message: String,
    /// When that was.
    pub at: Moment,
}

impl<T: Serialize + ToSchema + 'static> Reply for Accepted<T> {
    fn describe(operation: &mut Operation) {
        operation.creates();
        operation.answer::<T>(StatusCode::ACCEPTED, "The operation that does it.");
        operation.answer_header(StatusCode::ACCEPTED, "Location", "Where the operation is.");
    }

    fn respond(self, _: &HttpRequest) -> HttpResponse {
        reply::respond(&self)
    }
}

impl<T: Serialize + ToSchema + 'static> Creation for Accepted<T> {
    fn answer(&self) -> serde_json::Result<KeptAnswer> {
        reply::answer(StatusCode::ACCEPTED, &self.location, None, &self.body)
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use actix_web::{body::to_bytes, test::TestRequest};
    use serde_json::json;
    use utoipa::PartialSchema as _;

    use super::*;

    fn operation() -> OperationResource {
        OperationResource {
            id: Uuid::nil(),
            kind: "files.copy".to_owned(),
            state: OperationState::Running,
            progress: OperationProgress {
                done: 3,
                total: Some(10),
                message: None,
            },
            result: None,
            error: None,
            links: BTreeMap::from([("self".to_owned(), "/api/v1/jobs/0".to_owned())]),
        }
    }

    #[actix_web::test]
    async fn accepted_work_is_answered_with_its_operation_and_where_that_is() {
        let accepted = Accepted {
            location: "/api/v1/jobs/0".to_owned(),
            body: operation(),
        };
        let response = accepted.respond(&TestRequest::default().to_http_request());
        assert_eq!(response.status(), 202);
        let location = response.headers().get("location");
        assert_eq!(
            location.map(|it| it.as_bytes()),
            Some(&b"/api/v1/jobs/0"[..])
        );
        let body = to_bytes(response.into_body()).await.expect("a body");
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(
            body,
            json!({
                "id": "00000000-0000-0000-0000-000000000000", "kind": "files.copy", "state": "running",
                "progress": {"done": 3, "total": 10, "message": null},
                "result": null, "error": null, "links": {"self": "/api/v1/jobs/0"},
            })
        );
    }

    #[test]
    fn the_schema_of_an_operation_is_named_operation() {
        assert_eq!(OperationResource::name(), "Operation");
        let states = serde_json::to_value(OperationState::schema()).expect("a schema");
        assert_eq!(states["enum"].as_array().map(Vec::len), Some(8));
    }

    #[test]
    fn an_end_is_final() {
        assert!(OperationState::Completed.is_final() && OperationState::Failed.is_final());
        assert!(!OperationState::Parked.is_final() && !OperationState::Retrying.is_final());
    }
}
