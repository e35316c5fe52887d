//! `Idempotency-Key`: a request that creates something has its effect once, however often its client sends it.
//!
//! Every `POST` that creates for an authenticated caller takes the header, without a word of its handler. Keys are held
//! apart by tenant and route, and kept for 24 h. A repeat of a request (same caller, path, query and body) gets the same
//! answer, with `Idempotent-Replayed: true`; another request with the key gets 422, and one that comes while the first is
//! under way 409. Only what had an effect is kept: after a 4xx or 5xx the key is free.
//!
//! A handler that writes to the database takes [`Idempotency`] and keeps its answer in the transaction of its effect:
//!
//! ```no_run
//! # use dotmac_platform::{db::{DbError, ModuleDb}, prelude::*, routing::Idempotency};
//! async fn add(who: Authenticated, db: Use<ModuleDb>, once: Idempotency) -> Result<Created<u64>, DbError> {
//!     let db = db.tenant(&who.scope());
//!     db.transaction("add number", async move |tx| {
//!         let number = 7; // … is stored
//!         Ok(once.keep(tx, Created { location: format!("/api/v1/numbers/{number}"), body: number }))
//!     })
//!     .await
//! }
//! ```
//!
//! Without that the answer is kept once the handler has returned: if the process ends between the two, a repeat is carried
//! out again.

use std::{
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use actix_web::{
    FromRequest, HttpMessage, HttpRequest, HttpResponse,
    body::{BoxBody, MessageBody},
    dev::Payload,
    error::PayloadError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
    web::Bytes,
};
use aws_lc_rs::hmac;
use dotmac_db::{
    Db, DbError, ModuleDb, TenantDb, Tx,
    idempotency::{self, Claim, Claimed, KeptAnswer, KeyedRequest},
};
use dotmac_secrets::{ExposeSecret, SecretWatch};
use futures_util::stream;
use utoipa::openapi::{
    ObjectBuilder, Required, Type,
    path::{Parameter, ParameterBuilder, ParameterIn},
};
use uuid::Uuid;

use super::{Argument, Creation, Operation, ProblemType, admission::RouteRules};
use crate::{access::Principal, http::Problem, supervised::provided};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// The longest key, in characters.
const LONGEST_KEY: usize = 255;

/// The largest body of an answer that is kept, in bytes.
const LARGEST_BODY: usize = 64 * 1024;

/// What a claim outlasts the time limit of its request by: the time for a commit that was under way.
const LEASE_MARGIN: Duration = Duration::from_secs(30);

/// Expired keys that are deleted with one statement.
const BATCH: i64 = 1000;

const INVALID_KEY: ProblemType = ProblemType::new(
    400,
    "invalid_idempotency_key",
    "the header `Idempotency-Key` must be given once, with 1 to 255 visible ASCII characters",
);
const IN_PROGRESS: ProblemType = ProblemType::new(
    409,
    "idempotency_in_progress",
    "another request with this `Idempotency-Key` is under way",
);
const NOT_KEPT: ProblemType = ProblemType::new(
    409,
    "idempotency_answer_not_kept",
    "the request with this `Idempotency-Key` was executed, and its answer was not kept; `Location` has its result",
);
const MISMATCH: ProblemType = ProblemType::new(
    422,
    "idempotency_mismatch",
    "this `Idempotency-Key` was used for another request",
);

/// Where keys are kept; provided if a route takes any.
#[derive(Clone)]
pub(crate) struct KeyStore {
    db: ModuleDb,
    /// The longest time of a request to a route that has no limit of its own.
    request_timeout: Duration,
    /// The program's secret, if it has one.
    secret: Option<SecretWatch>,
}

impl KeyStore {
    pub(crate) fn new(
        db: ModuleDb,
        request_timeout: Duration,
        secret: Option<SecretWatch>,
    ) -> Self {
        Self {
            db,
            request_timeout,
            secret,
        }
    }

    /// What fingerprints are made with: a key that is derived from the program's secret, so that a reader of the table
    /// cannot guess bodies, which may have a password. A program without a secret, as in development, has a constant.
    fn key(&self) -> hmac::Key {
        let secret = self.secret.as_ref().and_then(SecretWatch::get);
        let secret = secret
            .as_ref()
            .map_or(b"".as_slice(), |it| it.expose_secret().as_bytes());
        let secret = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let derived = hmac::sign(&secret, b"dotmac idempotency v1");
        hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref())
    }
}

/// Deletes expired keys, a batch at a time.
///
/// # Errors
///
/// [`DbError`]; what is left goes the next time.
pub(crate) async fn delete_expired(db: Db) -> Result<(), DbError> {
    loop {
        let deleting = db.transaction("delete idempotency keys", async |tx| {
            idempotency::delete_expired(tx, BATCH).await
        });
        let deleted = deleting.await?;
        if i64::try_from(deleted).is_ok_and(|deleted| deleted < BATCH) {
            return Ok(());
        }
    }
}

/// The request's claim on its `Idempotency-Key`, for handlers that write to the database; nothing if it has no key.
#[derive(Clone, Default)]
pub struct Idempotency(Option<Arc<Pending>>);

/// A request with a key, under way.
pub(super) struct Pending {
    claim: Claim,
    db: TenantDb,
    keeps_body: bool,
    /// Whether the answer was committed.
    is_kept: AtomicBool,
}

impl Idempotency {
    /// Keeps `reply` as the answer to repeats of this request, in the transaction of its effect: both are committed or
    /// neither. Returns the reply, for the handler to return.
    ///
    /// If the claim has meanwhile gone to another request, since this one took too long, the commit fails with
    /// [`DbError::Conflict`].
    pub fn keep<R: Creation>(&self, tx: &mut Tx, reply: R) -> R {
        let Some(pending) = &self.0 else {
            return reply;
        };
        // A reply that cannot be written is answered 500 and kept nowhere.
        if let Ok(answer) = reply.answer() {
            let (answer, claim) = (pending.kept(answer), pending.claim.clone());
            tx.before_commit("idempotency", async move |tx: &mut Tx| {
                claim.keep(tx, answer).await
            });
            let pending = Arc::clone(pending);
            tx.after_commit(move || pending.is_kept.store(true, Relaxed));
        }
        reply
    }
}

impl FromRequest for Idempotency {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let pending = request.extensions().get::<Arc<Pending>>().cloned();
        ready(Ok(Self(pending)))
    }
}

impl Argument for Idempotency {
    fn describe(operation: &mut Operation) {
        operation.takes_claim = true;
    }
}

/// What is to be done with a request.
pub(super) enum Turn {
    /// It is carried out, with a claim if it has a key.
    Go(Option<Arc<Pending>>),
    /// It was answered before.
    Answered(HttpResponse),
}

/// Claims the key of a request, if it has one. The body is read for that, and put back.
///
/// # Errors
///
/// What [`INVALID_KEY`], [`IN_PROGRESS`], [`NOT_KEPT`] and [`MISMATCH`] say; 413, and 503 without the database.
pub(super) async fn begin(
    request: &HttpRequest,
    payload: &mut Payload,
    principal: &Principal,
    rules: &RouteRules,
) -> Result<Turn, actix_web::Error> {
    let Some(key) = key(request)? else {
        return Ok(Turn::Go(None));
    };
    let store: KeyStore = provided(request)?;
    let body = Bytes::from_request(request, payload).await?;
    let keyed = KeyedRequest {
        route: rules.name.clone(),
        key,
        fingerprint: fingerprint(&store.key(), request, principal.id, &body),
    };
    *payload = Payload::Stream {
        payload: Box::pin(stream::iter([Ok::<_, PayloadError>(body)])),
    };
    let db = store.db.tenant(&principal.scope());
    let lease = rules.time_limit.unwrap_or(store.request_timeout) + LEASE_MARGIN;
    let claimed = idempotency::claim(&db, keyed, lease).await;
    match claimed.map_err(Problem::from)? {
        Claimed::Mine(claim) => {
            let pending = Arc::new(Pending {
                claim,
                db,
                keeps_body: rules.keeps_answer,
                is_kept: AtomicBool::new(false),
            });
            request.extensions_mut().insert(Arc::clone(&pending));
            Ok(Turn::Go(Some(pending)))
        }
        Claimed::Answered(answer) => Ok(Turn::Answered(replayed(answer)?)),
        Claimed::InProgress => Err(IN_PROGRESS
            .problem()
            .retry_after(Duration::from_secs(1))
            .into()),
        Claimed::Mismatch => Err(MISMATCH.problem().into()),
    }
}

impl Pending {
    /// Ends the claim with the answer of the handler: keeps it if it says that there was an effect, and was not kept in
    /// the effect's transaction.
    pub(super) async fn finish(&self, response: HttpResponse) -> HttpResponse {
        if self.is_kept.load(Relaxed) {
            return response;
        }
        if !response.status().is_success() {
            self.release().await;
            return response;
        }
        let (response, answer) = self.taken_apart(response);
        let claim = self.claim.clone();
        let keeping = self
            .db
            .transaction("keep answer", async move |tx| claim.keep(tx, answer).await);
        if let Err(error) = keeping.await {
            tracing::warn!(%error, "the answer to a request with an idempotency key was not kept");
        }
        response
    }

    /// Lets a repeat be carried out: this request had no effect.
    pub(super) async fn release(&self) {
        if let Err(error) = self.claim.release(&self.db).await {
            tracing::warn!(%error, "an idempotency key was not released; it becomes free when its claim expires");
        }
    }

    fn kept(&self, answer: KeptAnswer) -> KeptAnswer {
        let is_kept = |body: &Vec<u8>| self.keeps_body && body.len() <= LARGEST_BODY;
        KeptAnswer {
            body: answer.body.filter(is_kept),
            ..answer
        }
    }

    /// The response again, and what is kept of it.
    fn taken_apart(&self, response: HttpResponse) -> (HttpResponse, KeptAnswer) {
        let text = |name: HeaderName| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let answer = KeptAnswer {
            status: Some(i32::from(response.status().as_u16())),
            location: text(header::LOCATION),
            etag: text(header::ETAG),
            body: None,
        };
        let (head, body) = response.into_parts();
        let (body, bytes) = match body.try_into_bytes() {
            Ok(bytes) => (BoxBody::new(bytes.clone()), Some(bytes.to_vec())),
            Err(body) => (body, None),
        };
        let answer = self.kept(KeptAnswer {
            body: bytes,
            ..answer
        });
        (head.set_body(body), answer)
    }
}

/// The answer as it was, marked as a repeat.
fn replayed(answer: KeptAnswer) -> Result<HttpResponse, Problem> {
    if answer.body.is_none() {
        let problem = NOT_KEPT.problem();
        let location = answer.location.map(HeaderValue::try_from);
        return Err(match location {
            Some(Ok(location)) => problem.header(header::LOCATION, location),
            _ => problem,
        });
    }
    let mut response = created(answer);
    response
        .headers_mut()
        .insert(IDEMPOTENT_REPLAYED, HeaderValue::from_static("true"));
    Ok(response)
}

/// The response that says that something was made.
pub(super) fn created(answer: KeptAnswer) -> HttpResponse {
    let status = answer.status.and_then(|status| u16::try_from(status).ok());
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    let mut response = HttpResponse::build(status.unwrap_or(StatusCode::CREATED));
    for (name, value) in [
        (header::LOCATION, answer.location),
        (header::ETAG, answer.etag),
    ] {
        if let Some(value) = value {
            response.insert_header((name, value));
        }
    }
    response
        .content_type(header::ContentType::json())
        .body(answer.body.unwrap_or_default())
}

fn key(request: &HttpRequest) -> Result<Option<String>, Problem> {
    let mut lines = request.headers().get_all(IDEMPOTENCY_KEY);
    let Some(first) = lines.next() else {
        return Ok(None);
    };
    let key = first.as_bytes();
    let is_valid = (1..=LONGEST_KEY).contains(&key.len())
        && key.iter().all(u8::is_ascii_graphic)
        && lines.next().is_none();
    match std::str::from_utf8(key) {
        Ok(key) if is_valid => Ok(Some(key.to_owned())),
        _ => Err(INVALID_KEY.problem().field_error(
            "Idempotency-Key",
            format!("is 1 to {LONGEST_KEY} visible ASCII characters, given once"),
        )),
    }
}

/// All that makes a request what it is: who sends it, where to, and what. Another caller of the tenant cannot have the
/// answer by knowing the key.
fn fingerprint(key: &hmac::Key, request: &HttpRequest, principal: Uuid, body: &Bytes) -> Vec<u8> {
    let mut context = hmac::Context::with_key(key);
    for part in [
        principal.as_bytes().as_slice(),
        request.path().as_bytes(),
        request.query_string().as_bytes(),
        body,
    ] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    context.sign().as_ref().to_vec()
}

/// Writes down what a route that takes keys takes and answers.
pub(super) fn describe(operation: &mut Operation) {
    operation.needs::<KeyStore>();
    operation.parameter(parameter());
    for answer in [INVALID_KEY, IN_PROGRESS, NOT_KEPT, MISMATCH] {
        operation.problem(answer);
    }
    for status in [StatusCode::CREATED, StatusCode::ACCEPTED] {
        operation.answer_header(status, "Idempotent-Replayed", "`true` on a repeat.");
    }
}

fn parameter() -> Parameter {
    let schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(LONGEST_KEY))
        .pattern(Some("^[!-~]+$"));
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Makes repeats of this request safe: the same key and body get the same answer, for 24 hours.",
        ))
        .schema(Some(schema))
        .build()
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests;
