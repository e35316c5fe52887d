//! Ranges as curl asks for them, and downloads and uploads that it goes on with.

use std::{fs, path::Path, process::Command};

use crate::house::{House, noise};

/// Exit code and output of curl.
fn curl(house: &House, arguments: &[&str]) -> (i32, Vec<u8>) {
    let ran = Command::new("curl")
        .args([
            "-s",
            "-H",
            &format!("authorization: Bearer {}", house.token),
        ])
        .args(arguments)
        .output()
        .unwrap();
    (ran.status.code().unwrap(), ran.stdout)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn curl_reads_parts_goes_on_and_asks_again() {
    House::on_every(&[], async |house| {
        let bytes = noise(1, 1_000_000);
        let made = house.file("name=a.bin", bytes.clone()).await;
        let url = format!(
            "{}/api/v1/files/{}/content",
            house.instances[0].base,
            made.text("id")
        );
        for (range, expected) in [
            ("0-0", 0..1),
            ("0-4", 0..5),
            ("999990-", 999_990..1_000_000),
            ("-10", 999_990..1_000_000),
            ("262143-262144", 262_143..262_145),
            ("0-99999999", 0..1_000_000),
        ] {
            let (code, read) = curl(&house, &["-r", range, "-w", "%{http_code}", &url]);
            assert_eq!(code, 0, "{range}");
            let (read, status) = read.split_at(read.len() - 3);
            assert!(read == &bytes[expected] && status == b"206", "{range}");
        }
        // Several at once are answered with all of it.
        let (code, read) = curl(&house, &["-r", "0-0,5-9", "-w", "%{http_code}", &url]);
        assert!(code == 0 && read.ends_with(b"200"));
        assert!(read[..read.len() - 3] == bytes);
        let (_, status) = curl(
            &house,
            &[
                "-r",
                "1000000-",
                "-o",
                "/dev/null",
                "-w",
                "%{http_code}",
                &url,
            ],
        );
        assert_eq!(status, b"416");

        // A download that was cut goes on; one that is whole stays as it is.
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("a.bin");
        fs::write(&file, &bytes[..400_001]).unwrap();
        let (code, _) = curl(&house, &["-C", "-", "-o", text(&file), &url]);
        assert!(code == 0 && fs::read(&file).unwrap() == bytes);
        curl(&house, &["-C", "-", "-o", text(&file), &url]);
        assert!(fs::read(&file).unwrap() == bytes);
        // What is known is not sent again.
        let tag = directory.path().join("tag");
        let (code, _) = curl(
            &house,
            &["--etag-save", text(&tag), "-o", text(&file), &url],
        );
        assert_eq!(code, 0);
        let known = [
            "--etag-compare",
            text(&tag),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code} %{size_download}",
            &url,
        ];
        assert_eq!(curl(&house, &known), (0, b"304 0".to_vec()));
        let known = [
            "-z",
            text(&file),
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            &url,
        ];
        assert_eq!(curl(&house, &known), (0, b"304".to_vec()));
        let (code, head) = curl(&house, &["-I", &url]);
        let head = String::from_utf8(head).unwrap().to_lowercase();
        assert_eq!(code, 0, "{head}");
        assert!(
            head.contains("content-length: 1000000") && head.contains("accept-ranges: bytes"),
            "{head}"
        );

        // It asks first whether it may send so much, or sends what has no length.
        let source = directory.path().join("source");
        fs::write(&source, noise(2, 3_000_000)).unwrap();
        let place = format!(
            "{}/api/v1/files/content?name=b.bin",
            house.instances[0].base
        );
        let shown = ["-o", "/dev/null", "-w", "%{http_code}"];
        for how in [
            &["-H", "expect: 100-continue", "-T", text(&source)][..],
            &["-H", "transfer-encoding: chunked", "-T", text(&source)],
        ] {
            let sent = curl(&house, &[how, &shown[..], &[place.as_str()][..]].concat());
            assert_eq!(sent, (0, b"201".to_vec()), "{how:?}");
        }
        house.until_usage((7_000_000, 0, 3)).await;
        house.assert_clean(3).await;
    })
    .await;
}

#[tokio::test]
async fn of_an_empty_file_there_is_no_part() {
    let house = House::on_sqlite(1, &[]).await;
    let made = house.file("name=empty", "").await;
    let path = format!("/files/{}/content", made.text("id"));
    for range in ["bytes=0-0", "bytes=0-", "bytes=-1"] {
        let request = house.request(0, reqwest::Method::GET, &path);
        let read = house.send(request.header("range", range)).await;
        assert_eq!(read.short(), (416, "range_not_satisfiable"), "{range}");
        assert_eq!(read.header("content-range"), "bytes */0", "{range}");
    }
    let whole = house.get(&path).await;
    assert_eq!((whole.status, whole.header("content-length")), (200, "0"));
}
