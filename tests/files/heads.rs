//! HEAD wherever there is GET: the same answer without its body.

use reqwest::Method;
use serde_json::json;

use crate::{
    house::{Answer, House, noise},
    renditions::made,
    sources::{pdf, photo},
    tus_client::create,
};

/// Headers that say something of the body, or of what it is about.
const COMPARED: [&str; 14] = [
    "content-type",
    "content-length",
    "content-disposition",
    "content-security-policy",
    "cache-control",
    "accept-ranges",
    "etag",
    "last-modified",
    "x-content-type-options",
    "tus-resumable",
    "upload-offset",
    "upload-length",
    "upload-expires",
    "retry-after",
];

async fn ask(house: &House, method: Method, path: &str) -> Answer {
    let daemon = &house.instances[0];
    let request = daemon
        .client
        .request(method, format!("{}{path}", daemon.base));
    house.send(request).await
}

#[tokio::test]
async fn every_route_that_answers_get_answers_head_without_a_body() {
    House::on_every(&[], async |house| {
        let image = house.file("name=a.jpg", photo(64, 32)).await;
        let document = house.file("name=a.pdf", pdf(&["hello"])).await;
        let links = format!("/files/{}/links", image.text("id"));
        let link = house.post(&links, json!({})).await;
        let upload = create(&house, 5, "a.txt").await;
        let upload = upload.rsplit_once('/').unwrap().1;
        for part in ["renditions/10x10.png", "info"] {
            made(&house, &format!("/files/{}/{part}", image.text("id"))).await;
        }
        made(&house, &format!("/files/{}/text", document.text("id"))).await;
        let documented = house.instances[0].json("/openapi.json").await.1;
        let mut asked = 0;
        for (path, methods) in documented["paths"].as_object().unwrap() {
            let is_ours = path.starts_with("/api/v1/files") || path.starts_with("/f/");
            if !is_ours || methods.get("get").is_none() {
                continue;
            }
            let id = match path.as_str() {
                "/api/v1/files/{id}/text" => document.text("id"),
                "/api/v1/files/tus/{id}" => upload,
                _ => image.text("id"),
            };
            let path = path
                .replace("{id}", id)
                .replace("{rendition}", "10x10.png")
                .replace("{number}", "1")
                .replace("{token}", link.text("token"));
            let get = ask(&house, Method::GET, &path).await;
            let head = ask(&house, Method::HEAD, &path).await;
            assert_eq!((get.status, head.status), (200, 200), "{path}: {head:?}");
            assert!(!get.bytes.is_empty() && head.bytes.is_empty(), "{path}");
            for name in COMPARED {
                let (of_get, of_head) = (get.headers.get(name), head.headers.get(name));
                assert_eq!(of_get, of_head, "{path}: {name}");
            }
            asked += 1;
        }
        assert!(asked >= 12, "{asked} routes");
        // What is not there is not there for HEAD either.
        for path in ["content", "versions", "text"] {
            let path = format!("/api/v1/files/0190aaaa-0000-7000-8000-0000000000ff/{path}");
            let head = ask(&house, Method::HEAD, &path).await;
            assert_eq!((head.status, head.bytes.len()), (404, 0), "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn head_has_no_ranges_and_counts_for_no_link() {
    let house = House::on_sqlite(1, &[]).await;
    let made = house.file("name=a.bin", noise(1, 1000)).await;
    let path = format!("/files/{}", made.text("id"));
    for range in ["bytes=0-0", "bytes=1000-", "bytes=-1", "bytes=0-1,5-9"] {
        let head = house.request(0, Method::HEAD, &format!("{path}/content"));
        let head = house.send(head.header("range", range)).await;
        let found = (head.status, head.header("content-length"));
        assert_eq!(found, (200, "1000"), "{range}");
        assert!(!head.headers.contains_key("content-range"), "{range}");
    }
    let links = format!("{path}/links");
    let link = house.post(&links, json!({ "max_downloads": 1 })).await;
    for _ in 0..3 {
        let head = ask(&house, Method::HEAD, link.text("path")).await;
        assert_eq!(head.status, 200, "{head:?}");
    }
    let read = ask(&house, Method::GET, link.text("path")).await;
    assert_eq!((read.status, read.bytes.len()), (200, 1000));
    let over = ask(&house, Method::HEAD, link.text("path")).await;
    assert_eq!(over.status, 410);
}
