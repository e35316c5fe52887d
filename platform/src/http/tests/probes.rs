//! Probes, `/metrics`, `/`.

use dotmac_supervision::NotReady;
use serde_json::json;

use super::*;

async fn ask_while(vitals: &Staged, path: &str) -> Result<Answer, Failure> {
    ask_of(config(), mounted(vitals), TestRequest::get().uri(path)).await
}

#[actix_web::test]
async fn health_says_who_it_is() -> Outcome {
    for path in ["/health", "/health/live", "/livez"] {
        let answer = get_path(path).await?;
        assert_eq!(
            (answer.status(), answer.header("cache-control")),
            (200, "no-store")
        );
        assert_eq!(
            answer.text(),
            r#"{"status":"healthy","name":"dotmac-platform","version":"1.2.3","environment":"test"}"#
        );
    }
    Ok(())
}

#[actix_web::test]
async fn a_hung_supervisor_is_neither_healthy_nor_ready() -> Outcome {
    let vitals = Staged::new(Readiness::Ready);
    vitals.hang();
    let health = ask_while(&vitals, "/health").await?;
    assert_eq!((health.status(), health.header("retry-after")), (503, "1"));
    assert_eq!(
        health.json(),
        json!({"status": "unhealthy", "name": "dotmac-platform", "version": "1.2.3", "environment": "test", "reason": "hung"})
    );
    let ready = ask_while(&vitals, "/ready").await?;
    assert_eq!(ready.status(), 503);
    assert_eq!(
        ready.json(),
        json!({"status": "not_ready", "reason": "component_down",
               "components": {"supervisor": {"state": "failed", "required": true, "reason": "hung"}}})
    );
    Ok(())
}

#[actix_web::test]
async fn ready_shows_each_component() -> Outcome {
    for path in ["/ready", "/health/ready", "/readyz"] {
        let answer = get_path(path).await?;
        assert_eq!(answer.status(), 200);
        assert_eq!(
            answer.json(),
            json!({"status": "ready", "components": {"db": {"state": "ready", "required": true,
                "since": "1970-01-01T00:00:00.000Z", "restarts": 2, "generation": 3, "source": "sqlite"}}})
        );
    }
    Ok(())
}

#[actix_web::test]
async fn ready_follows_the_board() -> Outcome {
    let vitals = Staged::new(Readiness::NotReady(NotReady::Starting));
    let app = init_service(Shared::new(config(), mounted(&vitals)).app()).await;
    let mut seen = Vec::new();
    for next in [
        Readiness::Ready,
        Readiness::NotReady(NotReady::ComponentDown),
        Readiness::Degraded,
        Readiness::NotReady(NotReady::Draining),
        Readiness::Ready,
    ] {
        let response = app
            .call(TestRequest::get().uri("/ready").to_request())
            .await?;
        let status = response.status().as_u16();
        let retry = response.headers().contains_key("retry-after");
        let body: Value = actix_web::test::read_body_json(response).await;
        assert_eq!(retry, status == 503);
        seen.push((
            status,
            body["status"].to_string(),
            body["reason"].to_string(),
        ));
        vitals.turn(next);
    }
    let expected = [
        (503, "\"not_ready\"", "\"starting\""),
        (200, "\"ready\"", "null"),
        (503, "\"not_ready\"", "\"component_down\""),
        (200, "\"degraded\"", "null"),
        (503, "\"not_ready\"", "\"draining\""),
    ];
    assert_eq!(
        seen,
        expected.map(|(status, word, reason)| (status, word.to_owned(), reason.to_owned()))
    );
    Ok(())
}

#[actix_web::test]
async fn startup_stays_true_once_it_was_ready() -> Outcome {
    for path in ["/health/startup", "/startupz"] {
        let starting =
            ask_while(&Staged::new(Readiness::NotReady(NotReady::Starting)), path).await?;
        assert_eq!(
            (starting.status(), starting.text()),
            (503, r#"{"status":"starting"}"#)
        );
        let broken = ask_while(
            &Staged::new(Readiness::NotReady(NotReady::ComponentDown)),
            path,
        )
        .await?;
        assert_eq!(
            (broken.status(), broken.text()),
            (200, r#"{"status":"started"}"#)
        );
    }
    Ok(())
}

#[actix_web::test]
async fn probes_answer_for_any_host_while_others_do_not() -> Outcome {
    let mut config = config();
    config.trusted_hosts = vec![crate::settings::parsed("api.example.org")];
    for (path, status) in [
        ("/health", 200),
        ("/ready", 200),
        ("/metrics", 200),
        ("/", 400),
    ] {
        let request = TestRequest::get()
            .uri(path)
            .insert_header(("host", "10.1.2.3:8000"));
        let answer = ask_of(
            config.clone(),
            mounted(&Staged::new(Readiness::Ready)),
            request,
        )
        .await?;
        assert_eq!(answer.status(), status, "{path}");
        if status == 400 {
            assert_eq!(answer.code(), "untrusted_host");
        }
    }
    Ok(())
}

#[actix_web::test]
async fn metrics_are_prometheus_text() -> Outcome {
    let answer = get_path("/metrics").await?;
    assert_eq!((answer.status(), answer.text()), (200, "dotmac_ready 1\n"));
    assert_eq!(
        answer.header("content-type"),
        "text/plain; version=0.0.4; charset=utf-8"
    );
    Ok(())
}

#[actix_web::test]
async fn metrics_that_cannot_be_rendered_do_not_say_why() -> Outcome {
    let parts = Parts::new(
        Staged::new(Readiness::Ready),
        std::sync::Arc::new(|_| Err("registry of /secret/path".to_owned())),
        crate::http::Workers::new(std::time::Duration::from_secs(5)),
    );
    let answer = ask_of(config(), parts, TestRequest::get().uri("/metrics")).await?;
    assert_eq!(
        (answer.status(), answer.code().as_str()),
        (503, "metrics_unavailable")
    );
    assert!(!answer.text().contains("secret"));
    Ok(())
}

#[actix_web::test]
async fn the_root_says_what_it_is_and_links_only_to_what_exists() -> Outcome {
    let answer = get_path("/").await?;
    assert_eq!(answer.json()["name"], "dotmac-platform");
    assert_eq!(answer.json()["links"]["docs"], "/docs");
    let mut config = config();
    config.docs_enabled = false;
    let answer = ask_of(
        config,
        mounted(&Staged::new(Readiness::Ready)),
        TestRequest::get().uri("/"),
    )
    .await?;
    assert_eq!(answer.json()["links"]["docs"], Value::Null);
    Ok(())
}
