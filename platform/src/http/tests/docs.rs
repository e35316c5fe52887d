//! The OpenAPI document and the pages that show it.

use super::*;

#[actix_web::test]
async fn the_document_is_complete() -> Outcome {
    let document = get_path("/openapi.json").await?.json();
    assert!(
        document["openapi"]
            .as_str()
            .is_some_and(|version| version.starts_with("3.1")),
        "{}",
        document["openapi"]
    );
    assert_eq!(
        (&document["info"]["title"], &document["info"]["version"]),
        (&Value::from("dotmac-platform"), &Value::from("1.2.3"))
    );
    for path in [
        "/",
        "/health",
        "/health/live",
        "/livez",
        "/ready",
        "/health/ready",
        "/readyz",
        "/health/startup",
        "/startupz",
        "/metrics",
        "/openapi.json",
        "/docs",
        "/redoc",
        "/try/person",
        "/try/number/{n}",
        "/try/fails/{how}",
    ] {
        assert!(document["paths"].get(path).is_some(), "{path} is missing");
    }
    let responses = &document["paths"]["/try/person"]["post"]["responses"];
    assert_eq!(
        responses["default"]["$ref"],
        "#/components/responses/Problem"
    );
    for schema in [
        "Problem",
        "FieldError",
        "Person",
        "Ready",
        "Health",
        "ComponentState",
    ] {
        assert!(
            document["components"]["schemas"].get(schema).is_some(),
            "{schema} is missing"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn every_reference_in_the_document_leads_somewhere() -> Outcome {
    let document = get_path("/openapi.json").await?.json();
    let mut pending = vec![&document];
    while let Some(value) = pending.pop() {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    let pointer = reference.trim_start_matches('#');
                    assert!(
                        document.pointer(pointer).is_some(),
                        "{reference} leads nowhere"
                    );
                }
                pending.extend(map.values());
            }
            Value::Array(list) => pending.extend(list),
            _ => {}
        }
    }
    Ok(())
}

#[actix_web::test]
async fn operation_ids_are_unique() -> Outcome {
    let document = get_path("/openapi.json").await?.json();
    let mut seen = std::collections::HashSet::new();
    for item in document["paths"]
        .as_object()
        .into_iter()
        .flat_map(|paths| paths.values())
    {
        for operation in item.as_object().into_iter().flat_map(|item| item.values()) {
            let id = operation["operationId"].as_str().unwrap_or_default();
            assert!(seen.insert(id.to_owned()), "`{id}` is there twice");
        }
    }
    Ok(())
}

#[actix_web::test]
async fn the_pages_work_with_and_without_slash_and_load_only_from_here() -> Outcome {
    for path in ["/docs", "/docs/", "/redoc", "/redoc/"] {
        let page = get_path(path).await?;
        assert_eq!(
            (page.status(), page.header("content-type")),
            (200, "text/html; charset=utf-8"),
            "{path}"
        );
        assert!(
            page.header("content-security-policy")
                .contains("script-src 'self'"),
            "{path}"
        );
        let linked: Vec<&str> = page
            .text()
            .split(['"', '\''])
            .filter(|part| part.starts_with('/') || part.contains("://") || part.starts_with("//"))
            .collect();
        assert!(linked.len() >= 2, "{path} loads nothing: {linked:?}");
        for asset in linked {
            assert!(
                asset.starts_with('/') && !asset.starts_with("//"),
                "{path} loads {asset}"
            );
            assert_eq!(
                get_path(asset).await?.status(),
                200,
                "{path} links to {asset}"
            );
        }
    }
    Ok(())
}

#[actix_web::test]
async fn swagger_ui_shows_our_document_and_asks_no_validator() -> Outcome {
    let script = get_path("/docs/swagger-initializer.js").await?;
    assert!(
        script.text().contains(r#""/openapi.json""#),
        "{}",
        script.text()
    );
    assert!(
        script.text().contains(r#""validatorUrl": "none""#),
        "{}",
        script.text()
    );
    assert!(!script.text().contains("https://"), "{}", script.text());
    Ok(())
}

#[actix_web::test]
async fn a_swagger_file_that_does_not_exist_is_404() -> Outcome {
    for path in [
        "/docs/nothing.js",
        "/docs/index.html",
        "/docs/..%2f..%2fetc%2fpasswd",
    ] {
        assert_eq!(get_path(path).await?.status(), 404, "{path}");
    }
    Ok(())
}

#[actix_web::test]
async fn without_documentation_its_paths_do_not_exist() -> Outcome {
    let mut config = config();
    config.docs_enabled = false;
    for path in [
        "/openapi.json",
        "/docs",
        "/docs/",
        "/docs/swagger-ui.css",
        "/redoc",
        "/redoc/redoc.js",
    ] {
        let parts = mounted(&Staged::new(Readiness::Ready));
        assert_eq!(
            ask_of(config.clone(), parts, TestRequest::get().uri(path))
                .await?
                .status(),
            404,
            "{path}"
        );
    }
    Ok(())
}
