//! Which keys are taken, and what is answered when an answer was not kept.

use actix_web::test::TestRequest;

use super::*;

fn of(values: &[&str]) -> Result<Option<String>, Problem> {
    let request = values.iter().fold(TestRequest::post(), |request, value| {
        request.append_header((IDEMPOTENCY_KEY, *value))
    });
    key(&request.to_http_request())
}

#[test]
fn a_key_is_1_to_255_visible_ascii_characters_given_once() {
    assert_eq!(of(&[]).expect("none"), None);
    let longest = "k".repeat(LONGEST_KEY);
    for good in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "!~", &longest] {
        assert_eq!(of(&[good]).expect("a key").as_deref(), Some(good));
    }
    let too_long = "k".repeat(LONGEST_KEY + 1);
    for bad in [&[""][..], &["a b"], &["\u{e9}"], &[&too_long], &["a", "b"]] {
        let problem = of(bad).expect_err("refused");
        let body = String::from_utf8(problem.body(None)).expect("text");
        assert!(body.contains("Idempotency-Key"), "{body}");
    }
}

#[test]
fn a_fingerprint_cannot_be_made_without_the_key() {
    let request = TestRequest::post().uri("/api/v1/users").to_http_request();
    let body = Bytes::from_static(br#"{"password":"a"}"#);
    let made = |key: &[u8]| {
        let key = hmac::Key::new(hmac::HMAC_SHA256, key);
        fingerprint(&key, &request, uuid::Uuid::nil(), &body)
    };
    assert_eq!(made(b"one"), made(b"one"));
    assert_ne!(made(b"one"), made(b"other"));
}

#[test]
fn an_answer_without_its_body_says_where_its_result_is() {
    let kept = KeptAnswer {
        status: Some(201),
        location: Some("/api/v1/keys/1".to_owned()),
        ..KeptAnswer::default()
    };
    let problem = replayed(kept).expect_err("nothing to repeat");
    let response = actix_web::ResponseError::error_response(&problem);
    assert_eq!(response.status(), 409);
    let location = response.headers().get(header::LOCATION);
    assert_eq!(
        location.map(HeaderValue::as_bytes),
        Some(&b"/api/v1/keys/1"[..])
    );
}
