//! Routes of a program, one for each thing that can go wrong.

use std::{
    sync::{
        Barrier,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use actix_web::{
    App, Error, HttpMessage, HttpRequest, HttpResponse, get,
    http::Method,
    post,
    web::{Bytes, Data, Form, Json, Path, Payload, Query},
};
use futures_util::{StreamExt, stream};
use serde::{Deserialize, Serialize};
use utoipa::{ToSchema, openapi::OpenApi};
use utoipa_actix_web::{AppExt as _, scope, service_config::ServiceConfig};

use crate::http::{Problem, RequestId, RouteLimits, RouteSet, User};

#[derive(Serialize, Deserialize, ToSchema)]
struct Person {
    name: String,
    age: u8,
}

#[derive(Deserialize)]
struct Page {
    size: u32,
}

#[utoipa::path(responses((status = 200, body = Person)))]
#[post("/person")]
async fn person(person: Json<Person>) -> Json<Person> {
    person
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/number/{n}")]
async fn number(n: Path<u32>) -> String {
    n.to_string()
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/page")]
async fn page(page: Query<Page>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/plain; charset=utf-8")
        .insert_header(("etag", "\"7\""))
        .body("x".repeat(page.size as usize))
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/id")]
async fn id(id: RequestId) -> String {
    id.to_string()
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/fails/{how}")]
async fn fails(how: Path<String>) -> Result<HttpResponse, Error> {
    match how.as_str() {
        "panic" => panic_now(),
        "slow" => {
            tokio::time::sleep(Duration::from_secs(20)).await;
            Ok(HttpResponse::Ok().finish())
        }
        "empty" => Ok(HttpResponse::Conflict()
            .insert_header(("x-kept", "yes"))
            .finish()),
        "text" => Ok(HttpResponse::BadRequest().body("the moon is not full")),
        "json" => Ok(HttpResponse::BadRequest().json(serde_json::json!({"mine": true}))),
        "secret" => Err(actix_web::error::ErrorInternalServerError(
            "postgres://user:hunter2@db",
        )),
        "problem" => Err(Problem::conflict("it is taken")
            .code("name_taken")
            .field_error("name", "is taken")
            .into()),
        _ => Err(Problem::internal("disk of db7 is full").into()),
    }
}

#[expect(clippy::panic, reason = "what is tested is that a panic is answered")]
fn panic_now() -> ! {
    panic!("on purpose")
}

/// Reads the raw body, past all extractors' limits.
#[utoipa::path(responses((status = 200, body = String)))]
#[post("/raw")]
async fn raw(mut body: Payload) -> Result<String, Error> {
    let mut bytes = 0;
    while let Some(chunk) = body.next().await {
        bytes += chunk?.len();
    }
    Ok(bytes.to_string())
}

#[utoipa::path(responses((status = 200, body = Person)))]
#[post("/form")]
async fn form(sent: Form<Person>) -> Json<Person> {
    Json(sent.into_inner())
}

#[utoipa::path(responses((status = 200, body = String)))]
#[post("/text")]
async fn text(sent: String) -> String {
    sent
}

/// A body of unknown length.
#[utoipa::path(responses((status = 200, body = String)))]
#[get("/lines")]
async fn lines(wanted: Query<Page>) -> HttpResponse {
    let body = stream::repeat(Bytes::from_static(b"line\n")).take(wanted.size as usize);
    HttpResponse::Ok()
        .content_type("text/plain")
        .streaming(body.map(Ok::<_, Error>))
}

#[utoipa::path(responses((status = 200, body = String)))]
#[get("/word")]
async fn word(word: Data<String>) -> String {
    word.as_str().to_owned()
}

static BLOCKED: Barrier = Barrier::new(2);
static HELD: AtomicUsize = AtomicUsize::new(0);

/// Waits until [`block`] blocks its worker.
pub(super) fn until_blocked() {
    BLOCKED.wait();
}

/// How many calls of [`held`] are under way.
pub(super) fn held_now() -> usize {
    HELD.load(SeqCst)
}

/// Blocks the worker for a second.
#[utoipa::path(responses((status = 200, body = String)))]
#[get("/block")]
async fn block() -> &'static str {
    BLOCKED.wait();
    #[expect(clippy::disallowed_methods, reason = "a handler as it should not be")]
    std::thread::sleep(Duration::from_secs(1));
    "blocked"
}

/// Answers in an hour, if it is not given up before.
#[utoipa::path(responses((status = 200, body = String)))]
#[get("/held")]
async fn held() -> &'static str {
    struct Held;
    impl Drop for Held {
        fn drop(&mut self) {
            HELD.fetch_sub(1, SeqCst);
        }
    }
    HELD.fetch_add(1, SeqCst);
    let _held = Held;
    tokio::time::sleep(Duration::from_secs(3600)).await;
    "held"
}

/// Says who asks, as a middleware that authenticates would.
#[utoipa::path(responses((status = 200, body = String)))]
#[get("/known")]
async fn known(request: HttpRequest) -> &'static str {
    request.extensions_mut().insert(User::new("ada"));
    "ada"
}

/// All of them, below `/try`.
pub(super) struct Sample;

impl RouteSet for Sample {
    fn mount(&self, app: &mut ServiceConfig<'_>) {
        app.service(scope::scope("/try").configure(routes));
    }

    fn paths(&self) -> Vec<(String, Method)> {
        let app = App::new().into_utoipa_app();
        let app = app.configure(|app| self.mount(app));
        let paths = app.split_for_parts().1.paths.paths.into_iter();
        let with_methods = paths.flat_map(|(path, item)| {
            let methods = [(item.get, Method::GET), (item.post, Method::POST)];
            methods.map(|(operation, method)| operation.map(|_| (path.clone(), method)))
        });
        with_methods.flatten().collect()
    }

    fn describe(&self, _: &mut OpenApi) {}

    fn limits(&self) -> Vec<(String, Method, RouteLimits)> {
        Vec::new()
    }
}

fn routes(app: &mut ServiceConfig<'_>) {
    app.service(person)
        .service(number)
        .service(page)
        .service(id)
        .service(fails)
        .service(raw)
        .service(form)
        .service(text)
        .service(lines)
        .service(word)
        .service(block)
        .service(held)
        .service(known);
}
