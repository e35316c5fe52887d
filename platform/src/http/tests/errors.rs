//! Every error is a problem, says where the mistake is, and leaks nothing.

use super::*;

fn json_body(body: &'static str) -> TestRequest {
    TestRequest::post()
        .uri("/try/person")
        .insert_header(("content-type", "application/json"))
        .set_payload(body)
}

#[actix_web::test]
async fn an_unknown_path_is_a_problem() -> Outcome {
    for path in [
        "/nowhere",
        "/try",
        "/try/nowhere",
        "/health/",
        "/try/number/1/2",
    ] {
        let answer = get_path(path).await?;
        assert_eq!(
            (answer.status(), answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_wrong_method_gets_the_supported_ones() -> Outcome {
    for (path, allow) in [
        ("/try/number/7", "GET, HEAD, OPTIONS"),
        ("/ready", "GET, HEAD, OPTIONS"),
        ("/", "GET, HEAD, OPTIONS"),
        ("/try/person", "POST, OPTIONS"),
    ] {
        let answer = ask(TestRequest::delete().uri(path)).await?;
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (405, allow),
            "{path}"
        );
        assert_eq!(answer.code(), "method_not_allowed");
        let answer = ask(TestRequest::default()
            .method(actix_web::http::Method::OPTIONS)
            .uri(path))
        .await?;
        assert_eq!(
            (answer.status(), answer.header("allow")),
            (204, allow),
            "{path}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn malformed_json_is_placed_by_line_and_column() -> Outcome {
    let answer = ask(json_body("{\n  \"name\": nobody }")).await?;
    assert_eq!(
        (answer.status(), answer.code().as_str()),
        (400, "malformed_json")
    );
    let error = &answer.json()["errors"][0];
    assert_eq!(
        (&error["line"], &error["field"]),
        (&Value::from(2), &Value::from("body")),
        "{error}"
    );
    assert!(error["column"].is_number(), "{error}");
    Ok(())
}

#[actix_web::test]
async fn a_missing_field_is_named() -> Outcome {
    let answer = ask(json_body(r#"{"name": "Ada"}"#)).await?;
    assert_eq!(
        (answer.status(), answer.code().as_str()),
        (400, "invalid_body")
    );
    assert_eq!(answer.json()["errors"][0]["field"], "age");
    Ok(())
}

#[actix_web::test]
async fn another_kind_of_body_is_415() -> Outcome {
    let request = TestRequest::post()
        .uri("/try/person")
        .insert_header(("content-type", "text/xml"))
        .set_payload("<a/>");
    let answer = ask(request).await?;
    assert_eq!(
        (answer.status(), answer.code().as_str()),
        (415, "unsupported_media_type")
    );
    Ok(())
}

#[actix_web::test]
async fn an_encoded_body_is_415_in_every_extractor() -> Outcome {
    for path in ["person", "form", "text", "raw", "nowhere"] {
        for encoding in [
            "br",
            "gzip",
            "deflate",
            "zstd",
            "x-unknown",
            "identity, zstd",
        ] {
            let request = TestRequest::post()
                .uri(&format!("/try/{path}"))
                .insert_header(("content-type", "application/json"))
                .insert_header(("content-encoding", encoding))
                .set_payload("{}");
            let answer = ask(request).await?;
            assert_eq!(
                (answer.status(), answer.code().as_str()),
                (415, "unsupported_content_encoding"),
                "{path} {encoding}"
            );
            assert_eq!(answer.header("accept-encoding"), "identity");
        }
    }
    let plain = TestRequest::post()
        .uri("/try/raw")
        .insert_header(("content-encoding", "identity"))
        .set_payload("hello");
    assert_eq!(ask(plain).await?.text(), "5");
    Ok(())
}

#[actix_web::test]
async fn a_host_that_is_none_is_400_everywhere() -> Outcome {
    for path in ["/health", "/metrics", "/", "/try/number/7", "/nowhere"] {
        for host in ["a b\"<>", "user@example.org", "", "example.org:port"] {
            let request = TestRequest::get().uri(path).insert_header(("host", host));
            let answer = ask(request).await?;
            assert_eq!(
                (answer.status(), answer.code().as_str()),
                (400, "malformed_host"),
                "{path} {host}"
            );
        }
    }
    Ok(())
}

#[actix_web::test]
async fn a_body_over_the_limit_is_413_in_every_extractor() -> Outcome {
    for path in ["/try/person", "/try/raw"] {
        let request = TestRequest::post()
            .uri(path)
            .insert_header(("content-type", "application/json"))
            .set_payload("x".repeat(64 * 1024 + 1));
        let answer = ask(request).await?;
        assert_eq!(
            (answer.status(), answer.code().as_str()),
            (413, "body_too_large"),
            "{path}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_body_announced_too_large_is_refused_before_it_is_read() -> Outcome {
    let request = TestRequest::post()
        .uri("/try/raw")
        .insert_header(("content-length", "99999999999999"));
    assert_eq!(ask(request).await?.code(), "body_too_large");
    Ok(())
}

#[actix_web::test]
async fn path_and_query_mistakes_are_placed() -> Outcome {
    let path = get_path("/try/number/seven").await?;
    assert_eq!((path.status(), path.code().as_str()), (400, "invalid_path"));
    let query = get_path("/try/page").await?;
    assert_eq!(
        (query.status(), query.code().as_str()),
        (400, "invalid_query")
    );
    assert_eq!(query.json()["errors"][0]["field"], "size");
    Ok(())
}

#[actix_web::test]
async fn a_handlers_problem_arrives_whole() -> Outcome {
    let answer = get_path("/try/fails/problem").await?;
    assert_eq!(
        (answer.status(), answer.code().as_str()),
        (409, "name_taken")
    );
    assert_eq!(answer.json()["detail"], "it is taken");
    assert_eq!(
        answer.json()["errors"],
        serde_json::json!([{"field": "name", "code": "invalid", "message": "is taken"}])
    );
    Ok(())
}

#[actix_web::test]
async fn bare_errors_of_handlers_become_problems_and_keep_their_headers() -> Outcome {
    let empty = get_path("/try/fails/empty").await?;
    assert_eq!(
        (
            empty.status(),
            empty.code().as_str(),
            empty.header("x-kept")
        ),
        (409, "conflict", "yes")
    );
    let text = get_path("/try/fails/text").await?;
    assert_eq!(
        (text.code().as_str(), &text.json()["detail"]),
        ("bad_request", &Value::from("the moon is not full"))
    );
    Ok(())
}

#[actix_web::test]
async fn a_handlers_own_json_is_left_alone() -> Outcome {
    let answer = get_path("/try/fails/json").await?;
    assert_eq!((answer.status(), answer.text()), (400, r#"{"mine":true}"#));
    Ok(())
}

#[actix_web::test]
async fn what_went_wrong_inside_stays_inside() -> Outcome {
    for how in ["secret", "internal", "panic"] {
        let answer = get_path(&format!("/try/fails/{how}")).await?;
        assert_eq!(
            (answer.status(), answer.code().as_str()),
            (500, "internal"),
            "{how}"
        );
        for word in ["hunter2", " db7", "on purpose"] {
            assert!(!answer.text().contains(word), "{how}: {}", answer.text());
        }
    }
    Ok(())
}

#[actix_web::test]
async fn a_handler_that_takes_too_long_is_answered_for() -> Outcome {
    let parts = mounted(&Staged::new(Readiness::Ready));
    let request = TestRequest::get().uri("/try/fails/slow");
    let answer = ask_of(impatient(), parts, request).await?;
    assert_eq!((answer.status(), answer.code().as_str()), (504, "timeout"));
    Ok(())
}
