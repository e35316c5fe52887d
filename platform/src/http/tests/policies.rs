//! Request ids, CORS, compression, security headers, trusted hosts.

use std::io::Read;

use actix_web::http::Method;

use super::*;

#[actix_web::test]
async fn a_request_id_is_kept_made_or_replaced() -> Outcome {
    let kept = ask(TestRequest::get()
        .uri("/try/id")
        .insert_header(("x-request-id", "abc.1_2-3")))
    .await?;
    assert_eq!(
        (kept.header("x-request-id"), kept.text()),
        ("abc.1_2-3", "abc.1_2-3")
    );
    for forged in ["a b", "a\"},{\"x\":\"", "%0a", &"a".repeat(129), ""] {
        for path in ["/try/id", "/health", "/nowhere"] {
            let answer = ask(TestRequest::get()
                .uri(path)
                .insert_header(("x-request-id", forged)))
            .await?;
            assert_eq!(answer.header("x-request-id").len(), 36, "{forged} {path}");
        }
    }
    Ok(())
}

fn from(origin: &str, path: &str) -> TestRequest {
    TestRequest::get()
        .uri(path)
        .insert_header(("origin", origin))
        .insert_header(("host", "api.example.org"))
}

#[actix_web::test]
async fn an_allowed_origin_is_let_in() -> Outcome {
    let answer = ask(from("https://app.example.org", "/try/number/1")).await?;
    assert_eq!((answer.status(), answer.text()), (200, "1"));
    assert_eq!(
        answer.header("access-control-allow-origin"),
        "https://app.example.org"
    );
    let exposed = answer.header("access-control-expose-headers");
    for header in ["x-request-id", "etag", "location", "retry-after"] {
        assert!(exposed.split(", ").any(|it| it == header), "{exposed}");
    }
    Ok(())
}

#[actix_web::test]
async fn a_refused_origin_never_reaches_the_handler() -> Outcome {
    // The handler would panic, which would be a 500.
    for path in ["/try/fails/panic", "/health"] {
        let answer = ask(from("https://evil.example", path)).await?;
        assert_eq!(
            (answer.status(), answer.code().as_str()),
            (403, "origin_not_allowed"),
            "{path}"
        );
        assert_eq!(answer.header("access-control-allow-origin"), "");
    }
    Ok(())
}

#[actix_web::test]
async fn a_page_of_the_same_host_may_call() -> Outcome {
    let answer = ask(from("https://api.example.org", "/try/number/1")).await?;
    assert_eq!(
        (
            answer.status(),
            answer.header("access-control-allow-origin")
        ),
        (200, "")
    );
    Ok(())
}

#[actix_web::test]
async fn a_preflight_is_answered_by_the_policy() -> Outcome {
    let preflight = |origin: &str, method: &str| {
        from(origin, "/try/person")
            .method(Method::OPTIONS)
            .insert_header(("access-control-request-method", method))
            .insert_header(("access-control-request-headers", "content-type"))
    };
    let allowed = ask(preflight("https://app.example.org", "POST")).await?;
    assert_eq!(
        (allowed.status(), allowed.header("access-control-max-age")),
        (200, "60")
    );
    let refused = ask(preflight("https://app.example.org", "DELETE")).await?;
    assert_eq!(
        (refused.status(), refused.code().as_str()),
        (403, "cors_not_allowed")
    );
    let strange = ask(preflight("https://evil.example", "POST")).await?;
    assert_eq!(
        (strange.status(), strange.code().as_str()),
        (403, "origin_not_allowed")
    );
    Ok(())
}

#[actix_web::test]
async fn compression_begins_at_a_thousand_bytes() -> Outcome {
    let page = |size: u32, accept: &str| {
        TestRequest::get()
            .uri(&format!("/try/page?size={size}"))
            .insert_header(("accept-encoding", accept))
    };
    for (accept, encoding) in [
        ("gzip, deflate, br, zstd", "zstd"),
        ("gzip, deflate, br", "gzip"),
        ("zstd;q=0.5, gzip", "gzip"),
        ("gzip", "gzip"),
        ("zstd", "zstd"),
        ("br", ""),
        ("identity", ""),
        ("nonsense", ""),
        ("identity;q=0, *;q=0", ""),
    ] {
        let large = ask(page(1000, accept)).await?;
        assert_eq!(
            (large.status(), large.header("content-encoding")),
            (200, encoding),
            "{accept}"
        );
        assert_eq!(large.body.len() < 1000, !encoding.is_empty());
        let vary: Vec<_> = large.response.headers().get_all("vary").collect();
        assert!(
            vary.iter().any(|value| *value == "accept-encoding"),
            "{vary:?}"
        );
        let small = ask(page(999, accept)).await?;
        assert_eq!(
            (small.header("content-encoding"), small.body.len()),
            ("", 999),
            "{accept}"
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_compressed_body_has_no_strong_etag() -> Outcome {
    for (size, accept, tag) in [
        (3000, "zstd", "W/\"7\""),
        (3000, "gzip", "W/\"7\""),
        (3_000_000, "gzip", "W/\"7\""),
        (3000, "identity", "\"7\""),
        (999, "gzip", "\"7\""),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let request = TestRequest::default()
                .method(method)
                .uri(&format!("/try/page?size={size}"))
                .insert_header(("accept-encoding", accept));
            assert_eq!(ask(request).await?.header("etag"), tag, "{size} {accept}");
        }
    }
    Ok(())
}

#[actix_web::test]
async fn a_compressed_body_has_the_content_of_the_plain_one() -> Outcome {
    for path in [
        "/try/page?size=3000",
        "/try/page?size=3000000",
        "/try/lines?size=100",
        "/try/lines?size=100000",
        "/openapi.json",
        "/redoc/redoc.js",
        "/docs/swagger-ui.css",
    ] {
        let plain = get_path(path).await?;
        assert_eq!(plain.header("content-encoding"), "", "{path}");
        for encoding in ["zstd", "gzip"] {
            let request = TestRequest::get()
                .uri(path)
                .insert_header(("accept-encoding", encoding));
            let answer = ask(request).await?;
            assert_eq!(answer.header("content-encoding"), encoding, "{path}");
            assert!(answer.body.len() < plain.body.len(), "{path} {encoding}");
            let unpacked = unpacked(encoding, &answer.body)?;
            assert!(unpacked == plain.body, "{path} {encoding} differs");
            let vary: Vec<_> = answer.response.headers().get_all("vary").collect();
            let vary = format!("{vary:?}");
            assert_eq!(vary.matches("accept-encoding").count(), 1, "{path}: {vary}");
        }
    }
    Ok(())
}

fn unpacked(encoding: &str, body: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut unpacked = Vec::new();
    match encoding {
        "zstd" => zstd::stream::copy_decode(body, &mut unpacked)?,
        _ => _ = flate2::read::GzDecoder::new(body).read_to_end(&mut unpacked)?,
    }
    Ok(unpacked)
}

#[actix_web::test]
async fn every_response_carries_the_security_headers() -> Outcome {
    for path in [
        "/",
        "/health",
        "/nowhere",
        "/try/fails/panic",
        "/docs",
        "/metrics",
    ] {
        let answer = get_path(path).await?;
        assert_eq!(answer.header("x-content-type-options"), "nosniff", "{path}");
        assert_eq!(answer.header("x-frame-options"), "DENY", "{path}");
        assert_eq!(answer.header("referrer-policy"), "no-referrer", "{path}");
        assert!(
            answer
                .header("content-security-policy")
                .contains("frame-ancestors 'none'"),
            "{path}"
        );
        assert_eq!(answer.header("strict-transport-security"), "", "{path}");
    }
    let mut config = config();
    config.hsts = true;
    let answer = ask_of(
        config,
        mounted(&Staged::new(Readiness::Ready)),
        TestRequest::get().uri("/health"),
    )
    .await?;
    assert_eq!(
        answer.header("strict-transport-security"),
        "max-age=31536000"
    );
    Ok(())
}

#[actix_web::test]
async fn shared_data_reaches_handlers() -> Outcome {
    assert_eq!(get_path("/try/word").await?.text(), "shared");
    Ok(())
}
