//! Templates: versions, what they become, and what their writers must not do.

use reqwest::Method;

use super::*;
use crate::events::answer;

const TEMPLATES: &str = "/api/v1/templates";

#[tokio::test]
async fn a_template_has_versions_and_mail_has_the_one_it_was_sent_with() {
    let postgres = Postgres::start().await;
    for url in ["sqlite:dotmac.db".to_owned(), postgres.url()] {
        let relay = Smtp::start().await;
        let daemon = mailing(&url, relay.port).spawn().await;
        daemon.until("/ready", 200).await;
        let one = client(&daemon, ONE);
        let new = json!({
            "key": "welcome",
            "subject": "Welcome, {{ name }}",
            "text": "Hello {{ name }} at {{ recipient.address }}",
            "html": "<p>Hello {{ name }}</p>",
        });
        let added = one
            .request(Method::POST, TEMPLATES)
            .json(&new)
            .send()
            .await
            .unwrap();
        assert_eq!(
            (added.status().as_u16(), &added.headers()["etag"]),
            (201, &"\"1\"".parse().unwrap())
        );
        let template: Value = added.json().await.unwrap();
        let path = format!("{TEMPLATES}/{}", template["id"].as_str().unwrap());
        assert_eq!(
            problem(&one.post(TEMPLATES, new).await),
            (409, "template_exists", "key")
        );

        let rendered = one
            .post(
                &format!("{path}/render"),
                json!({ "data": { "name": "<b>Bo</b>" } }),
            )
            .await;
        assert_eq!(rendered.0, 200, "{rendered:?}");
        assert_eq!(rendered.1["subject"], "Welcome, <b>Bo</b>");
        assert!(
            rendered.1["html"].as_str().unwrap().contains("&lt;b&gt;Bo"),
            "{rendered:?}"
        );
        let missing = one.post(&format!("{path}/render"), json!({})).await;
        assert_eq!(
            problem(&missing),
            (422, "validation", "subject"),
            "{missing:?}"
        );

        let scheduled = json!({
            "template": "welcome", "data": { "name": "Bo" }, "to": [{ "email": "bo@example.com" }],
        });
        one.send(scheduled.clone()).await;
        relay.until_taken(1).await;
        let patch = one
            .request(Method::PATCH, &path)
            .json(&json!({ "text": "Good day {{ name }}", "html": null }));
        assert_eq!(
            patch.try_clone().unwrap().send().await.unwrap().status(),
            428
        );
        let patched = patch.header("if-match", "\"1\"").send().await.unwrap();
        assert_eq!(
            (patched.status().as_u16(), &patched.headers()["etag"]),
            (200, &"\"2\"".parse().unwrap())
        );
        one.send(scheduled).await;
        let old = json!({
            "template": { "key": "welcome", "version": 1 }, "data": { "name": "Bo" },
            "to": [{ "email": "bo@example.com" }],
        });
        one.send(old).await;
        let test = one
            .post(
                &format!("{path}/test"),
                json!({ "to": "me@example.com", "data": { "name": "Me" } }),
            )
            .await;
        assert_eq!(test.0, 202, "{test:?}");
        let taken = relay.until_taken(4).await;
        let count = |text: &str| taken.iter().filter(|it| it.content.contains(text)).count();
        assert_eq!(
            (count("Hello Bo at bo@example.com"), count("Good day Bo")),
            (2, 2 - 1),
            "{taken:?}"
        );
        assert!(
            taken
                .iter()
                .any(|it| it.to == ["me@example.com"] && it.content.contains("Good day Me"))
        );
        let versions = one.get(&format!("{path}/versions")).await.1;
        assert_eq!(versions["items"].as_array().unwrap().len(), 2);
        assert_eq!(client(&daemon, OTHER).get(&path).await.0, 404);
        assert_eq!(one.get(TEMPLATES).await.1["items"][0]["version"], 2);
        let stale = one
            .request(Method::DELETE, &path)
            .header("if-match", "\"1\"");
        assert_eq!(answer(stale).await.0, 412);
        let deleted = one
            .request(Method::DELETE, &path)
            .header("if-match", "\"2\"");
        assert_eq!(answer(deleted).await.0, 204);
        assert_eq!(one.get(&path).await.0, 404);
    }
}

#[tokio::test]
async fn a_template_that_loops_reads_or_injects_is_refused_in_no_time() {
    let daemon = tenants("sqlite:dotmac.db").spawn().await;
    daemon.until("/ready", 200).await;
    let one = client(&daemon, ONE);
    let wrong = json!({ "key": "a", "subject": "{{ a", "text": "{% if %}", "html": "fine" });
    let (status, refused) = one.post(TEMPLATES, wrong).await;
    let fields: Vec<_> = refused["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["field"].clone())
        .collect();
    assert_eq!(
        (status, fields),
        (422, vec![json!("subject"), json!("text")]),
        "all at once"
    );
    let hostile = [
        "{% for a in range(100000) %}{% for b in range(100000) %}x{% endfor %}{% endfor %}",
        "{% for a in range(10000000) %}x{% endfor %}",
        "{{ ''.__class__.__mro__ }}",
        "{{ secrets }}",
        "{{ self }}",
    ];
    for (place, text) in hostile.into_iter().enumerate() {
        let new = json!({ "key": format!("a{place}"), "subject": "a", "text": text });
        let (status, template) = one.post(TEMPLATES, new).await;
        if status == 422 {
            continue;
        }
        let id = template["id"].as_str().unwrap();
        let begun = std::time::Instant::now();
        let (status, answered) = one
            .post(&format!("{TEMPLATES}/{id}/render"), json!({}))
            .await;
        assert_eq!(
            (status, &answered["errors"][0]["field"]),
            (422, &json!("text")),
            "{text}: {answered}"
        );
        assert!(begun.elapsed() < Duration::from_secs(2), "{text}");
    }
    for include in [
        "{% include 'a' %}",
        "{% extends 'a' %}",
        "{% import 'a' as b %}",
    ] {
        let new = json!({ "key": "b", "subject": "a", "text": include });
        assert_eq!(
            problem(&one.post(TEMPLATES, new).await),
            (422, "validation", "text"),
            "{include}"
        );
    }
    let new = json!({ "key": "c", "subject": "{{ name }}", "text": "a" });
    assert_eq!(one.post(TEMPLATES, new).await.0, 201);
    let injecting = json!({
        "template": "c", "data": { "name": "a\r\nBcc: x@example.com" }, "to": [{ "email": "ann@example.com" }],
    });
    let refused = one.post(NOTIFICATIONS, injecting).await;
    assert_eq!(
        problem(&refused),
        (422, "validation", "template"),
        "{refused:?}"
    );
    let large = json!({ "key": "d", "subject": "a", "text": "x".repeat(256 * 1024 + 1) });
    assert_eq!(
        problem(&one.post(TEMPLATES, large).await),
        (422, "validation", "text")
    );
}
