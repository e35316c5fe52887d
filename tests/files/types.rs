//! Files that are two things at once: what they are is what their bytes say, and no browser takes one for a page of this site.

use image::RgbImage;
use reqwest::Method;

use crate::{house::House, sources::png};

const PAGE: &[u8] = b"<html><script>alert(1)</script></html>";
const CSP: &str = "default-src 'none'; sandbox; frame-ancestors 'none'";

fn page_after(head: &[u8]) -> Vec<u8> {
    [head, PAGE].concat()
}

/// The same, in UTF-16 with its mark.
fn wide(text: &[u8]) -> Vec<u8> {
    let wide = text.iter().flat_map(|byte| [*byte, 0]);
    [0xff, 0xfe].into_iter().chain(wide).collect()
}

#[tokio::test]
async fn a_polyglot_is_one_thing_and_is_never_run() {
    let house = House::on_sqlite(1, &[]).await;
    let image = png(RgbImage::new(8, 8));
    let script = b"GIF89a/*\0\0\0\0*/=1;alert(1)//".to_vec();
    let zip = b"PK\x03\x04\x14\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\0\0\0a";
    for (name, declared, bytes, found, shown) in [
        // An image that ends as an archive or as a page, as readers of these find them.
        (
            "a.png",
            "image/png",
            [&image[..], zip].concat(),
            "image/png",
            "inline",
        ),
        (
            "a.zip",
            "application/zip",
            [&image[..], zip].concat(),
            "image/png",
            "inline",
        ),
        (
            "a.html",
            "text/html",
            [&image[..], PAGE].concat(),
            "image/png",
            "inline",
        ),
        // A script that begins as an image.
        (
            "a.js",
            "text/javascript",
            script.clone(),
            "image/gif",
            "inline",
        ),
        // Pages under other names, with marks and comments before them.
        (
            "a.txt",
            "text/plain",
            PAGE.to_vec(),
            "text/html",
            "attachment",
        ),
        (
            "a.txt",
            "text/plain",
            page_after(b"\xef\xbb\xbf \n"),
            "text/html",
            "attachment",
        ),
        (
            "a.txt",
            "text/plain",
            page_after(b"<!-- -->"),
            "text/html",
            "attachment",
        ),
        (
            "a.xml",
            "text/xml",
            page_after(b"<?xml version='1.0'?>"),
            "text/html",
            "attachment",
        ),
        (
            "a.txt",
            "text/plain",
            wide(PAGE),
            "application/octet-stream",
            "attachment",
        ),
        (
            "a.svg",
            "text/plain",
            b"<!-- --><svg onload='alert(1)'/>".to_vec(),
            "image/svg+xml",
            "attachment",
        ),
        // A document that a browser would run as a page, if it could choose.
        (
            "a.pdf",
            "text/html",
            page_after(b"%PDF-1.7\n"),
            "application/pdf",
            "attachment",
        ),
        (
            "a.bin",
            "application/octet-stream",
            b"MZ\x90\0\x03\0\0\0".to_vec(),
            "application/vnd.microsoft.portable-executable",
            "attachment",
        ),
        // Script in what is only text stays text.
        (
            "a.md",
            "text/markdown",
            page_after(b"# a\n\n"),
            "text/markdown",
            "attachment",
        ),
    ] {
        let request = house.request(0, Method::PUT, &format!("/files/content?name={name}"));
        let request = request.header("content-type", declared).body(bytes.clone());
        let made = house.send(request).await;
        assert_eq!(made.status, 201, "{name} {declared}: {made:?}");
        assert_eq!(made.text("type"), found, "{name} {declared}");
        assert_eq!(made.text("type_declared"), declared);
        let read = house
            .get(&format!("/files/{}/content", made.text("id")))
            .await;
        assert!(read.bytes == bytes, "{name}");
        let kind = read.header("content-type");
        assert_eq!(kind.split(';').next(), Some(found), "{name}");
        assert!(
            read.header("content-disposition").starts_with(shown),
            "{name} {declared}: {read:?}"
        );
        assert_eq!(read.header("x-content-type-options"), "nosniff");
        assert_eq!(read.header("content-security-policy"), CSP);
    }
    // What is announced as something to look at or to hear, and is something else, is no file at all.
    let before = house.usage().await;
    for (declared, bytes) in [
        ("image/png", PAGE.to_vec()),
        ("image/gif", page_after(b"<!--GIF89a-->")),
        ("image/png", zip.to_vec()),
        ("application/pdf", image.clone()),
        ("video/mp4", script),
        ("image/svg+xml", image.clone()),
        ("font/woff2", PAGE.to_vec()),
        ("IMAGE/PNG; charset=x", PAGE.to_vec()),
    ] {
        let request = house.request(0, Method::PUT, "/files/content?name=a");
        let refused = house
            .send(request.header("content-type", declared).body(bytes))
            .await;
        let found = (refused.short(), refused.field());
        assert_eq!(
            found,
            ((422, "type_mismatch"), "type"),
            "{declared}: {refused:?}"
        );
    }
    assert_eq!(house.usage().await, before);
    house.assert_clean(13).await;
}
