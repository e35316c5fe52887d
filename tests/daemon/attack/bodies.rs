//! Bodies that are more than they seem.

use futures_util::future::join_all;

use super::{peak_mib, scale};
use crate::notes::{NOTES, TOKEN, notes};

/// Clients at once.
const CLIENTS: usize = 100;

/// The unpacked size of each body. Unpacked at once, all of them would take 3 GiB.
const UNPACKED_MIB: usize = 32;

/// Zeros, compressed by zstd to a 32,768th: blocks of 128 KiB that each say "the same byte again".
fn zstd_bomb() -> Vec<u8> {
    const BLOCK: usize = 128 * 1024;
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd]; // the magic number
    frame.extend([0x00, 0x38]); // no size, no checksum; a window of 128 KiB
    let blocks = UNPACKED_MIB * 1024 * 1024 / BLOCK;
    for block in 1..=blocks {
        let repeats_a_byte = 1 << 1;
        let head = u32::from(block == blocks) | repeats_a_byte | (BLOCK as u32) << 3;
        frame.extend(&head.to_le_bytes()[..3]);
        frame.push(0);
    }
    frame
}

#[tokio::test]
async fn a_compressed_body_is_refused_before_it_is_unpacked() {
    let daemon = notes().spawn().await;
    daemon.until("/ready", 200).await;
    let body = zstd_bomb();
    assert!(body.len() < 2000, "{} bytes", body.len());
    let send = |encoding| {
        let request = daemon
            .client
            .post(format!("{}{NOTES}", daemon.base))
            .bearer_auth(TOKEN);
        request
            .header("content-type", "application/json")
            .header("content-encoding", encoding)
            .body(body.clone())
            .send()
    };
    send("identity").await.unwrap(); // what the first request of all costs is no part of it
    let before = peak_mib(daemon.pid());
    for _ in 0..scale() {
        for encoding in ["zstd", "br", "gzip", "deflate", "identity, zstd", "unknown"] {
            for refused in join_all((0..CLIENTS).map(|_| send(encoding))).await {
                let refused = refused.unwrap();
                assert_eq!(refused.status(), 415, "{encoding}");
                assert_eq!(refused.headers()["accept-encoding"], "identity");
            }
        }
    }
    let grown = peak_mib(daemon.pid()) - before;
    assert!(grown < 100, "{grown} MiB for bodies that were refused");
    assert_eq!(daemon.get("/health").await.status(), 200);
}
