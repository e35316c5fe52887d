//! Processes that decode: what bombs, polyglots and a kill do to them, and that nothing else is harmed.

use std::{fs, path::PathBuf};

use dotmac_testkit::{eventually, process};
use image::{Rgb, RgbImage, RgbaImage};

use crate::{
    house::House,
    renditions::{made, rendition},
    sources::{blanks, photo, png, png_head, written},
};

/// Why something cannot be made.
async fn fault(house: &House, path: &str) -> (u16, String, String) {
    let answer = made(house, path).await;
    let (status, code) = answer.short();
    let fault = answer.body["errors"][0]["code"].as_str();
    (
        status,
        code.to_owned(),
        fault.unwrap_or_default().to_owned(),
    )
}

#[tokio::test]
async fn bombs_are_refused_and_harm_nothing_else() {
    let settings = [("DOTMAC_FILES_DECODE_MEMORY", "32MiB")];
    House::on_every(&settings, async |house| {
        let gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;";
        let content = blanks(64 << 20);
        let stream = [
            format!("<< /Length {} /Filter /FlateDecode >>\nstream\n", content.len()).as_bytes(),
            &content,
            b"\nendstream",
        ]
        .concat();
        let bomb = written(&[
            b"<< /Type /Catalog /Pages 2 0 R >>",
            b"<< /Type /Pages /Count 1 /Kids [6 0 R] >>",
            b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            b"<< /Title (bomb) >>",
            &stream,
            b"<< /Type /Page /Parent 2 0 R /Contents 5 0 R /Resources << /Font << /F1 3 0 R >> >> >>",
        ]);
        let nested = [b"%PDF-1.4\n1 0 obj\n".as_slice(), &vec![b'['; 2_000_000]].concat();
        let broken = png(RgbImage::new(64, 64));
        for (name, bytes, part, faults) in [
            ("wide.png", png_head(50_000, 50_000), "renditions/10x10.png", &["too_large"][..]),
            ("deep.png", png_head(9_000, 9_000), "renditions/10x10.png", &["memory_limit"]),
            ("screen.gif", gif.to_vec(), "renditions/10x10.png", &["too_large"]),
            ("cut.png", broken[..60].to_vec(), "renditions/10x10.png", &["not_decodable"]),
            ("bomb.pdf", bomb, "text", &["memory_limit"]),
            // One that overflows its stack takes nothing but its process along.
            ("nested.pdf", nested, "info", &["not_decodable", "crashed"]),
        ] {
            let upload = house.file(&format!("name={name}"), bytes).await;
            let path = format!("/files/{}/{part}", upload.text("id"));
            let (status, code, fault) = fault(&house, &path).await;
            assert_eq!((status, &*code), (422, "rendition_failed"), "{name} {fault}");
            assert!(faults.contains(&&*fault), "{name} {fault}");
        }
        // Of these nothing is unpacked at all.
        let svg = r#"<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><svg xmlns="http://www.w3.org/2000/svg">&b;</svg>"#;
        let zip = [b"PK\x03\x04\x14\0\0\0\x08\0".as_slice(), &blanks(1 << 20)].concat();
        for (name, bytes) in [("bomb.svg", svg.as_bytes().to_vec()), ("bomb.zip", zip)] {
            let upload = house.file(&format!("name={name}"), bytes).await;
            let refused = rendition(&house, upload.text("id"), "10x10.png").await;
            assert_eq!(refused.short(), (422, "type_not_supported"), "{name}");
        }
        let good = house.file("name=good.png", png(RgbaImage::new(64, 64))).await;
        let path = format!("/files/{}/renditions/10x10.png", good.text("id"));
        assert_eq!(made(&house, &path).await.status, 200);
        let jobs = house.get("/jobs?kind=files.render&state=failed&limit=50").await;
        let failed = jobs.body["items"].as_array().unwrap();
        assert_eq!(failed.len(), 6, "{jobs:?}");
        assert!(failed.iter().all(|job| job["attempt"] == 1), "{jobs:?}");
        assert_eq!(house.instances[0].get("/ready").await.status(), 200);
        house.assert_clean(10).await;
    })
    .await;
}

#[tokio::test]
async fn of_a_polyglot_nothing_is_left_but_its_pixels() {
    let house = House::on_sqlite(1, &[]).await;
    let tail = b"PK\x03\x04\x14\0<html><script>alert(1)</script>";
    let drawing = png(RgbImage::from_pixel(64, 64, Rgb([9, 99, 200])));
    for (name, bytes, found) in [
        ("a.jpg", [&photo(64, 64)[..], tail].concat(), "image/jpeg"),
        ("a.png", [&drawing[..], tail].concat(), "image/png"),
    ] {
        let upload = house.file(&format!("name={name}"), bytes).await;
        assert_eq!(upload.text("type"), found);
        for format in ["jpg", "png", "webp"] {
            let path = format!("/files/{}/renditions/32x32.{format}", upload.text("id"));
            let answer = made(&house, &path).await;
            assert_eq!(answer.status, 200, "{name} {format}: {answer:?}");
            let has = |mark: &[u8]| answer.bytes.windows(mark.len()).any(|it| it == mark);
            assert!(!has(b"PK\x03\x04") && !has(b"script"), "{name} {format}");
        }
    }
}

/// Processes of the daemon that decode.
fn decoders(daemon: u32) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let status = fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if command.ends_with(b"files\0decode\0") && status.contains(&format!("PPid:\t{daemon}\n")) {
            found.push(pid);
        }
    }
    found
}

/// Waits for one that has confined itself.
async fn confined(daemon: u32) -> PathBuf {
    eventually("a decoder to be confined", || async {
        let decoder = decoders(daemon).into_iter().next()?;
        let place = PathBuf::from(format!("/proc/{decoder}"));
        let status = fs::read_to_string(place.join("status")).ok()?;
        status.contains("Seccomp:\t2\n").then_some(place)
    })
    .await
}

/// Takes long enough to be caught at it.
fn large() -> Vec<u8> {
    png(RgbImage::from_fn(5000, 5000, |x, y| {
        Rgb([(x % 251) as u8, (y % 241) as u8, (x * y % 239) as u8])
    }))
}

#[tokio::test]
async fn a_decoder_is_confined_and_its_end_is_that_of_its_job_alone() {
    let house = House::on_sqlite(1, &[]).await;
    let daemon = house.instances[0].pid();
    let upload = house.file("name=large.png", large()).await;
    let path = format!("/files/{}/renditions/4096x4096.webp", upload.text("id"));
    let asked = house.get(&path);
    let watched = async {
        let place = confined(daemon).await;
        let status = fs::read_to_string(place.join("status")).unwrap();
        assert!(status.contains("NoNewPrivs:\t1\n"), "{status}");
        assert_eq!(fs::read(place.join("environ")).unwrap(), b"");
        let limits = fs::read_to_string(place.join("limits")).unwrap();
        let bounded = |name: &str| {
            let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
            !line.contains("unlimited")
        };
        for name in [
            "Max cpu time",
            "Max address space",
            "Max file size",
            "Max core file size",
        ] {
            assert!(bounded(name), "{name}: {limits}");
        }
        let pid = place
            .file_name()
            .unwrap()
            .to_string_lossy()
            .parse()
            .unwrap();
        process::signal(pid, "KILL");
    };
    let (answer, ()) = tokio::join!(asked, watched);
    assert_eq!(answer.short(), (422, "rendition_failed"), "{answer:?}");
    assert_eq!(answer.body["errors"][0]["code"], "crashed");
    let info = made(&house, &format!("/files/{}/info", upload.text("id"))).await;
    assert_eq!(info.body["width"], 5000, "{info:?}");
    assert_eq!(house.instances[0].get("/ready").await.status(), 200);
    assert!(decoders(daemon).is_empty());
}

#[tokio::test]
async fn a_decoder_that_hangs_is_killed_when_its_time_is_over() {
    let house = House::on_sqlite(1, &[("DOTMAC_FILES_DECODE_CPU_TIME", "3s")]).await;
    let daemon = house.instances[0].pid();
    let upload = house.file("name=large.png", large()).await;
    let path = format!("/files/{}/renditions/4096x4096.png", upload.text("id"));
    let asked = house.get(&path);
    let stopped = async {
        let place = confined(daemon).await;
        let pid = place
            .file_name()
            .unwrap()
            .to_string_lossy()
            .parse()
            .unwrap();
        process::signal(pid, "STOP");
    };
    let (answer, ()) = tokio::join!(asked, stopped);
    assert_eq!(answer.short(), (503, "rendition_pending"), "{answer:?}");
    assert_eq!(answer.header("retry-after"), "1");
    let (status, code, fault) = fault(&house, &path).await;
    assert_eq!(
        (status, &*code, &*fault),
        (422, "rendition_failed", "time_limit")
    );
    assert!(decoders(daemon).is_empty());
}
