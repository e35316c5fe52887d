//! Routes of two modules in one program: whose values handlers get, what is in a query, whose types are documented.

use std::convert::Infallible;

use actix_web::web::Json;
use dotmac_supervision::Schedule;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::*;
use crate::{
    access::{Can, Public},
    http::{Problem, openapi},
    module::{
        Manifest, Module,
        tests::{assembled, module},
    },
    permissions,
    routing::{NoContent, Page, Paging, Query, Use},
};

permissions! {
    /// Look.
    Look = "alpha.things.look";
}

module!(Empty, "empty", Manifest::new("Nothing."), |_| Ok(()));

/// The routes of two modules.
fn parts_of<M: Module, N: Module>() -> Result<Parts, Failure> {
    let assembly = assembled::<M, N>(&[])?;
    Ok(Parts {
        routes: assembly.routes,
        ..parts(&Staged::new(Readiness::Ready))
    })
}

async fn number(_: Public, number: Use<u64>) -> Json<u64> {
    Json(*number)
}

#[actix_web::test]
async fn a_handler_gets_the_value_of_its_module_also_on_a_path_of_two() -> Outcome {
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        on.provide(1_u64);
        on.routes("/numbers", |routes| _ = routes.get("", number));
        Ok(())
    });
    module!(Beta, "beta", Manifest::new("B."), |on| {
        on.provide(2_u64);
        on.routes("/numbers", |routes| {
            routes.post("", number);
            routes.get("/{id}", number).id("beta_number_of");
        });
        Ok(())
    });
    let parts = parts_of::<Alpha, Beta>()?;
    for (request, status, body) in [
        (TestRequest::get().uri("/api/v1/numbers"), 200, "1"),
        (TestRequest::post().uri("/api/v1/numbers"), 200, "2"),
        (TestRequest::get().uri("/api/v1/numbers/7"), 200, "2"),
    ] {
        let answer = ask_of(config(), parts.clone(), request).await?;
        assert_eq!((answer.status(), &*answer.body), (status, body.as_bytes()));
    }
    let none = TestRequest::delete().uri("/api/v1/numbers");
    let none = ask_of(config(), parts, none).await?;
    assert_eq!(
        (none.status(), none.header("allow")),
        (405, "GET, HEAD, POST, OPTIONS")
    );
    Ok(())
}

#[actix_web::test]
async fn closures_are_handlers_too() -> Outcome {
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        let greeting = "good day".to_owned();
        on.provide(7_u64);
        on.routes("/closures", |routes| {
            routes.get("", async |_: Public, number: Use<u64>| Json(*number));
            routes.get("/greeting", move |_: Public| {
                let greeting = greeting.clone();
                async move { greeting }
            });
        });
        let every = Schedule::Every(Duration::from_secs(3600));
        on.worker("idle", every, async |_| Ok::<_, Infallible>(()))
            .add()?;
        Ok(())
    });
    let parts = parts_of::<Alpha, Empty>()?;
    for (path, body) in [("", "7"), ("/greeting", "good day")] {
        let request = TestRequest::get().uri(&format!("/api/v1/closures{path}"));
        let answer = ask_of(config(), parts.clone(), request).await?;
        assert_eq!((answer.status(), &*answer.body), (200, body.as_bytes()));
    }
    let document = serde_json::to_value(openapi(&config(), &parts.routes))?;
    let id = &document["paths"]["/api/v1/closures/greeting"]["get"]["operationId"];
    assert_eq!(*id, "alpha_get_greeting");
    Ok(())
}

#[derive(Deserialize, IntoParams)]
struct Filter {
    /// Only those that are open.
    is_open: Option<bool>,
}

async fn filtered(_: Public, filter: Query<Filter>, _: Paging) -> Page<bool> {
    Page {
        items: vec![filter.is_open.unwrap_or_default()],
        next_cursor: None,
        total: None,
    }
}

async fn raw(_: Public, request: actix_web::HttpRequest) -> String {
    request.query_string().to_owned()
}

#[actix_web::test]
async fn a_mistake_in_a_query_or_path_is_named_by_its_parameter() -> Outcome {
    async fn of_number(_: Public, _: actix_web::web::Path<u64>) -> NoContent {
        NoContent
    }
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| {
            routes.get("", filtered);
            routes.get("/raw", raw);
            routes.get("/{number}", of_number);
        });
        Ok(())
    });
    let parts = parts_of::<Alpha, Empty>()?;
    let ask = async |path: &str| {
        let request = TestRequest::get().uri(&format!("/api/v1/things{path}"));
        ask_of(config(), parts.clone(), request).await
    };
    assert_eq!(ask("?is_open=true&limit=3").await?.status(), 200);
    for (query, field, code) in [
        ("?limit=abc", "limit", "invalid"),
        ("?limit=0", "limit", "invalid"),
        ("?is_open=perhaps", "is_open", "invalid"),
        ("?limt=3", "limt", "unknown_parameter"),
        ("?is_open=true&is_open=false", "is_open", "duplicate_field"),
    ] {
        let refused = ask(query).await?;
        assert_eq!((refused.status(), &*refused.code()), (400, "invalid_query"));
        let errors = &refused.json()["errors"];
        assert_eq!(
            (&errors[0]["field"], &errors[0]["code"]),
            (&json!(field), &json!(code))
        );
    }
    let refused = ask("?limt=3").await?.json();
    let said = refused["errors"][0]["message"].as_str().unwrap_or_default();
    assert!(
        said.contains("this route has is_open, limit, cursor"),
        "{said}"
    );
    // A handler of the request itself judges its query.
    assert_eq!(&*ask("/raw?any=thing").await?.body, b"any=thing");
    let refused = ask("/seven").await?;
    assert_eq!((refused.status(), &*refused.code()), (400, "invalid_path"));
    assert_eq!(refused.json()["errors"][0]["field"], "number");
    Ok(())
}

/// Two modules with types of the same names.
mod alpha {
    use super::*;

    #[derive(Serialize, ToSchema)]
    pub(super) struct Item {
        pub(super) number: u64,
    }

    #[derive(Serialize, ToSchema)]
    pub(super) struct Basket {
        pub(super) items: Vec<Item>,
    }

    #[derive(Serialize, ToSchema)]
    pub(super) struct Same {
        pub(super) text: String,
    }
}

mod beta {
    use super::*;

    #[derive(Serialize, ToSchema)]
    pub(super) struct Item {
        pub(super) text: String,
    }

    #[derive(Serialize, ToSchema)]
    pub(super) struct Basket {
        pub(super) items: Vec<Item>,
    }
}

async fn alpha_basket(_: Can<Look>) -> Result<Json<alpha::Basket>, Problem> {
    let items = vec![alpha::Item { number: 1 }];
    Ok(Json(alpha::Basket { items }))
}

async fn beta_basket(_: Public) -> Json<beta::Basket> {
    let text = String::new();
    Json(beta::Basket {
        items: vec![beta::Item { text }],
    })
}

async fn same(_: Public) -> Json<alpha::Same> {
    let text = String::new();
    Json(alpha::Same { text })
}

/// The schema of the answer of `GET path`.
fn answer_of(document: &Value, path: &str) -> Value {
    let operation = &document["paths"][path]["get"];
    operation["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].clone()
}

#[test]
fn types_of_one_name_in_two_modules_have_the_module_in_front() -> Outcome {
    module!(
        Alpha,
        "alpha",
        Manifest::new("A.").permissions(PERMISSIONS),
        |on| {
            on.routes("/alpha", |routes| {
                routes.get("", alpha_basket);
                routes.get("/same", same);
            });
            Ok(())
        }
    );
    module!(Beta, "beta", Manifest::new("B."), |on| {
        on.routes("/beta", |routes| {
            routes.get("", beta_basket);
            routes.get("/same", same).id("beta_same");
        });
        Ok(())
    });
    let document = |parts: Parts| serde_json::to_value(openapi(&config(), &parts.routes));
    let both = document(parts_of::<Alpha, Beta>()?)?;
    for (module, field) in [("alpha", "number"), ("beta", "text")] {
        let basket = format!("#/components/schemas/{module}.Basket");
        assert_eq!(answer_of(&both, &format!("/api/v1/{module}")), basket);
        let schemas = &both["components"]["schemas"];
        let items = &schemas[format!("{module}.Basket")]["properties"]["items"]["items"]["$ref"];
        assert_eq!(*items, format!("#/components/schemas/{module}.Item"));
        let item = &schemas[format!("{module}.Item")]["properties"];
        assert!(item[field].is_object(), "{item}");
        for bare in ["Item", "Basket"] {
            assert!(schemas[bare].is_null(), "{bare} means two things");
        }
        // Types with the same meaning for both, and the platform's own, keep their names.
        assert!(schemas["Same"].is_object() && schemas["Problem"].is_object());
        let same = format!("/api/v1/{module}/same");
        assert_eq!(answer_of(&both, &same), "#/components/schemas/Same");
    }
    let guarded = &both["paths"]["/api/v1/alpha"]["get"];
    assert_eq!(guarded["x-permission"], "alpha.things.look");
    assert_eq!(guarded["security"], json!([{ "credentials": [] }]));
    let problem = &guarded["responses"]["403"]["content"]["application/problem+json"];
    assert_eq!(problem["schema"]["$ref"], "#/components/schemas/Problem");
    assert_eq!(problem["example"]["code"], "forbidden");
    assert_eq!(both, document(parts_of::<Alpha, Beta>()?)?);

    let one = document(parts_of::<Alpha, Empty>()?)?;
    assert_eq!(
        answer_of(&one, "/api/v1/alpha"),
        "#/components/schemas/Basket"
    );
    Ok(())
}

#[test]
fn two_types_of_one_name_in_one_module_are_refused() {
    async fn item(_: Public) -> Json<alpha::Item> {
        Json(alpha::Item { number: 1 })
    }
    module!(Alpha, "alpha", Manifest::new("A."), |on| {
        on.routes("/things", |routes| {
            routes.get("/one", item);
            routes.get("/other", beta_basket);
        });
        Ok(())
    });
    let why = assembled::<Alpha, Empty>(&[]).err().unwrap_or_default();
    assert!(
        why.contains("module `alpha`: two types") && why.contains("`Item`"),
        "{why}"
    );
}
