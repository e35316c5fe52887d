//! The contracts that every module's routes can rely on, over HTTP: limits, order of a list, client, drain.

use std::{future::pending, time::Duration};

use actix_web::{dev::Service, test::init_service, web::Json};
use dotmac_db::types::Moment;
use dotmac_supervision::NotReady;
use futures_util::{
    future::{LocalBoxFuture, ready},
    poll,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::*;
use crate::{
    access::{
        AuthError, AuthRequest, Authenticated, Authenticator, Identity, PermissionSet, Principal,
        PrincipalKind, Public,
    },
    module::{Assembly, Manifest, Module, Mount, MountError, Registered},
    routing::{ClientAddress, Drain, NoContent, RateLimit, Sort, SortColumn},
    settings::{Catalogue, NoSettings, Settings, Sources},
};

const HOUR: Duration = Duration::from_secs(3600);

struct Things;
struct Others;

#[derive(Clone, Copy, PartialEq)]
enum Column {
    Name,
}

impl SortColumn for Column {
    const COLUMNS: &'static [(&'static str, Self)] = &[("name", Self::Name)];
    const DEFAULT: Sort<Self> = Sort::ascending(Self::Name);
}

#[derive(Serialize, ToSchema)]
struct Seen {
    text: String,
}

fn seen(text: impl ToString) -> Json<Seen> {
    let text = text.to_string();
    Json(Seen { text })
}

async fn quick(_: Public) -> NoContent {
    NoContent
}

async fn known(_: Authenticated) -> NoContent {
    NoContent
}

async fn hang(_: Public) -> NoContent {
    pending().await
}

async fn take(_: Public, body: Bytes) -> Json<Seen> {
    seen(body.len())
}

async fn client(_: Public, ClientAddress(address): ClientAddress) -> Json<Seen> {
    seen(address)
}

async fn drained(_: Public, drain: Drain) -> Json<Seen> {
    let before = drain.is_begun();
    drain.begun().await;
    seen(format!("{before} {}", drain.is_begun()))
}

async fn sorted(_: Public, sort: Sort<Column>) -> Json<Seen> {
    seen(sort)
}

impl Module for Things {
    const NAME: &'static str = "things";
    type Settings = NoSettings;

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.authenticator(ByName)?;
        on.routes("/things", |routes| {
            routes.get("/quick", quick).id("quick");
            routes.get("/hang", hang);
            routes
                .get("/soon", hang)
                .id("soon")
                .time_limit(Duration::from_millis(50));
            routes.post("/small", take).id("small").body_limit(10);
            routes.post("/large", take).id("large").body_limit(100_000);
            routes.get("/client", client);
            routes.get("/drained", drained);
            routes.get("/sorted", sorted);
            routes
                .get("/limited", known)
                .rate_limit(RateLimit::per_principal(2, HOUR))
                .rate_limit(RateLimit::per_network(4, HOUR));
            let together = RateLimit::per_principal(2, HOUR)
                .named("api")
                .across_routes();
            routes.get("/one", known).id("one").rate_limit(together);
            routes.get("/two", known).id("two").rate_limit(together);
        });
        Ok(())
    }
}

impl Module for Others {
    const NAME: &'static str = "others";
    type Settings = NoSettings;

    fn manifest() -> Manifest {
        Manifest::new("Answers while another module hangs.")
    }

    fn mount(_: NoSettings, on: &mut Mount<'_>) -> Result<(), MountError> {
        on.routes("/others", |routes| _ = routes.get("", quick));
        Ok(())
    }
}

/// Trusts the header `x-user`, a number.
pub(super) struct ByName;

impl Authenticator for ByName {
    fn authenticate<'r>(
        &'r self,
        request: AuthRequest<'r>,
    ) -> LocalBoxFuture<'r, Result<Option<Principal>, AuthError>> {
        let name = request
            .headers
            .get("x-user")
            .and_then(|name| name.to_str().ok());
        let principal = name.and_then(|name| name.parse().ok()).map(|id| {
            request.principal(Identity {
                id: uuid::Uuid::from_u128(id),
                kind: PrincipalKind::User,
                tenant: dotmac_db::TenantId::from_uuid(uuid::Uuid::nil()),
                permissions: PermissionSet::all(),
                acr: 1,
                authenticated_at: Moment::now().into(),
                session: None,
            })
        });
        Box::pin(ready(Ok(principal)))
    }
}

/// Both modules on a server that serves so many requests at once.
fn modules(vitals: &Staged, requests: usize) -> Result<Parts, Failure> {
    let mut catalogue = Catalogue::platform();
    let modules = [
        Registered::add::<Things>(&mut catalogue, |_| false)?,
        Registered::add::<Others>(&mut catalogue, |_| false)?,
    ];
    let none: [(&str, &str); 0] = [];
    let settings = Settings::from_sources(&catalogue, &Sources::new(none))
        .map_err(|error| error.to_string())?;
    let assembly = Assembly::for_command(&settings, &modules, None)?;
    assembly.bound_requests(requests);
    Ok(Parts {
        routes: assembly.routes,
        ..parts(vitals)
    })
}

fn ready_modules() -> Result<Parts, Failure> {
    modules(&Staged::new(Readiness::Ready), 1000)
}

fn get(path: &str) -> TestRequest {
    TestRequest::get().uri(&format!("/api/v1{path}"))
}

#[actix_web::test]
async fn a_route_has_limits_of_its_own_on_body_and_time() -> Outcome {
    let parts = ready_modules()?;
    let post = |path: &str, bytes: usize| {
        let request = TestRequest::post().uri(&format!("/api/v1/things/{path}"));
        request.set_payload("x".repeat(bytes))
    };
    let ask = async |request| ask_of(config(), parts.clone(), request).await;
    assert_eq!(ask(post("small", 10)).await?.status(), 200);
    let refused = ask(post("small", 11)).await?;
    assert_eq!(
        (refused.status(), &*refused.code()),
        (413, "body_too_large")
    );
    // Above the general limit of 64 KiB as well.
    assert_eq!(ask(post("large", 100_000)).await?.json()["text"], "100000");
    assert_eq!(ask(post("large", 100_001)).await?.status(), 413);
    let late = ask(get("/things/soon")).await?;
    assert_eq!((late.status(), &*late.code()), (504, "timeout"));
    Ok(())
}

#[actix_web::test]
async fn a_caller_beyond_a_limit_is_refused_and_others_are_not() -> Outcome {
    let parts = ready_modules()?;
    let ask = async |user: &str, address: &str| {
        let request = get("/things/limited").insert_header(("x-user", user));
        let request = request.peer_addr(address.parse()?);
        ask_of(config(), parts.clone(), request).await
    };
    let first = ask("1", "192.0.2.1:1").await?;
    assert_eq!(first.status(), 204);
    assert_eq!(
        first.header("ratelimit-policy"),
        r#""network";q=4;w=3600, "principal";q=2;w=3600"#
    );
    assert_eq!(
        first.header("ratelimit"),
        r#""network";r=3;t=900, "principal";r=1;t=1800"#
    );
    assert_eq!(ask("1", "192.0.2.1:2").await?.status(), 204);
    let refused = ask("1", "192.0.2.1:3").await?;
    assert_eq!((refused.status(), &*refused.code()), (429, "rate_limited"));
    let wait: u64 = refused.header("retry-after").parse()?;
    assert!((1..=1800).contains(&wait), "{wait}");
    assert!(refused.header("ratelimit").contains(r#""principal";r=0"#));
    // Another principal is not refused, until the network has used its own quota: with the three above.
    assert_eq!(ask("2", "192.0.2.1:4").await?.status(), 204);
    assert_eq!(ask("3", "192.0.2.1:5").await?.status(), 429);
    assert_eq!(ask("3", "192.0.2.2:1").await?.status(), 204);
    // Of IPv6 the network of 64 bits is one client.
    for (host, expected) in [(1, 204), (2, 204), (3, 204), (4, 204), (5, 429)] {
        let user = format!("1{host}");
        let answer = ask(&user, &format!("[2001:db8:0:1::{host}]:1")).await?;
        assert_eq!(answer.status(), expected, "host {host}");
    }
    assert_eq!(ask("20", "[2001:db8:0:2::1]:1").await?.status(), 204);
    // The network's limit comes before credentials: guessing them is limited too.
    assert_eq!(ask("nobody", "[2001:db8:0:1::9]:1").await?.status(), 429);
    Ok(())
}

#[actix_web::test]
async fn a_limit_across_routes_counts_the_requests_to_all_of_them() -> Outcome {
    let parts = ready_modules()?;
    let ask = async |user: &str, path: &str| {
        let request = get(path).insert_header(("x-user", user));
        ask_of(config(), parts.clone(), request).await
    };
    let mut left = Vec::new();
    for (user, path) in [("1", "one"), ("1", "two"), ("1", "one"), ("2", "two")] {
        let answer = ask(user, &format!("/things/{path}")).await?;
        let (status, limit) = (answer.status(), answer.header("ratelimit"));
        left.push(format!(
            "{status} {}",
            limit.split(";t=").next().unwrap_or_default()
        ));
    }
    let expected = [
        r#"204 "api";r=1"#,
        r#"204 "api";r=0"#,
        r#"429 "api";r=0"#,
        r#"204 "api";r=1"#,
    ];
    assert_eq!(left, expected);
    // Others count for themselves.
    assert_eq!(ask("1", "/things/limited").await?.status(), 204);
    Ok(())
}

#[actix_web::test]
async fn a_module_that_hangs_is_refused_more_and_probes_and_others_are_served() -> Outcome {
    let vitals = Staged::new(Readiness::Ready);
    let app = init_service(Shared::new(config(), modules(&vitals, 4)?).app()).await;
    let call = |path: &str| app.call(TestRequest::get().uri(path).to_request());
    let mut hanging: Vec<_> = (0..2)
        .map(|_| Box::pin(call("/api/v1/things/hang")))
        .collect();
    for request in &mut hanging {
        assert!(poll!(request.as_mut()).is_pending());
    }
    let refused = call("/api/v1/things/quick")
        .await
        .map_err(|it| it.to_string())?;
    assert_eq!(refused.status(), 503);
    assert_eq!(
        refused.headers().get("retry-after").map(|it| it.as_bytes()),
        Some(&b"1"[..])
    );
    let body = actix_web::body::to_bytes(refused.into_body())
        .await
        .map_err(|it| it.to_string())?;
    let problem: Value = serde_json::from_slice(&body)?;
    assert_eq!(problem["code"], "module_overloaded");
    for (path, status) in [("/api/v1/others", 204), ("/ready", 200), ("/health", 200)] {
        let answer = call(path).await.map_err(|it| it.to_string())?;
        assert_eq!(answer.status(), status, "{path}");
    }
    // A client that goes away gives its place back.
    hanging.pop();
    let answer = call("/api/v1/things/quick")
        .await
        .map_err(|it| it.to_string())?;
    assert_eq!(answer.status(), 204);
    Ok(())
}

#[actix_web::test]
async fn only_trusted_proxies_name_the_client() -> Outcome {
    let parts = ready_modules()?;
    let ask = async |peer: &str| {
        let request = get("/things/client").peer_addr(peer.parse()?);
        let request = request.insert_header(("x-forwarded-for", "6.6.6.6, 198.51.100.7"));
        let config = Config {
            trusted_proxies: vec!["10.0.0.0/8".parse()?],
            ..config()
        };
        let answer = ask_of(config, parts.clone(), request).await?;
        Ok::<_, Failure>(
            answer.json()["text"]
                .as_str()
                .unwrap_or_default()
                .to_owned(),
        )
    };
    assert_eq!(ask("10.0.0.1:1").await?, "198.51.100.7");
    assert_eq!(ask("192.0.2.9:1").await?, "192.0.2.9");
    Ok(())
}

#[actix_web::test]
async fn a_handler_that_waits_for_the_drain_goes_on_when_it_begins() -> Outcome {
    let vitals = Staged::new(Readiness::Ready);
    let app = init_service(Shared::new(config(), modules(&vitals, 1000)?).app()).await;
    let mut waiting = Box::pin(app.call(get("/things/drained").to_request()));
    assert!(poll!(waiting.as_mut()).is_pending());
    vitals.turn(Readiness::NotReady(NotReady::ComponentDown));
    assert!(poll!(waiting.as_mut()).is_pending());
    vitals.turn(Readiness::NotReady(NotReady::Draining));
    let answer = waiting.await.map_err(|error| error.to_string())?;
    let body = actix_web::body::to_bytes(answer.into_body())
        .await
        .map_err(|it| it.to_string())?;
    assert_eq!(&body[..], br#"{"text":"false true"}"#);
    Ok(())
}

#[actix_web::test]
async fn a_list_is_sorted_by_the_columns_that_it_names() -> Outcome {
    let parts = ready_modules()?;
    let ask = async |query: &str| {
        let path = format!("/things/sorted{query}");
        ask_of(config(), parts.clone(), get(&path)).await
    };
    assert_eq!(ask("").await?.json()["text"], "name");
    assert_eq!(ask("?sort=-name").await?.json()["text"], "-name");
    let refused = ask("?sort=-password").await?;
    assert_eq!((refused.status(), &*refused.code()), (400, "invalid_query"));
    let error = &refused.json()["errors"][0];
    assert_eq!(
        (&error["field"], &error["message"]),
        (&"sort".into(), &"is one of name, -name".into())
    );
    Ok(())
}

#[actix_web::test]
async fn the_contracts_of_a_route_are_in_its_documentation() -> Outcome {
    let document = ask_of(
        config(),
        ready_modules()?,
        TestRequest::get().uri("/openapi.json"),
    )
    .await?;
    let document = document.json();
    let limited = &document["paths"]["/api/v1/things/limited"]["get"]["responses"];
    assert!(
        limited["204"]["headers"]["RateLimit"].is_object(),
        "{limited}"
    );
    assert!(
        limited["429"].to_string().contains("rate_limited"),
        "{limited}"
    );
    assert!(
        limited["503"].to_string().contains("module_overloaded"),
        "{limited}"
    );
    let sorted = &document["paths"]["/api/v1/things/sorted"]["get"]["parameters"][0];
    assert_eq!(sorted["name"], "sort");
    assert_eq!(
        sorted["schema"]["enum"],
        serde_json::json!(["name", "-name"])
    );
    Ok(())
}
