//! Ranges, conditions, and headers by which no browser takes a file for a page of this site.

use reqwest::Method;

use crate::house::{Answer, House, noise, sha256};

async fn read(house: &House, id: &str, headers: &[(&str, &str)]) -> Answer {
    let request = house.request(0, Method::GET, &format!("/files/{id}/content"));
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    house.send(request).await
}

#[tokio::test]
async fn a_part_is_read_and_what_is_known_is_not_read_again() {
    House::on_every(&[], async |house| {
        let bytes = noise(7, 1_000_000);
        let made = house.file("name=a.bin", bytes.clone()).await;
        let (id, tag) = (made.text("id"), format!("\"{}\"", sha256(&bytes)));
        for (range, expected, shown) in [
            ("bytes=0-0", 0..1, "bytes 0-0/1000000"),
            (
                "bytes=131071-131072",
                131_071..131_073,
                "bytes 131071-131072/1000000",
            ),
            (
                "bytes=-5",
                999_995..1_000_000,
                "bytes 999995-999999/1000000",
            ),
            (
                "bytes=999999-2000000",
                999_999..1_000_000,
                "bytes 999999-999999/1000000",
            ),
            ("bytes=1-", 1..1_000_000, "bytes 1-999999/1000000"),
        ] {
            let part = read(&house, id, &[("range", range), ("if-range", &tag)]).await;
            assert_eq!(
                (part.status, part.header("content-range")),
                (206, shown),
                "{range}"
            );
            assert!(part.bytes == bytes[expected], "{range}");
        }
        for range in [
            "bytes=0-1,3-4",
            "bytes=0-1,2000000-",
            "bytes=0-9,5-14",
            "bytes=4-3",
            "bytes=--1",
            "bytes=+1-2",
            "bytes=0x0-1",
            "bytes=1",
            "bytes=",
            "bytes=-",
            "bytes 0-1",
            "lines=1-2",
        ] {
            let whole = read(&house, id, &[("range", range)]).await;
            assert!(whole.status == 200 && whole.bytes == bytes, "{range}");
        }
        for range in [
            "bytes=1000000-",
            "bytes=1000000-1000000",
            "bytes=-0",
            "bytes=18446744073709551615-",
            "bytes=18446744073709551616-18446744073709551617",
            "bytes=1000000-,2000000-",
        ] {
            let beyond = read(&house, id, &[("range", range)]).await;
            assert_eq!(beyond.short(), (416, "range_not_satisfiable"), "{range}");
            assert_eq!(beyond.header("content-range"), "bytes */1000000");
        }
        for range in [
            "bytes=999998-18446744073709551615",
            "bytes = 999998-999999",
            "BYTES=-2",
        ] {
            let end = read(&house, id, &[("range", range)]).await;
            assert!(
                end.status == 206 && end.bytes == bytes[999_998..],
                "{range}"
            );
        }
        let known = read(&house, id, &[("if-none-match", &tag)]).await;
        assert_eq!(
            (known.status, known.bytes.len(), known.header("etag")),
            (304, 0, &*tag)
        );
        let modified = known.header("last-modified").to_owned();
        assert_eq!(
            read(&house, id, &[("if-modified-since", &modified)])
                .await
                .status,
            304
        );
        let changed = read(&house, id, &[("if-match", "\"other\"")]).await;
        assert_eq!(changed.short(), (412, "precondition_failed"));
        let other = read(
            &house,
            id,
            &[("range", "bytes=0-0"), ("if-range", "\"other\"")],
        )
        .await;
        assert_eq!(other.status, 200);

        let head = house.request(0, Method::HEAD, &format!("/files/{id}/content"));
        let head = house.send(head).await;
        assert_eq!((head.status, head.bytes.len()), (200, 0));
        assert_eq!(head.header("content-length"), "1000000");
        assert_eq!(head.header("etag"), tag);
        let head = house.request(0, Method::HEAD, &format!("/files/{id}"));
        assert_eq!(house.send(head).await.status, 200);
    })
    .await;
}

#[tokio::test]
async fn no_file_is_a_page_of_this_site() {
    let house = House::on_sqlite(1, &[]).await;
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01";
    for (name, declared, bytes, kind, disposition) in [
        (
            "a.png",
            "image/png",
            &png[..],
            "image/png",
            "inline; filename=\"a.png\"",
        ),
        (
            "a.txt",
            "text/plain",
            b"<b",
            "text/plain; charset=utf-8",
            "inline; filename=\"a.txt\"",
        ),
        (
            "a.html",
            "text/html",
            b"<html><script>",
            "text/html; charset=utf-8",
            "attachment; filename=\"a.html\"",
        ),
        // A page under the name and the type of something harmless.
        (
            "a.txt",
            "text/plain",
            b"<html><script>",
            "text/html; charset=utf-8",
            "attachment; filename=\"a.txt\"",
        ),
        (
            "a.svg",
            "text/plain",
            b"<svg onload='x'/>",
            "image/svg+xml",
            "attachment; filename=\"a.svg\"",
        ),
        (
            "%C3%A4%22%3B.pdf",
            "application/pdf",
            b"%PDF-1.7",
            "application/pdf",
            "attachment; filename=\"__;.pdf\"; filename*=UTF-8''%C3%A4%22%3B.pdf",
        ),
    ] {
        let request = house.request(0, Method::PUT, &format!("/files/content?name={name}"));
        let made = house
            .send(request.header("content-type", declared).body(bytes))
            .await;
        assert_eq!(made.status, 201, "{made:?}");
        let accepting = [("accept-encoding", "zstd, gzip")];
        let read = read(&house, made.text("id"), &accepting).await;
        assert_eq!(read.bytes, bytes, "{name}");
        for (header, value) in [
            ("content-type", kind),
            ("content-disposition", disposition),
            ("x-content-type-options", "nosniff"),
            (
                "content-security-policy",
                "default-src 'none'; sandbox; frame-ancestors 'none'",
            ),
            ("cache-control", "private, no-cache, no-transform"),
            ("accept-ranges", "bytes"),
        ] {
            assert_eq!(read.header(header), value, "{name}");
        }
        assert!(!read.headers.contains_key("content-encoding"), "{name}");
        let about = house.get(&format!("/files/{}", made.text("id"))).await;
        assert_eq!(about.header("cache-control"), "no-store");
    }
}
