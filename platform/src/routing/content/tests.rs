//! Tests of ranges, conditions and names.

use actix_web::{ResponseError as _, test::TestRequest};

use super::*;

fn facts(size: u64) -> ContentFacts {
    ContentFacts {
        size,
        tag: "abc".to_owned(),
        modified: DateTime::from_timestamp(1_000_000_000, 500_000_000).unwrap_or_default(),
        media_type: "text/plain".to_owned(),
        name: "a.txt".to_owned(),
        is_inline: false,
    }
}

/// Status of the refusal, or what is sent.
fn part(size: u64, headers: &[(&'static str, &str)]) -> Result<ContentPart, u16> {
    let mut request = TestRequest::get();
    for (name, value) in headers {
        request = request.append_header((*name, *value));
    }
    let wanted = ContentRequest {
        headers: request.to_http_request().headers().clone(),
        is_head: false,
    };
    let part = wanted.part(&facts(size));
    part.map_err(|problem| problem.status_code().as_u16())
}

#[test]
fn ranges_of_every_shape_are_understood_refused_or_ignored() {
    use ContentPart::{Range, Whole};
    for (range, expected) in [
        ("bytes=0-0", Ok(Range(0..1))),
        ("bytes=0-9", Ok(Range(0..10))),
        ("bytes=3-5", Ok(Range(3..6))),
        ("bytes=3-", Ok(Range(3..10))),
        ("bytes=-3", Ok(Range(7..10))),
        ("bytes=-30", Ok(Range(0..10))),
        ("bytes=9-99999999999999999999999999", Ok(Range(9..10))),
        ("Bytes = 1-2 ", Ok(Range(1..3))),
        ("bytes=1-2,", Ok(Range(1..3))),
        ("bytes=10-", Err(416)),
        ("bytes=10-20,30-", Err(416)),
        ("bytes=-0", Err(416)),
        ("bytes=99999999999999999999999999-", Err(416)),
        ("bytes=0-1,3-4", Ok(Whole)),
        ("bytes=0-1,30-40", Ok(Whole)),
        ("bytes=5-3", Ok(Whole)),
        ("bytes=a-b", Ok(Whole)),
        ("bytes=--1", Ok(Whole)),
        ("bytes=+1-2", Ok(Whole)),
        ("bytes=", Ok(Whole)),
        ("bytes=-", Ok(Whole)),
        ("items=0-1", Ok(Whole)),
        ("bytes 0-1", Ok(Whole)),
    ] {
        assert_eq!(part(10, &[("range", range)]), expected, "{range}");
    }
    assert_eq!(part(0, &[("range", "bytes=0-")]), Err(416));
    assert_eq!(part(0, &[]), Ok(Whole));
}

#[test]
fn conditions_are_judged_in_their_order() {
    use ContentPart::{NotModified, Range, Whole};
    let (at, before, after) = (
        "Sun, 09 Sep 2001 01:46:40 GMT",
        "Sun, 09 Sep 2001 01:46:39 GMT",
        "Sun, 09 Sep 2001 01:46:41 GMT",
    );
    let range = ("range", "bytes=0-0");
    for (headers, expected) in [
        (vec![("if-match", "\"abc\"")], Ok(Whole)),
        (vec![("if-match", "\"x\", \"abc\"")], Ok(Whole)),
        (vec![("if-match", "*")], Ok(Whole)),
        (vec![("if-match", "\"x\"")], Err(412)),
        (vec![("if-match", "W/\"abc\"")], Err(412)),
        (vec![("if-unmodified-since", before)], Err(412)),
        (vec![("if-unmodified-since", at)], Ok(Whole)),
        (vec![("if-none-match", "\"abc\"")], Ok(NotModified)),
        (vec![("if-none-match", "W/\"abc\"")], Ok(NotModified)),
        (
            vec![("if-none-match", "\"x\""), ("if-modified-since", after)],
            Ok(Whole),
        ),
        (vec![("if-modified-since", at)], Ok(NotModified)),
        (vec![("if-modified-since", before)], Ok(Whole)),
        (vec![("if-modified-since", "yesterday")], Ok(Whole)),
        (vec![range, ("if-range", "\"abc\"")], Ok(Range(0..1))),
        (vec![range, ("if-range", "\"x\"")], Ok(Whole)),
        (vec![range, ("if-range", "W/\"abc\"")], Ok(Whole)),
        (vec![range, ("if-range", at)], Ok(Range(0..1))),
        (vec![range, ("if-range", after)], Ok(Whole)),
    ] {
        assert_eq!(part(10, &headers), expected, "{headers:?}");
    }
}

#[test]
fn no_name_breaks_out_of_its_header() {
    let named = |name: &str| {
        disposition(&ContentFacts {
            name: name.to_owned(),
            ..facts(1)
        })
    };
    assert_eq!(named("a b.txt"), "attachment; filename=\"a b.txt\"");
    assert_eq!(
        named("ä\".txt"),
        "attachment; filename=\"__.txt\"; filename*=UTF-8''%C3%A4%22.txt"
    );
    assert_eq!(
        named("a\r\nSet-Cookie: b"),
        "attachment; filename=\"a__Set-Cookie: b\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20b"
    );
}
