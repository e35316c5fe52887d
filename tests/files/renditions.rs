//! Images in other sizes, texts of PDF and what files say of themselves: made by confined processes, kept, collected, made anew.

use std::{fs, io::Cursor, path::PathBuf};

use dotmac_testkit::{eventually, process};
use image::{DynamicImage, ImageEncoder as _, Rgb, RgbImage, RgbaImage, codecs::jpeg::JpegEncoder};
use reqwest::Method;
use serde_json::json;

use crate::house::{Answer, House};

/// Left half red, right half blue, in EXIF turned to the right, and taken in a place.
fn photo(width: u32, height: u32) -> Vec<u8> {
    let image = RgbImage::from_fn(width, height, |x, _| match x < width / 2 {
        true => Rgb([255, 0, 0]),
        false => Rgb([0, 0, 255]),
    });
    let exif = b"II*\0\x08\0\0\0\x02\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\x0e\x01\x02\0\x0a\0\0\0\x26\0\0\0\0\0\0\0secret-pl\0";
    let mut bytes = Vec::new();
    let mut encoder = JpegEncoder::new_with_quality(&mut bytes, 90);
    encoder.set_exif_metadata(exif.to_vec()).unwrap();
    encoder
        .write_image(&image, width, height, image::ExtendedColorType::Rgb8)
        .unwrap();
    bytes
}

pub(crate) fn png(image: impl Into<DynamicImage>) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image
        .into()
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    bytes.into_inner()
}

/// A PDF with a page for each text.
fn pdf(texts: &[&str]) -> Vec<u8> {
    let mut objects = vec![
        "<< /Type /Catalog /Pages 2 0 R >>".to_owned(),
        String::new(),
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>".to_owned(),
        "<< /Title (Annual report) /Author (Ann) /Producer (a test) /CreationDate (D:20260102030405Z) >>".to_owned(),
    ];
    let mut kids = Vec::new();
    for text in texts {
        let content = format!("BT /F1 12 Tf 72 700 Td ({text}) Tj ET");
        objects.push(format!(
            "<< /Length {} >>\nstream\n{content}\nendstream",
            content.len()
        ));
        let content = objects.len();
        objects.push(format!(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {content} 0 R \
             /Resources << /Font << /F1 3 0 R >> >> >>"
        ));
        kids.push(format!("{} 0 R", objects.len()));
    }
    objects[1] = format!(
        "<< /Type /Pages /Count {} /Kids [{}] >>",
        kids.len(),
        kids.join(" ")
    );
    written(&objects.iter().map(|it| it.as_bytes()).collect::<Vec<_>>())
}

/// A PDF of these objects; the first is the catalogue, the fourth what it says of itself.
fn written(objects: &[&[u8]]) -> Vec<u8> {
    let mut bytes = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n".to_vec();
    let mut places = Vec::new();
    for (number, object) in objects.iter().enumerate() {
        places.push(bytes.len());
        bytes.extend(format!("{} 0 obj\n", number + 1).into_bytes());
        bytes.extend_from_slice(object);
        bytes.extend(b"\nendobj\n");
    }
    let xref = bytes.len();
    bytes.extend(format!("xref\n0 {}\n0000000000 65535 f \n", objects.len() + 1).into_bytes());
    for place in places {
        bytes.extend(format!("{place:010} 00000 n \n").into_bytes());
    }
    let trailer = format!(
        "trailer\n<< /Size {} /Root 1 0 R /Info 4 0 R >>\nstartxref\n{xref}\n%%EOF\n",
        objects.len() + 1
    );
    bytes.extend(trailer.into_bytes());
    bytes
}

fn zeros(size: usize) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(&vec![b' '; size]).unwrap();
    encoder.finish().unwrap()
}

async fn rendition(house: &House, id: &str, name: &str) -> Answer {
    house.get(&format!("/files/{id}/renditions/{name}")).await
}

/// Asks until it is made, as a client would.
async fn made(house: &House, path: &str) -> Answer {
    eventually(&format!("{path} to be made"), || async {
        let answer = house.get(path).await;
        (answer.status != 503).then_some(answer)
    })
    .await
}

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

fn decoded(bytes: &[u8]) -> RgbImage {
    image::load_from_memory(bytes).unwrap().into_rgb8()
}

#[tokio::test]
async fn an_image_is_made_smaller_turned_and_stripped_and_kept() {
    House::on_every(&[], async |house| {
        let photo = photo(800, 400);
        let upload = house.file("name=photo.jpg", photo).await;
        let id = upload.text("id");
        for (name, media_type) in [
            ("100x100.jpg", "image/jpeg"),
            ("100x100.png", "image/png"),
            ("100x100.webp", "image/webp"),
        ] {
            let path = format!("/files/{id}/renditions/{name}");
            let answer = made(&house, &path).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            assert_eq!(answer.header("content-type"), media_type);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
            let shown = answer.header("content-disposition");
            assert!(
                shown.starts_with("inline") && shown.contains(&format!("photo-{name}")),
                "{shown}"
            );
            let image = decoded(&answer.bytes);
            assert_eq!(image.dimensions(), (50, 100), "{name}");
            let (above, below) = (image.get_pixel(25, 10).0, image.get_pixel(25, 90).0);
            assert!(above[0] > 200 && below[2] > 200, "{above:?} {below:?}");
            let has = |mark: &[u8]| answer.bytes.windows(mark.len()).any(|it| it == mark);
            assert!(!has(b"secret") && !has(b"Exif") && !has(b"EXIF"), "{name}");

            let tag = answer.header("etag").to_owned();
            let request = |method| house.request(0, method, &path);
            let known = house
                .send(request(Method::GET).header("if-none-match", &tag))
                .await;
            assert_eq!(known.status, 304);
            let part = house
                .send(request(Method::GET).header("range", "bytes=0-3"))
                .await;
            assert_eq!((part.status, &*part.bytes), (206, &answer.bytes[..4]));
            let head = house.send(request(Method::HEAD)).await;
            let size = head.header("content-length").parse::<usize>();
            assert_eq!((head.status, size), (200, Ok(answer.bytes.len())));
        }
        // As large as it is, and no larger.
        let whole = made(&house, &format!("/files/{id}/renditions/4096x4096.png")).await;
        assert_eq!(decoded(&whole.bytes).dimensions(), (400, 800));

        // A copy has the same bytes, so nothing is made anew.
        let copy = house.post(&format!("/files/{id}/copy"), json!({})).await;
        let of_copy = rendition(&house, copy.text("id"), "100x100.webp").await;
        assert_eq!(of_copy.status, 200);
        let series = "dotmac_files_decodes_total{outcome=\"ok\"}";
        assert_eq!(house.instances[0].metric(series).await, Some(4.0));
        house.assert_clean(5).await;
        // The quota is for what was uploaded.
        assert_eq!(house.usage().await.2, 2);
    })
    .await;
}

#[tokio::test]
async fn a_pdf_has_a_text_and_says_what_it_is() {
    House::on_every(&[], async |house| {
        let bytes = pdf(&["Hello from page one", "Second page"]);
        let upload = house.file("name=report.pdf", bytes).await;
        let id = upload.text("id");
        let text = made(&house, &format!("/files/{id}/text")).await;
        assert_eq!(text.header("content-type"), "text/plain; charset=utf-8");
        let shown = String::from_utf8(text.bytes.clone()).unwrap();
        assert_eq!(shown, "Hello from page one\u{c}Second page\u{c}");
        let info = made(&house, &format!("/files/{id}/info")).await;
        assert_eq!(info.status, 200, "{info:?}");
        for (field, value) in [
            ("kind", json!("pdf")),
            ("pages", json!(2)),
            ("pdf_version", json!("1.7")),
            ("title", json!("Annual report")),
            ("author", json!("Ann")),
            ("producer", json!("a test")),
            ("created", json!("D:20260102030405Z")),
            ("width", json!(null)),
        ] {
            assert_eq!(info.body[field], value, "{field}");
        }
        let image = rendition(&house, id, "10x10.png").await;
        assert_eq!(image.short(), (422, "type_not_supported"), "{image:?}");

        let photo = house.file("name=photo.jpg", photo(80, 40)).await;
        let info = made(&house, &format!("/files/{}/info", photo.text("id"))).await;
        let size = (
            &info.body["width"],
            &info.body["height"],
            &info.body["orientation"],
        );
        assert_eq!(size, (&json!(40), &json!(80), &json!(6)));
        let text = house
            .get(&format!("/files/{}/text", photo.text("id")))
            .await;
        assert_eq!(text.short(), (422, "type_not_supported"));
    })
    .await;
}

#[tokio::test]
async fn names_limits_and_tenants_are_kept() {
    House::on_every(&[("DOTMAC_FILES_MAX_RENDITIONS", "2")], async |house| {
        let upload = house.file("name=a.png", png(RgbImage::new(20, 10))).await;
        let id = upload.text("id");
        for name in [
            "0x1.png",
            "1x5000.png",
            "10x10.gif",
            "10x10",
            "x.png",
            "01x1.png",
        ] {
            let refused = rendition(&house, id, name).await;
            assert_eq!(
                (refused.short(), refused.field()),
                ((422, "validation"), "rendition"),
                "{name}"
            );
        }
        for name in ["1x1.png", "2x2.png"] {
            let path = format!("/files/{id}/renditions/{name}");
            assert_eq!(made(&house, &path).await.status, 200);
        }
        let refused = rendition(&house, id, "3x3.png").await;
        assert_eq!(refused.short(), (422, "too_many_renditions"), "{refused:?}");
        // What a file says of itself is none of them.
        assert_eq!(made(&house, &format!("/files/{id}/info")).await.status, 200);
        let token = house.other_tenant().await;
        let path = format!("/files/{id}/renditions/1x1.png");
        let other = house.request(0, Method::GET, &path).bearer_auth(token);
        let other = Answer::of(other.send().await.unwrap()).await;
        assert_eq!(other.short(), (404, "file_not_found"));
        let nobody = Answer::of(house.request(0, Method::GET, &path).send().await.unwrap()).await;
        assert_eq!(nobody.status, 401);
    })
    .await;
}

#[tokio::test]
async fn what_was_made_goes_with_its_file_and_comes_back_when_it_is_lost() {
    let settings = [
        ("DOTMAC_FILES_SWEEP_INTERVAL", "200ms"),
        ("DOTMAC_FILES_TRASH_RETENTION", "1s"),
    ];
    House::on_every(&settings, async |house| {
        let upload = house.file("name=a.png", png(RgbImage::new(200, 100))).await;
        let id = upload.text("id");
        let path = format!("/files/{id}/renditions/10x10.png");
        let first = made(&house, &path).await;
        assert_eq!(house.stored().len(), 2);
        // Its bytes are gone: it is made anew.
        house.lose_smallest();
        let again = made(&house, &path).await;
        assert_eq!((again.status, &again.bytes), (200, &first.bytes));
        eventually("the row of what was lost to go", || async {
            let (code, output) = house.run(&["files", "check"]).await;
            (code == 0 && output.starts_with("2 blobs")).then_some(())
        })
        .await;
        // It is old: it goes, and is made anew when it is asked for.
        house
            .sql("UPDATE file_rendition SET created_at = '2026-01-01 00:00:00.000000'")
            .await;
        eventually("what is old to go", || async {
            (house.stored().len() == 1).then_some(())
        })
        .await;
        assert_eq!(made(&house, &path).await.bytes, first.bytes);
        let deleted = house.delete(&format!("/files/{id}"), "\"1\"").await;
        assert_eq!(deleted.status, 204, "{deleted:?}");
        eventually("file and rendition to go", || async {
            house.stored().is_empty().then_some(())
        })
        .await;
        house.assert_clean(0).await;
    })
    .await;
}

/// The head of a PNG of that size, with colour and sixteen bits, and an honest checksum.
fn png_head(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    let mut head = b"IHDR".to_vec();
    head.extend(width.to_be_bytes());
    head.extend(height.to_be_bytes());
    head.extend([16, 6, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&head);
    bytes.extend(&head);
    bytes.extend(crc.sum().to_be_bytes());
    let data = zeros(100_000);
    let mut part = b"IDAT".to_vec();
    part.extend(&data);
    let mut crc = flate2::Crc::new();
    crc.update(&part);
    bytes.extend(u32::try_from(data.len()).unwrap().to_be_bytes());
    bytes.extend(&part);
    bytes.extend(crc.sum().to_be_bytes());
    bytes.extend(b"\0\0\0\0IEND\xaeB`\x82");
    bytes
}

#[tokio::test]
async fn bombs_are_refused_and_harm_nothing_else() {
    let settings = [("DOTMAC_FILES_DECODE_MEMORY", "32MiB")];
    House::on_every(&settings, async |house| {
        let gif = b"GIF89a\xff\xff\xff\xff\x80\0\0\0\0\0\xff\xff\xff,\0\0\0\0\xff\xff\xff\xff\0\x02\x02D\x01\0;";
        let content = zeros(64 << 20);
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
        let zip = [b"PK\x03\x04\x14\0\0\0\x08\0".as_slice(), &zeros(1 << 20)].concat();
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

#[tokio::test]
async fn what_one_instance_makes_another_reads() {
    for house in [
        House::on_sqlite(2, &[]).await,
        House::on_postgres(2, &[]).await,
    ] {
        let upload = house.file("name=a.png", png(RgbImage::new(200, 100))).await;
        let path = format!("/files/{}/renditions/10x10.png", upload.text("id"));
        let first = made(&house, &path).await;
        let request = house.request(1, Method::GET, &path);
        let second = house.send(request).await;
        assert_eq!((second.status, &second.bytes), (200, &first.bytes));
    }
}
