//! A client of tus 1.0, a request at a time: what real clients do not let a test do.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use reqwest::Method;
use tokio::{io::AsyncWriteExt as _, net::TcpStream};

use crate::house::{Answer, House};

pub(crate) const TUS: (&str, &str) = ("tus-resumable", "1.0.0");
pub(crate) const OFFSET_STREAM: (&str, &str) = ("content-type", "application/offset+octet-stream");

pub(crate) fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(key, value)| format!("{key} {}", STANDARD.encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

pub(crate) async fn tus(
    house: &House,
    instance: usize,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Vec<u8>,
) -> Answer {
    let request = house.request(instance, method, path).header(TUS.0, TUS.1);
    let request = headers.iter().fold(request, |request, (name, value)| {
        request.header(*name, *value)
    });
    house.send(request.body(body)).await
}

/// Begins an upload; its path.
pub(crate) async fn create(house: &House, length: usize, name: &str) -> String {
    let (length, described) = (
        length.to_string(),
        metadata(&[("filename", name), ("folder", "/t"), ("k", "v")]),
    );
    let headers = [
        ("upload-length", length.as_str()),
        ("upload-metadata", &described),
    ];
    let made = tus(house, 0, Method::POST, "/files/tus", &headers, Vec::new()).await;
    assert_eq!(made.status, 201, "{made:?}");
    assert_eq!(made.header("tus-resumable"), "1.0.0");
    assert!(made.header("upload-expires").ends_with(" GMT"));
    made.header("location")
        .trim_start_matches("/api/v1")
        .to_owned()
}

pub(crate) async fn patch(
    house: &House,
    instance: usize,
    path: &str,
    offset: usize,
    bytes: &[u8],
) -> Answer {
    let offset = offset.to_string();
    let headers = [("upload-offset", offset.as_str()), OFFSET_STREAM];
    tus(
        house,
        instance,
        Method::PATCH,
        path,
        &headers,
        bytes.to_vec(),
    )
    .await
}

/// How far an upload has come.
pub(crate) async fn offset(house: &House, instance: usize, path: &str) -> usize {
    let head = tus(house, instance, Method::HEAD, path, &[], Vec::new()).await;
    assert_eq!(head.status, 200, "{head:?}");
    head.header("upload-offset").parse().unwrap()
}

pub(crate) fn file_of(path: &str) -> String {
    path.replace("/tus/", "/")
}

/// Sends a request to go on with an upload, and so many of the bytes that it announces.
pub(crate) async fn begin(
    house: &House,
    instance: usize,
    path: &str,
    at: usize,
    bytes: &[u8],
    sent: usize,
) -> TcpStream {
    let daemon = &house.instances[instance];
    let mut stream = TcpStream::connect(daemon.base.trim_start_matches("http://"))
        .await
        .unwrap();
    let head = format!(
        "PATCH /api/v1{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ntus-resumable: 1.0.0\r\n\
         content-type: application/offset+octet-stream\r\nupload-offset: {at}\r\ncontent-length: {}\r\n\r\n",
        house.token,
        bytes.len() - at,
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&bytes[at..at + sent]).await.unwrap();
    stream.flush().await.unwrap();
    stream
}
