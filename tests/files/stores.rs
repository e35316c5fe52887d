//! Stores that misbehave in worse ways than being away: they say nothing, lose a part, lose the end, ask for patience.

use std::{io, slice, time::Duration};

use dotmac_testkit::{Seaweed, eventually, proxy::Proxy, seaweed::Keys};
use futures_util::stream;
use reqwest::{Body, Method};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

use crate::{
    house::{House, noise, sha256},
    s3::aborted_by_boto3,
};

#[tokio::test]
async fn a_store_that_says_nothing_leaves_nothing_of_uploads_that_were_given_up() {
    let keys = Keys::of("silent");
    let store = Seaweed::start(slice::from_ref(&keys)).await;
    let wire = Proxy::before(store.port).await;
    let endpoint = format!("http://127.0.0.1:{}", wire.port);
    let house = House::on_s3(&endpoint, &keys, "silent", &[]).await;
    let bytes = noise(1, 6_000_000);
    let made = house.file("name=kept.bin", bytes.clone()).await;
    wire.swallow();
    for size in [1000, 6_000_000] {
        let request = house.request(0, Method::PUT, "/files/content?name=a.bin");
        let request = request.bearer_auth(&house.token).body(noise(2, size));
        let given_up = request.timeout(Duration::from_secs(2)).send().await;
        assert!(given_up.unwrap_err().is_timeout(), "{size}");
    }
    let daemon = &house.instances[0];
    daemon
        .until_component("files.storage", "degraded", Some("storage_unusable"))
        .await;
    assert_eq!(daemon.get("/ready").await.status(), 200);
    // What is under way is lost.
    wire.cut();
    let refused = house.put("name=a.bin", noise(2, 1000)).await;
    assert_eq!(refused.short(), (503, "storage_unavailable"), "{refused:?}");
    wire.mend();
    daemon.until_component("files.storage", "ready", None).await;
    house.until_usage((6_000_000, 0, 1)).await;
    let path = format!("/files/{}/content", made.text("id"));
    assert!(house.get(&path).await.bytes == bytes);
    eventually("what was written to be cleared away", || async {
        (store.list("silent", "blobs").len() == 1).then_some(())
    })
    .await;
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("1 blobs\n"), "{output}");
}

#[tokio::test]
async fn a_store_that_loses_a_part_makes_no_file() {
    let keys = Keys::of("part");
    let store = Seaweed::start(slice::from_ref(&keys)).await;
    let house = House::on_s3(&store.endpoint(), &keys, "part", &[]).await;
    let bytes = noise(3, 18_000_000);
    let (pieces, arriving) = mpsc::channel::<io::Result<Vec<u8>>>(1);
    let body = stream::unfold(arriving, |mut arriving| async move {
        Some((arriving.recv().await?, arriving))
    });
    let sending = async {
        pieces.send(Ok(bytes[..12_000_000].to_vec())).await.unwrap();
        eventually("the store to have parts", || async {
            let aborted = aborted_by_boto3(&store.endpoint(), &keys, "part");
            (!aborted.is_empty()).then_some(())
        })
        .await;
        // The daemon may have refused it by now.
        pieces.send(Ok(bytes[12_000_000..].to_vec())).await.ok();
        drop(pieces);
    };
    let upload = house.put("name=a.bin", Body::wrap_stream(body));
    let (refused, ()) = tokio::join!(upload, sending);
    assert_eq!(refused.short(), (503, "storage_unavailable"), "{refused:?}");
    assert_eq!(refused.header("retry-after"), "5");
    house.until_usage((0, 0, 0)).await;
    assert_eq!(house.get("/files").await.body["items"], json!([]));
    assert!(store.list("part", "blobs").is_empty());
    let again = house.file("name=a.bin", bytes.clone()).await;
    assert_eq!(again.text("sha256"), sha256(&bytes));
    let (code, output) = house.run(&["files", "check"]).await;
    assert!(code == 0 && output.starts_with("1 blobs\n"), "{output}");
}

/// What a store does to each request.
#[derive(Clone, Copy)]
enum Fault {
    /// It takes everything, and has one byte of it.
    LosesTheEnd,
    /// It asks to come later.
    AsksToSlowDown,
    /// It refuses to do it.
    Forbids,
}

/// Begins to serve; where.
async fn bad_store(fault: Fault) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, fault));
        }
    });
    endpoint
}

async fn serve(mut stream: TcpStream, fault: Fault) -> io::Result<()> {
    let mut buffer = Vec::new();
    loop {
        let end = loop {
            if let Some(at) = buffer.windows(4).position(|it| it == b"\r\n\r\n") {
                break at + 4;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let length = length.map_or(0, |it| it.trim().parse().unwrap());
        while buffer.len() < end + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        buffer.drain(..end + length);
        let method = head.split(' ').next().unwrap_or_default();
        stream.write_all(answer(fault, method).as_bytes()).await?;
    }
}

fn answer(fault: Fault, method: &str) -> String {
    let error = |status: &str, code: &str| {
        let body = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
        let shown = if method == "head" { "" } else { &*body };
        let length = body.len();
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/xml\r\ncontent-length: {length}\r\n\r\n{shown}"
        )
    };
    let found = "etag: \"e\"\r\nlast-modified: Sun, 29 Nov 2026 00:00:00 GMT";
    match (fault, method) {
        (Fault::AsksToSlowDown, _) => error("503 Slow Down", "SlowDown"),
        (Fault::Forbids, _) => error("403 Forbidden", "AccessDenied"),
        (Fault::LosesTheEnd, "put") => {
            format!("HTTP/1.1 200 OK\r\n{found}\r\ncontent-length: 0\r\n\r\n")
        }
        (Fault::LosesTheEnd, "head") => {
            format!("HTTP/1.1 200 OK\r\n{found}\r\ncontent-length: 1\r\n\r\n")
        }
        (Fault::LosesTheEnd, "delete") => {
            "HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n".to_owned()
        }
        (Fault::LosesTheEnd, _) => error("404 Not Found", "NoSuchKey"),
    }
}

#[tokio::test]
async fn a_store_that_lies_or_refuses_makes_no_file() {
    for (fault, expected, reason) in [
        (Fault::LosesTheEnd, "upload_lost", "storage_unusable"),
        (
            Fault::AsksToSlowDown,
            "storage_unavailable",
            "storage_unusable",
        ),
        (Fault::Forbids, "storage_unavailable", "storage_refused"),
    ] {
        let endpoint = bad_store(fault).await;
        let house = House::on_s3(&endpoint, &Keys::of("any"), "any", &[]).await;
        let refused = house.put("name=a.bin", noise(4, 1000)).await;
        assert_eq!(refused.short(), (503, expected), "{refused:?}");
        assert!(!refused.header("retry-after").is_empty());
        assert_eq!(house.usage().await, (0, 0, 0));
        assert_eq!(house.get("/files").await.body["items"], json!([]));
        let daemon = &house.instances[0];
        daemon
            .until_component("files.storage", "degraded", Some(reason))
            .await;
        assert_eq!(daemon.get("/ready").await.status(), 200);
    }
}
